"""The closed ledger of one process: accepted + adopted = delivered + dropped + pending + spilled.

Guarded by nothing: each figure is a Counter or belongs to the sender alone. A reader in the
middle of things may see a record that is just moving from one figure to the next.
"""

from __future__ import annotations

import enum

from whisperr._atomic import Counter, Sequence


class Reason(enum.Enum):
    """Why a record was dropped."""

    REFUSED = "refused"  # the call could not be encoded
    CLOSED = "closed"  # the client was shut down before
    OVERFLOW = "overflow"  # the queue was full, and this was the oldest
    REJECTED = "rejected"  # the server would not have it
    UNDELIVERED = "undelivered"  # still there at the deadline of an exit or a shutdown
    JOURNAL = "journal"  # on disk alone, and there deleted: too large, or damaged


class Ledger:
    """What became of everything that this process handed to one client."""

    def __init__(self) -> None:
        self.numbers = Sequence()  # one for each accepted call
        self.adopted = Counter()  # taken over from another process
        self.delivered = Counter()
        self.spilled = Counter()  # on disk, and not in memory
        self.dropped: dict[Reason, Counter] = {
            reason: Counter() for reason in Reason if reason is not Reason.OVERFLOW
        }
        self.splits = 0
        self.last_error: str | None = None

    def drops(self, overflowed: int) -> dict[str, int]:
        """Drops by reason, without the reasons that never occurred."""
        counts = {reason.value: total.read() for reason, total in self.dropped.items()}
        counts[Reason.OVERFLOW.value] = overflowed
        return {reason: count for reason, count in counts.items() if count}
