"""This process's half of a client: everything that must not cross a fork.

It is made at the first call in its process, out of an Unmade or of the engine of an ancestor,
so that clients which nobody uses here cost neither memory nor a fork anything. What delivers
(locks, session, thread) is a Worker, made at the first record, so after gevent has patched.

Guarantees:
    track() and identify() never wait, from any thread, a signal handler or ``__del__``; once the
    exit of the process has begun, they deliver at once instead, since nobody will later.
Published by one atomic step: an engine and its worker, each by ``dict.setdefault``, as two
    threads may make the first call or the first record at once.
Fork: never repaired. The child's first call finds that the engine is not of its process
    (``here``) and gets a new one; the old one stays in _started, referenced for as long as the
    child lives, because dropping an inherited session could hang.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from whisperr._delivery.queue import RecordQueue
from whisperr._delivery.sender_thread import SenderThread
from whisperr._encoding.records import Encoder, Event, Ignored, Record, Refused, renumbered
from whisperr._encoding.values import Unencodable
from whisperr._process import exits
from whisperr._process.fork_token import token_of_this_process
from whisperr._process.handover import Handover, can_send
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import Reporter, Superseded
from whisperr._settings import Settings

if TYPE_CHECKING:
    from whisperr._journal.journal import Journal

_PREFIX_BYTES = 10  # random, in front of six bytes of number: an id of 32 hex digits

_held: dict[int, Engine] = {}  # by id; those that hold what they can't send
_started: dict[int, Engine] = {}  # by id; of this process, and the graveyard of its ancestors'


class Engine:
    """Accepts calls, has them delivered, keeps the ledger."""

    def __init__(self, settings: Settings, encoder: Encoder, closed: bool = False) -> None:
        self.token = token_of_this_process()  # item 0: this is still the process that made it
        self.closed = closed
        self.shutdown_timeout = settings.shutdown_timeout
        self._settings = settings
        self._encoder = encoder
        self._ending = closed  # closed, or the exit of the process has begun
        self._told_closed = False
        self._ledger = Ledger()
        self._take_number = self._ledger.numbers.take
        self._buffer = RecordQueue(
            encoder, settings.max_queue_size, settings.max_queue_bytes, self._spill
        )
        # The journal's own method, once there is one: this is in every track().
        self._keep = None if settings.journal_dir is None else self._keep_first
        self._reporter = Reporter(settings.on_error, self.token)
        self._parts: dict[str, SenderThread] = {}  # the worker, once there is one
        self._handover: dict[str, Handover] = {}  # of what was queued where nothing can be sent
        self._successors: dict[
            int, Engine
        ] = {}  # by id of ``here``: who follows this one in a child

    def for_this_process(self) -> Engine:
        """The empty engine of the process that is asking. That of a closed one is closed."""
        if self.token[0]:
            return self
        worker = self._parts.get("worker")
        if worker is not None:
            worker.disown()
        for_this_process = type(self)(self._settings, self._encoder, self.closed)
        for_this_process._handover = dict(self._handover)
        return self._successors.setdefault(id(for_this_process.token), for_this_process)

    # --- accepting: any thread, a signal handler, __del__

    def track(
        self,
        user_id: Any,
        event_type: Any,
        properties: Any,
        context: Any,
        occurred_at: Any,
        message_id: Any,
    ) -> None:
        number = self._take_number()
        if self.closed:
            self._refuse_closed()
            return
        try:
            event = self._encoder.event(
                number, user_id, event_type, properties, context, occurred_at, message_id
            )
        except Exception as error:
            self.refuse(error)
            return
        buffer = self._buffer
        if self._keep is not None:
            try:
                event = self._keep(event)
            except Exception as error:
                self._not_kept(error)
        if buffer.put_event(event) >= buffer.wake_at:
            self._wake()
        if self._ending:
            self._deliver_late()

    def identify(self, fields: dict[str, Any]) -> None:
        number = self._take_number()
        if self.closed:
            self._refuse_closed()
            return
        try:
            identity = self._encoder.identity(number, fields)
        except Exception as error:
            self.refuse(error)
            return
        try:
            journal = self._journal()
            if journal is not None:
                identity = journal.keep_identity(identity)
        except Exception as error:
            self._not_kept(error)
        if self._buffer.put_identity(identity) >= self._buffer.wake_at:
            self._wake()
        if self._ending:
            self._deliver_late()

    def _wake(self) -> None:
        worker = self._worker()
        if worker is not None and worker.start():
            worker.wake()

    def _deliver_late(self) -> None:
        """The exit has begun, or a shutdown overtook this call: nobody else will see to it."""
        worker = self._worker()
        if worker is None:
            return
        with suppress(Superseded):
            if self.closed:
                worker.take_late(time.monotonic() + self.shutdown_timeout)
            else:
                worker.finish_exit()

    def reject(self, error: Exception) -> None:
        """A call that failed before it had a number: it counts as accepted and dropped, too."""
        self._take_number()
        self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Report a call that can't be queued, and count it."""
        kind = type(error)  # what the caller's objects raise is not even asked for its class
        if kind is Ignored:
            self._ledger.numbers.skip()
            return
        if issubclass(kind, Refused):
            message, detail = str(error), error.detail  # type: ignore[attr-defined]
        elif issubclass(kind, Unencodable):
            message, detail = str(error), ".".join(error.path) or None  # type: ignore[attr-defined]
        else:  # its text may hold anything
            message, detail = kind.__name__, None
        self._lost(Reason.REFUSED, f"refused a call: {message}", detail)

    def _refuse_closed(self) -> None:
        if self._told_closed:
            self._ledger.dropped[Reason.CLOSED].add(1)
            return
        self._told_closed = True
        self._lost(Reason.CLOSED, "the client is shut down: this call and all later ones are lost")

    def _lost(self, reason: Reason, message: str, detail: str | None = None) -> None:
        self._ledger.dropped[reason].add(1)
        self._ledger.last_error = message
        with suppress(Superseded):  # a child goes on where the callback left: in the caller
            self._reporter.lost(1, message, detail=detail)

    # --- delivering: any thread

    def start(self) -> None:
        """Start the sender now. Where no thread can be started, the first flush delivers."""
        worker = None if self.closed else self._worker()
        if worker is not None:
            worker.start()

    def flush(self, deadline: float) -> bool:
        """See Whisperr.flush; ``deadline`` in monotonic seconds."""
        nothing_yet = not (self._parts or self._handover or self._keep)
        if nothing_yet and self._buffer.pending() == 0:
            return True
        worker = self._worker()
        return worker is not None and worker.flush(deadline)

    def request_pass(self) -> None:
        """Have a pass begin soon, without waiting for it."""
        worker = self._parts.get("worker")
        if worker is not None:
            worker.request_pass()

    def begin_exit(self, deadline: float, closing: bool = False) -> None:
        """From now on everything is bounded by the deadline, and a back-off ends at once."""
        if closing:
            self.closed = True
        self._ending = True
        worker = self._parts.get("worker")
        if worker is not None:
            worker.begin_exit(deadline, closing)

    def finish_exit(self) -> bool:
        """Deliver until the deadline of begin_exit, report what is left. True: nothing was."""
        worker = self._parts.get("worker")
        return worker is None or worker.finish_exit()

    def retire(self) -> None:
        """The client was garbage collected: deliver what there is, then end the thread."""
        worker = self._parts.get("worker")
        if worker is not None and self.token[0]:
            worker.retire()

    def stats(self) -> dict[str, Any]:
        ledger, worker = self._ledger, self._parts.get("worker")
        transport = None if worker is None else worker.transport
        return {
            "accepted": ledger.numbers.taken(),
            "adopted": ledger.adopted.read(),
            "delivered": ledger.delivered.read(),
            "dropped": ledger.drops(self._buffer.evicted()),
            "pending": self._buffer.pending(),
            "spilled": ledger.spilled.read(),
            "requests": transport.requests if transport else 0,
            "retries": transport.retries if transport else 0,
            "splits": ledger.splits,
            "bytes": transport.bytes_sent if transport else 0,
            "last_error": ledger.last_error,
        }

    def _worker(self) -> SenderThread | None:
        """What delivers, made at the first use. None in a process that can't send."""
        worker = self._parts.get("worker")
        if worker is None:
            if not self.token[0]:  # a signal handler forked inside the first call: see heir()
                return None
            if not can_send():
                self._hold()
                return None
            worker = self._first_use()
        if self._handover:
            self._adopt()
        return worker

    def _journal(self) -> Journal | None:
        """None: memory only, by the options or because this process can't send."""
        if self._keep is None:
            return None
        worker = self._parts.get("worker") or self._worker()
        return None if worker is None else worker.journal

    def _keep_first(self, event: Event) -> Event:
        journal = self._journal()
        if journal is None:
            return event
        self._keep = journal.keep_event
        return journal.keep_event(event)

    def _not_kept(self, error: Exception) -> None:
        """What the journal itself does not expect: no memory, a defect. The record is queued all the same."""
        message = f"the journal failed ({type(error).__name__}): a record is in memory alone"
        self._ledger.last_error = message
        with suppress(Superseded):
            self._reporter.troubled(message, None)

    def _kept(self, record: Record) -> Record:
        journal = self._journal()
        return record if journal is None else journal.keep(record)

    def _spill(self, record: Record) -> bool:
        worker = self._parts.get("worker")
        journal = None if worker is None else worker.journal
        return journal is not None and journal.spill(record)

    def _hold(self) -> None:
        """Keep what is queued for whichever child comes first, or for this process later."""
        if not self._handover:
            self._handover.setdefault("handover", Handover(self._buffer))
            _held[id(self)] = self
        self._handover["handover"].end = self._ledger.numbers.next()

    def _adopt(self) -> None:
        """Take over what was queued before there was a process to send it, if nobody did."""
        handover = self._handover.pop("handover", None)
        if handover is None:
            return
        mine, records = handover.take()
        numbers = self._ledger.numbers
        for record in records:
            if handover.buffer is not self._buffer:
                if mine:
                    self._ledger.adopted.add(1)
                    self._buffer.put(self._kept(renumbered(record, numbers.take())))
                    numbers.skip()  # accepted by another
            elif mine or record[0] >= handover.end:  # without a master: it became a worker itself
                self._buffer.put(self._kept(record))
            else:
                numbers.skip()  # another worker's now

    def _first_use(self) -> SenderThread:
        """Make what delivers. Two threads may be here at once: the first to publish wins."""
        exits.ensure()
        mine = SenderThread(
            self._settings,
            self._encoder,
            self._buffer,
            self._ledger,
            self._reporter,
            os.urandom(_PREFIX_BYTES).hex().encode(),
            self.token,
            lambda: forget(self),
        )
        worker: SenderThread = self._parts.setdefault("worker", mine)
        _started[id(self)] = self
        begun = exits.begun()
        if begun is not None:  # the first use is in an exit handler
            self.begin_exit(begun + self._settings.shutdown_timeout)
        return worker


