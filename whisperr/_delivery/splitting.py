"""A lease that may be refused, in parts: what is refused is split until the bad record is alone.

No I/O of its own: the client's pass and the relay each say how a part is sent.
"""

from __future__ import annotations

from typing import Callable, Iterator, Sequence, TypeVar

from whisperr._delivery.outcome import Outcome, Reply

#: After these a record is done with; after any other the rest had better wait.
SETTLING = frozenset({Outcome.OK, Outcome.REFUSE, Outcome.DROP})

T = TypeVar("T")


def sent_in_parts(
    lease: Sequence[T],
    send: Callable[[Sequence[T]], Reply],
    max_extra_requests: int,
    on_split: Callable[[], object],
) -> Iterator[tuple[Sequence[T], Reply]]:
    """Each part that is done with, and the answer to it; at last the first that had better wait.

    The parts are sent in order, so that what is settled is always the oldest in flight.
    """
    parts = [lease]
    budget = max_extra_requests
    while parts:
        part = parts.pop()
        reply = send(part)
        if reply.outcome is Outcome.REFUSE and len(part) > 1 and budget >= 2:
            budget -= 2
            on_split()
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
            continue
        yield part, reply
        if reply.outcome not in SETTLING:
            return
