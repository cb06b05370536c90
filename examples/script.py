"""A plain script: it tracks, and ends."""

from __future__ import annotations

import sys
from functools import partial

from accounts import Accounts

from whisperr import Whisperr

client = Whisperr()
accounts = Accounts("script")
for _ in range(int(sys.argv[1])):
    accounts.track(partial(client.track, "user_42"), "usage_dropped")
