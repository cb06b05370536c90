"""A multiprocessing pool that tracks in its children and never flushes anything."""

from __future__ import annotations

import multiprocessing
import sys

from accounts import Accounts, client_from_environment

accounts = Accounts(client_from_environment(), "pool")


def work(_: int) -> None:
    accounts.track("report_built")


if __name__ == "__main__":
    accounts.track("reports_started")
    pool = multiprocessing.get_context("fork").Pool(4)
    pool.map(work, range(int(sys.argv[1])), chunksize=5)
    pool.close()
    pool.join()