class LazyEngine:
    """What a client has before its first call: what an engine is made of, and nothing more."""

    token = b"\0"  # item 0: this is no process's engine
    closed = False

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._successors: dict[int, Engine] = {}  # by id of ``here``

    def for_this_process(self) -> Engine:
        """The engine of the process that is asking."""
        for_this_process = Engine(self._settings, self._encoder)
        return self._successors.setdefault(id(for_this_process.token), for_this_process)

    def reject(self, error: Exception) -> None:
        """There was no memory for an engine, and so no ledger: the call is lost, which is said."""
        with suppress(Superseded):
            reporter = Reporter(self._settings.on_error, token_of_this_process())
            reporter.lost(1, f"refused a call: {type(error).__name__}")

    def retire(self) -> None:
        """The client was garbage collected: there is nothing to end."""


def forget(engine: Engine) -> None:
    """Its worker has ended and closed its session: nothing of it is worth keeping."""
    _started.pop(id(engine), None)


def started() -> list[Engine]:
    """The engines in use in this process."""
    return [engine for engine in list(_started.values()) if engine.token[0]]


def _drain_all(begun: float, for_good: bool) -> None:
    """The exit pass over all engines of this process, under one start and each its time-out."""
    if can_send():
        for engine in list(_held.values()):
            engine.for_this_process().start()  # a worker that never tracked may have something to deliver
    engines = started()
    try:
        for engine in engines:
            engine.begin_exit(begun + engine.shutdown_timeout, closing=for_good)
        for engine in engines:
            engine.finish_exit()
    except Superseded:  # a callback forked, and this is the child: it has an exit of its own
        exits.run(for_good)


exits.install(_drain_all)
