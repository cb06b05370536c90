"""A multiprocessing pool that tracks in its children and never flushes anything."""

from __future__ import annotations

import multiprocessing
import sys
from functools import partial

from accounts import Accounts

from whisperr import Whisperr

client = Whisperr()
accounts = Accounts("pool")


def work(_: int) -> None:
    accounts.track(partial(client.track, "user_42"), "report_built")


if __name__ == "__main__":
    accounts.track(partial(client.track, "user_42"), "reports_started")
    pool = multiprocessing.get_context("fork").Pool(4)
    pool.map(work, range(int(sys.argv[1])), chunksize=5)
    pool.close()
    pool.join()
