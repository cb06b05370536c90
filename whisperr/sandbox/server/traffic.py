"""What came in each of the last seconds, and in batches of which size: for the plots of the page."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

SECONDS = 120  # that are remembered
STATES = 6  # columns: one for each state of a row, the first is unused
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # events; upper ends of the bars


class Traffic:
    """Rows by second and state, requests by number of events."""

    def __init__(self) -> None:
        self._seconds: dict[int, list[int]] = {}
        self._sizes: Counter[int] = Counter()

    def batch(self, size: int) -> None:
        """A request was read that held so many events."""
        self._sizes[next((end for end in SIZES if size <= end), SIZES[-1])] += 1

    def rows(self, state: int, count: int) -> None:
        """So many rows of one state were stored just now."""
        second = int(time.time())
        columns = self._seconds.get(second)
        if columns is None:
            columns = self._seconds[second] = [0] * STATES
            for old in [at for at in self._seconds if at <= second - SECONDS]:
                del self._seconds[old]
        columns[state] += count

    def shown(self) -> dict[str, Any]:
        now = int(time.time())
        return {
            "now": now,
            "seconds": [
                [at, *columns[1:]] for at, columns in self._seconds.items() if at > now - SECONDS
            ],
            "sizes": [[end, self._sizes[end]] for end in SIZES],
        }
