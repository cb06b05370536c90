"""The closed ledger of one process: accepted + adopted = delivered + dropped + pending + spilled.

Lock-free: each figure is a Counter or a Tally, or belongs to the sender alone. A reader in the
middle of things may see a record that is just moving from one figure to the next.
"""

from __future__ import annotations

import enum

from whisperr._atomic import Counter, Tally


class Reason(enum.Enum):
    """Why a record was dropped."""

    REFUSED = "refused"  # the call could not be encoded
    CLOSED = "closed"  # the client was shut down before
    LEFT_OUT = "before_send"  # the application's hook said so
    OVERFLOW = "overflow"  # the queue was full, and this was the oldest
    REJECTED = "rejected"  # the server would not have it
    UNDELIVERED = "undelivered"  # still there at the deadline of an exit or a shutdown
    JOURNAL = "journal"  # on disk alone, and there deleted: too large, or damaged


_AT_ONCE = (Reason.REFUSED, Reason.CLOSED, Reason.LEFT_OUT)


class Ledger:
    """What became of everything that this process handed to one client."""

    def __init__(self) -> None:
        self.numbers = Tally()  # one for each record queued here
        self.renumbered = Counter()  # of them, records that another process had accepted
        self.handed_over = Counter()  # likewise, to another process, which has adopted them
        self.adopted = Counter()  # taken over from another process
        self.delivered = Counter()
        self.spilled = Counter()  # on disk, and not in memory
        self.dropped: dict[Reason, Counter] = {
            reason: Counter() for reason in Reason if reason is not Reason.OVERFLOW
        }
        self.ignored = Counter()  # calls without a user or an event type: not even accepted
        self.splits = 0
        self.last_error: str | None = None

    def accepted(self) -> int:
        """Calls that were made here: queued, or turned away at once."""
        queued = self.numbers.read() - self.renumbered.read() - self.handed_over.read()
        return queued + sum(self.dropped[reason].read() for reason in _AT_ONCE)

    def drops(self, overflowed: int) -> dict[str, int]:
        """Drops by reason, without the reasons that never occurred."""
        counts = {reason.value: total.read() for reason, total in self.dropped.items()}
        counts[Reason.OVERFLOW.value] = overflowed
        return {reason: count for reason, count in counts.items() if count}
