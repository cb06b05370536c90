"""One delivery pass: lease, send, settle, split. No thread in it.

A pass takes what waits when it begins: identities first, in order, then events in full
batches. It ends when all of that is settled, or at the first answer after which the rest
had better wait; what it still holds then goes back to the front of the queue.

Runs in one thread at a time (the sender thread sees to that).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Sequence

from whisperr._delivery.answers import (
    Explanation,
    explain_answer,
    explain_no_answer,
    named_field,
    rejection,
)
from whisperr._delivery.outcome import Outcome, Reply
from whisperr._delivery.queue import RecordQueue
from whisperr._delivery.splitting import SETTLING, sent_in_parts
from whisperr._encoding.bodies import EVENTS_PATH, IDENTIFY_PATH, batch
from whisperr._encoding.records import Identity, Record, generated_id, types_of
from whisperr._errors import AUTH, RETRY_EXHAUSTED, WhisperrError
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import Reporter, dropped, listed, says_all
from whisperr._settings import Settings

if TYPE_CHECKING:  # what they bring an import of whisperr does not pay for
    from whisperr._delivery.transport import Transport
    from whisperr._journal.journal import Journal

MAX_EXTRA_REQUESTS = 64  # a lease may cost by splitting


class DeliveryPass:
    """Moves records from the queue to the destination."""

    def __init__(
        self,
        settings: Settings,
        environment: bytes,
        queue: RecordQueue,
        transport: Transport,
        ledger: Ledger,
        reporter: Reporter,
        id_prefix: bytes,
        journal: Journal | None,
    ) -> None:
        self._journal = journal
        self._max_waiting = settings.max_queue_size
        self._max_count = settings.max_batch_size
        self._max_bytes = settings.max_batch_bytes
        self._settings = settings
        self._environment = environment  # of the events' contexts
        self._queue = queue
        self._transport = transport
        self._ledger = ledger
        self._reporter = reporter
        self._id_prefix = id_prefix
        #: After a pass that did not give up: everything that was there at its begin is settled.
        #: Else some of it was read from the disk, and spilled again for what came meanwhile.
        self.complete = True
        #: Why the latest request was not the end of it; None after one that was.
        self.trouble: Explanation | None = None
        self._is_waited_for = False

    def run(self, is_waited_for: bool) -> bool:
        """One pass. True unless it gave up; see also ``complete``.

        ``is_waited_for``: somebody asked, and waits for all that dead processes left.
        """
        self._is_waited_for = is_waited_for
        if self._journal is not None:
            self._journal.maintain()
        try:
            self.report_news()
            # What waits now may be spilled meanwhile, and what comes meanwhile, too, for ever: a
            # pass reads so many records from the disk, the oldest first, and ends.
            left = self._queue.waiting() + self._backlog() - self._ledger.adopted.read()
            newest = self._newest()
            short_of = min(self._max_count, self._max_waiting) - self._queue.waiting()
            refilled = self._refill() if short_of > 0 else 0  # so that the first batch is full
            left -= refilled or 0
            settled = self._send_waiting() and refilled is not None
            while settled and (left + self._ledger.adopted.read() > 0 or self._more_dead()):
                refilled = self._refill()
                if not refilled:
                    settled = refilled is not None
                    break
                left -= refilled
                settled = self._send_waiting()
            self.complete = self._journal is None or not self._journal.has_older(newest + 1)
            return settled
        finally:
            self._queue.restore()
            self.report_news()

    def report_news(self) -> None:
        """What happened to records outside of a pass."""
        count = self._queue.newly_evicted()
        if count:
            message = f"queue full: dropped {_records(count)}, the oldest"
            types = [name for name, _ in Counter(self._queue.newly_evicted_types()).most_common()]
            self._lost(dropped(count, message, types=types, cause=self._cause()))
        for lost, message, detail in self._journal.notices() if self._journal is not None else ():
            if lost:
                self._lost(dropped(lost, message))
            else:
                self._ledger.last_error = message
                self._reporter.troubled(message, detail)

    def _newest(self) -> int:
        """The highest number of what waits or was spilled; -1 if there is none."""
        spilled = -1 if self._journal is None else self._journal.newest_spilled()
        return max(self._queue.newest(), spilled)

    def _backlog(self) -> int:
        return 0 if self._journal is None else self._journal.backlog()

    def _more_dead(self) -> bool:
        return self._journal is not None and self._journal.more_dead

    def _refill(self) -> int | None:
        """Put some of the journal's backlog into the queue; how many records. None: not now."""
        if self._journal is None:
            return 0
        room = self._max_waiting - self._queue.waiting()
        records = self._journal.refill(room, self._is_waited_for)
        if records is None:
            return None
        for record in records:
            self._queue.put(record)
        return len(records)

    def _send_waiting(self) -> bool:
        return self._send_identities() and self._send_events()

    def _send_identities(self) -> bool:
        for _ in range(len(self._queue.identities)):
            identity = self._queue.lease_identity()
            if identity is not None and not self._deliver([identity]):
                return False
        return True

    def _send_events(self) -> bool:
        left = len(self._queue.events)
        while left > 0:
            # A full batch, of what came meanwhile too: the last request of a pass need not be small.
            events = self._queue.lease_events(self._max_count, self._max_bytes)
            if not events:  # the queue overflowed meanwhile, or was abandoned
                break
            left -= len(events)
            if not self._deliver(events):
                return False
        return True

    def _deliver(self, lease: Sequence[Record]) -> bool:
        """Send one lease, in halves where it is refused. False: stop the pass, restore the rest."""
        rejected = 0
        types: list[str] = []
        reasons: list[Reply] = []
        reply = None
        for part, reply in sent_in_parts(lease, self._post, MAX_EXTRA_REQUESTS, self._split):
            if reply.outcome is Outcome.OK:
                self._delivered(part)
            elif reply.outcome in (Outcome.REFUSE, Outcome.DROP):
                types += types_of(part)
                rejected += self._settle(part)
                reasons.append(reply)
        stopped = reply is not None and reply.outcome not in SETTLING
        if stopped:
            self._queue.restore()  # before any report: a callback may do anything
        if reasons:
            self._rejected(rejected, reasons[-1], types)
        if stopped and reply is not None:
            self._stopped(reply, types_of(lease))
        return not stopped

    def _split(self) -> None:
        self._ledger.splits += 1

    def _post(self, part: Sequence[Record]) -> Reply:
        reply = self._send(part)
        self.trouble = self._explain(reply)
        return reply

    def _send(self, part: Sequence[Record]) -> Reply:
        what = _counted(part) if says_all() else ""
        if isinstance(part[0], Identity):
            identity = part[0]
            key = identity.id or generated_id(self._id_prefix, identity.number)
            headers = {"Idempotency-Key": key.decode()}
            return self._transport.send(IDENTIFY_PATH, identity.body, headers, what)
        events = [record for record in part if not isinstance(record, Identity)]
        body = batch(events, self._id_prefix, self._environment)
        return self._transport.send(EVENTS_PATH, body, None, what, len(events))

    def _explain(self, reply: Reply) -> Explanation | None:
        """None: it says nothing, or that all is well."""
        url = self._settings.place
        if reply.outcome is Outcome.OK:
            return None
        if reply.status is not None:
            return explain_answer(reply.status, reply.detail, url)
        if reply.error is not None:
            timeout = self._settings.request_timeout
            return explain_no_answer(reply.error, reply.detail, url, timeout)
        return self.trouble  # an exit has come before it was tried

    def _cause(self) -> str | None:
        return self.trouble and self.trouble.what

    def _delivered(self, part: Sequence[Record]) -> None:
        self._ledger.delivered.add(self._settle(part))
        self._reporter.delivered()

    def _settle(self, part: Sequence[Record]) -> int:
        """How many of them had not been given up before."""
        count = self._queue.settle(len(part))
        if self._journal is not None:
            if count < len(part):
                count += self._journal.arrived_after_all(part)
            self._journal.settle(part)
        return count

    # --- reports, each after the records are where they belong

    def _rejected(self, count: int, reply: Reply, types: Sequence[str]) -> None:
        self._ledger.dropped[Reason.REJECTED].add(count)
        cause = change = None
        if reply.status is None:  # a broker's
            message = f"{_records(count)} can't be published: too large for one message"
        else:
            message = f"the server refused {_records(count)} with status {reply.status}"
            field = named_field(reply.detail)
            cause = f"Its answer names {field}." if field else None
            change = explain_answer(reply.status, reply.detail, self._settings.base_url).change
        kinds = tuple(dict.fromkeys(types))
        self._lost(dropped(count, message, reply.status, reply.detail, kinds, cause), change or "")

    def _lost(self, error: WhisperrError, change: str = "") -> None:
        self._ledger.last_error = error.message
        self._reporter.lost(error, change)

    def _stopped(self, reply: Reply, types: tuple[str, ...]) -> None:
        if reply.interrupted:  # a shutdown: its own pass follows, or its own report
            return
        kept = self._queue.pending()
        if reply.outcome is Outcome.AUTH:
            kind, why = AUTH, rejection(reply.status, reply.detail)
        elif reply.outcome is Outcome.REDIRECT:
            kind, why = RETRY_EXHAUSTED, f"status {reply.status} is not followed"
        elif reply.outcome is Outcome.ELSEWHERE:
            kind, why = RETRY_EXHAUSTED, f"status {reply.status} is not the service's own answer"
        else:
            kind = RETRY_EXHAUSTED
            why = f"delivery failed after retries ({_cause(reply)})"
        message = f"{why}; {_records(kept)} kept for the next pass"
        self._ledger.last_error = message
        trouble = self.trouble
        says_more = trouble is not None and reply.outcome is Outcome.RETRY
        cause = trouble.what if trouble is not None and says_more else None
        error = WhisperrError(kind, message, reply.status, kept, reply.detail, types, cause)
        self._reporter.kept(error, trouble.change if trouble is not None else "")


def _cause(reply: Reply) -> str:
    return reply.error or f"status {reply.status}"


def _counted(part: Sequence[Record]) -> str:
    if isinstance(part[0], Identity):
        return "1 identity"
    return f"{len(part)} event{'' if len(part) == 1 else 's'}{listed(types_of(part))}"


def _records(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"
