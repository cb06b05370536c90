"""A plain script: it tracks, and ends."""

from __future__ import annotations

import sys

from accounts import Accounts, client_from_environment

accounts = Accounts(client_from_environment(), "script")
for _ in range(int(sys.argv[1])):
    accounts.track("usage_dropped")
