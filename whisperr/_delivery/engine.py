"""This process's half of a client: everything that must not cross a fork.

It is made at the first call in its process, out of a LazyEngine or of the engine of an ancestor,
so that clients which nobody uses here cost neither memory nor a fork anything. What delivers
(locks, session, thread) is a SenderThread, made at the first record, so after gevent has patched.

Guarantees:
    track() and identify() never wait, from any thread, a signal handler or ``__del__``; once the
    exit of the process has begun, they deliver at once instead, since nobody will later.
Lock-free: an engine and its sender are each published by one ``dict.setdefault``, as two threads
    may make the first call or the first record at once.
Fork: never repaired. The child's first call finds that the engine is not of its process
    (``token``) and gets a new one; the old one stays in _started, referenced for as long as the
    child lives, because dropping an inherited session could hang.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Callable

from whisperr._clock import monotonic
from whisperr._delivery.caretaker import caretaker_of_this_process
from whisperr._delivery.intake import Intake, is_nobody
from whisperr._delivery.queue import RecordQueue
from whisperr._delivery.sender_thread import SenderThread
from whisperr._encoding.calls import Encoder, Refused
from whisperr._encoding.records import Event, Identity, Record, renumbered
from whisperr._encoding.values import Unencodable
from whisperr._process import exits
from whisperr._process.fork_token import token_of_this_process
from whisperr._process.handover import Handover, can_send
from whisperr._process.signals import came_from_handler
from whisperr._reporting import observers
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import Reporter, Superseded, dropped, listed, say, says_all
from whisperr._settings import Settings

if TYPE_CHECKING:
    from whisperr._encoding.call_filter import CallFilter
    from whisperr._journal.journal import Journal

_PREFIX_BYTES = 10  # random, in front of six bytes of number: an id of 32 hex digits

_holding: dict[int, Engine] = {}  # by id; those that hold what they can't send
_started: dict[int, Engine] = {}  # by id; of this process, and those of its ancestors, unused


class Engine:
    """Accepts calls, has them delivered, keeps the ledger."""

    _is_finalizing = staticmethod(sys.is_finalizing)  # the names of a module go before this

    def __init__(self, settings: Settings, encoder: Encoder, closed: bool = False) -> None:
        self.token = token_of_this_process()  # item 0: this is still the process that made it
        self.closed = closed
        self.shutdown_timeout = settings.shutdown_timeout
        self._settings = settings
        self._encoder = encoder
        self._has_told_closed = False
        self._ledger = Ledger()
        self._queue = RecordQueue(
            encoder, settings.max_queue_size, settings.max_queue_bytes, self._spill
        )
        self._has_journal = settings.journal_dir is not None
        self._reporter = Reporter(settings.on_error, self.token)
        self._senders: dict[str, SenderThread] = {}  # one, once there is one
        self._handover: dict[str, Handover] = {}  # of what was queued where nothing can be sent
        self._successors: dict[int, Engine] = {}  # by id of a token: who follows it in a child
        self._filter = call_filter(settings)
        self.intake = Intake(self, encoder, self._queue, self._ledger.numbers.numbers, self._filter)
        if self._has_journal:
            self.intake.append = self._append_first
        if closed:
            self.intake.close()

    def for_this_process(self) -> Engine:
        """This engine, or the empty one of the process that is asking. That of a closed one is closed."""
        if self.token[0]:
            return self
        sender = self._senders.get("sender")
        if sender is not None:
            sender.close_in_child()
        successor = type(self)(self._settings, self._encoder, self.closed)
        successor._handover = dict(self._handover)
        return self._successors.setdefault(id(successor.token), successor)

    def replacement(self) -> Engine:
        """An empty one of this same process, for a client whose process has been copied."""
        return type(self)(self._settings, self._encoder, self.closed)

    # --- accepting: any thread, a signal handler, __del__. For events see intake

    def identify(self, fields: dict[str, Any]) -> None:
        """Queue an identity. See Whisperr.identify for the fields."""
        user_id = fields["external_user_id"]
        if not user_id and is_nobody(user_id):
            self.ignore("no user", "identify")
            return
        if self.closed:
            self.refuse_closed()
            return
        if self._filter is not None:
            changed = self._filter.identity(fields)
            if changed is None:
                self.leave_out("identify")
                return
            fields = changed
        body = self._encoder.identity(fields)
        self._queue.put(self._kept(Identity(self._ledger.numbers.next(), body)))
        self.intake.after_put()

    def wake(self) -> None:
        """Enough records wait: have them delivered."""
        sender = self._sender()
        if sender is not None and sender.start():
            sender.wake()

    def deliver_late(self) -> None:
        """The exit has begun, or a shutdown overtook this call: nobody else will see to it."""
        sender = self._sender()
        if sender is None:
            return
        with suppress(Superseded):
            if self.closed:
                sender.take_late(monotonic() + self.shutdown_timeout)
            else:
                sender.finish_exit()

    def ignore(self, why: str, event_type: object) -> None:
        """Count a call that says nothing, and say so at debug."""
        self._ledger.ignored.add(1)
        if says_all():
            say(logging.DEBUG, f"ignored a call: {why}{listed(self._legal_type(event_type))}")

    def leave_out(self, event_type: object) -> None:
        """Count a call that ``before_send`` wants not to be sent: no loss, so nobody is called."""
        self._ledger.dropped[Reason.LEFT_OUT].add(1)
        if says_all():
            types = listed(self._legal_type(event_type))
            say(logging.DEBUG, f"before_send left out a call{types}")

    def refuse(self, error: Exception, event_type: object = None) -> None:
        """Report a call that can't be queued. It counts as accepted and dropped.

        An exception of a signal handler that came in between is none of ours: raised again.
        """
        try:
            if came_from_handler(error):
                raise error
            self._refuse(error, event_type)
        except Exception:  # of the names that it needs some are gone already
            if not self._is_finalizing():
                raise

    def _refuse(self, error: Exception, event_type: object) -> None:
        kind = type(error)  # what the caller's objects raise is not even asked for its class
        if issubclass(kind, Refused):
            message, detail = str(error), error.detail  # type: ignore[attr-defined]
        elif issubclass(kind, Unencodable):
            message, detail = str(error), ".".join(error.path) or None  # type: ignore[attr-defined]
        else:  # its text may hold anything
            message, detail = kind.__name__, None
        types = self._legal_type(event_type)
        self._drop(Reason.REFUSED, f"refused a call: {message}", detail, types)

    def refuse_closed(self) -> None:
        """A call after the shutdown: counted, and reported once."""
        if self._has_told_closed:
            self._ledger.dropped[Reason.CLOSED].add(1)
            return
        self._has_told_closed = True
        self._drop(Reason.CLOSED, "the client is shut down: this call and all later ones are lost")

    def _legal_type(self, given: object) -> tuple[str, ...]:
        """An event type that may be told: the legal ones are, others may be anything."""
        if type(given) is str and (given == "identify" or given in self._encoder.event_types):
            return (str(given),)
        return ()

    def _drop(
        self,
        reason: Reason,
        message: str,
        detail: str | None = None,
        types: tuple[str, ...] = (),
    ) -> None:
        self._ledger.dropped[reason].add(1)
        self._ledger.last_error = message
        with suppress(Superseded):  # a child goes on where the callback left: in the caller
            self._reporter.lost(dropped(1, message, detail=detail, types=types))

    # --- delivering: any thread

    def start(self) -> None:
        """Start the sender now. Where no thread can be started, the first flush delivers."""
        sender = None if self.closed else self._sender()
        if sender is not None:
            sender.start()

    def flush(self, deadline: float) -> bool:
        """See Whisperr.flush; ``deadline`` in monotonic seconds."""
        nothing_yet = not (self._senders or self._handover or self._has_journal)
        if nothing_yet and self._queue.pending() == 0:
            return True
        sender = self._sender()
        return sender is not None and sender.flush(deadline)

    def request_pass(self) -> None:
        """Have a pass begin soon, without waiting for it."""
        sender = self._senders.get("sender")
        if sender is not None:
            sender.request_pass()

    def look_for_dead(self) -> None:
        """Have a pass begin soon that looks into the journal's folder, unless one is asked for."""
        sender = self._sender() if self._has_journal else None
        if sender is not None:
            sender.look_for_dead()

    def begin_exit(self, deadline: float, closing: bool = False) -> None:
        """From now on everything is bounded by the deadline, and a back-off ends at once."""
        if closing:
            self.closed = True
            self.intake.close()
        self.intake.end()  # at which a call looks last
        sender = self._senders.get("sender")
        if sender is not None:
            sender.begin_exit(deadline, closing)

    def finish_exit(self) -> bool:
        """Deliver until the deadline of begin_exit, report what is left. True: nothing was."""
        sender = self._senders.get("sender")
        return sender is None or sender.finish_exit()

    def leave(self) -> None:
        """End the sender's thread, after finish_exit(): this interpreter would wait for it for ever."""
        sender = self._senders.get("sender")
        if sender is not None:
            sender.leave()

    def retire(self) -> None:
        """The client was garbage collected: end the thread, have the caretaker deliver the rest."""
        sender = self._senders.get("sender")
        if sender is not None and self.token[0]:
            sender.retire()

    def stats(self) -> dict[str, Any]:
        """The figures of Whisperr.stats()."""
        ledger, sender = self._ledger, self._senders.get("sender")
        transport = None if sender is None else sender.transport
        return {
            "accepted": ledger.accepted(),
            "adopted": ledger.adopted.read(),
            "delivered": ledger.delivered.read(),
            "dropped": ledger.drops(self._queue.evicted()),
            "pending": self._queue.pending(),
            "spilled": ledger.spilled.read(),
            "requests": transport.requests if transport else 0,
            "retries": transport.retries if transport else 0,
            "splits": ledger.splits,
            "ignored": ledger.ignored.read(),
            "bytes": transport.bytes_sent if transport else 0,
            "last_error": ledger.last_error,
        }

    def _sender(self) -> SenderThread | None:
        """What delivers, made at the first use. None in a process that can't send."""
        sender = self._senders.get("sender")
        if sender is None:
            if not self.token[0]:  # a signal handler forked inside the first call
                return None
            if not can_send():
                self._hold()
                return None
            sender = self._first_use()
        if self._handover:
            self._take_over()
        return sender

    # --- the journal

    def _append_first(self, event: Event) -> None:
        """Queue an event, on disk first if that is possible; from now on by the journal's own function."""
        append: Callable[[Event], object] = self._queue.events.append
        try:
            journal = self._journal()
        except Exception as error:
            self._report_not_kept(error)
            journal = None
        if journal is not None:
            append = self.intake.append = journal.appender(append, self._report_not_kept)
        append(event)

    def _kept(self, record: Record) -> Record:
        try:
            journal = self._journal()
            return record if journal is None else journal.keep(record)
        except Exception as error:
            self._report_not_kept(error)
            return record

    def _journal(self) -> Journal | None:
        """None: memory only, by the options or because this process can't send."""
        if not self._has_journal:
            return None
        sender = self._senders.get("sender") or self._sender()
        return None if sender is None else sender.journal

    def _report_not_kept(self, error: Exception) -> None:
        """What the journal itself does not expect: no memory, a defect. The record is queued."""
        message = f"the journal failed ({type(error).__name__}): a record is in memory alone"
        self._ledger.last_error = message
        with suppress(Superseded):
            self._reporter.troubled(message, None)

    def _spill(self, record: Record) -> bool:
        sender = self._senders.get("sender")
        journal = None if sender is None else sender.journal
        return journal is not None and journal.spill(record)

    # --- what was queued where nothing can be sent (a uWSGI master)

    def _hold(self) -> None:
        """Keep what is queued for whichever child comes first, or for this process later."""
        if not self._handover:
            self._handover.setdefault("handover", Handover(self._queue))
            _holding[id(self)] = self
        self._handover["handover"].end = self._ledger.numbers.read()

    def _take_over(self) -> None:
        """Take what was queued before there was a process to send it, if nobody did."""
        handover = self._handover.pop("handover", None)
        if handover is None:
            return
        is_mine, records = handover.take()
        for record in records:
            if handover.queue is not self._queue:  # an ancestor's
                if is_mine:
                    self._ledger.adopted.add(1)
                    self._ledger.renumbered.add(1)
                    number = self._ledger.numbers.next()
                    self._queue.put(self._kept(renumbered(record, number)))
            elif is_mine or record[0] >= handover.end:  # this process became a worker itself
                self._queue.put(self._kept(record))
            else:
                self._ledger.handed_over.add(1)

    def _first_use(self) -> SenderThread:
        """Make what delivers. Two threads may be here at once: the first to publish wins."""
        exits.ensure()
        mine = SenderThread(
            self._settings,
            self._encoder,
            self._queue,
            self._ledger,
            self._reporter,
            os.urandom(_PREFIX_BYTES).hex().encode(),
            self.token,
            caretaker_of_this_process(),
            lambda: _started.setdefault(id(self), self),
            lambda: forget(self),
        )
        sender = self._senders.setdefault("sender", mine)
        _started[id(self)] = self
        begun = exits.begun()
        if begun is not None:  # the first use is in an exit handler
            self.begin_exit(begun + self._settings.shutdown_timeout)
        return sender


def call_filter(settings: Settings) -> CallFilter | None:
    """What sees each call of these settings' client before it is encoded; None: nothing does."""
    if settings.before_send is None and not settings.redact:
        return None
    from whisperr._encoding.call_filter import CallFilter  # the client's constructor has it

    return CallFilter(settings.before_send, settings.redact)


class LazyEngine:
    """What a client has before its first call: what an engine is made of, and nothing more."""

    _is_finalizing = staticmethod(sys.is_finalizing)
    token = b"\0"  # item 0: it is no process's engine, so nobody looks further
    intake: Intake
    closed = False

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        self._settings = settings
        self._encoder = encoder
        self._successors: dict[int, Engine] = {}  # by id of a token

    def identify(self, fields: dict[str, Any]) -> None:
        """Never called: it is no process's engine."""

    def for_this_process(self) -> Engine:
        """The engine of the process that is asking."""
        engine = Engine(self._settings, self._encoder)
        return self._successors.setdefault(id(engine.token), engine)

    def refuse(self, error: Exception, event_type: object = None) -> None:
        """There was no memory for an engine, and so no ledger: the call is lost, which is said."""
        if self._is_finalizing():  # the interpreter takes itself apart
            return
        if came_from_handler(error):
            raise error
        with suppress(Superseded):
            reporter = Reporter(self._settings.on_error, token_of_this_process())
            reporter.lost(dropped(1, f"refused a call: {type(error).__name__}"))

    def retire(self) -> None:
        """The client was garbage collected: there is nothing to end."""


def forget(engine: Engine) -> None:
    """Its sender has ended and closed its session: nothing of it is worth keeping."""
    _started.pop(id(engine), None)


def started() -> list[Engine]:
    """The engines in use in this process."""
    return [engine for engine in list(_started.values()) if engine.token[0]]


def _drain_all(begun: float, for_good: bool) -> None:
    """The exit pass over all engines of this process, under one start and each its time-out."""
    if can_send():
        for engine in list(_holding.values()):
            engine.for_this_process().start()  # a worker that never tracked may have to deliver
    engines = started()
    try:
        for engine in engines:
            engine.begin_exit(begun + engine.shutdown_timeout, closing=for_good)
        for engine in engines:
            engine.finish_exit()
        if engines:
            observers.tell()  # what was counted since the last pass: refused calls
        if not exits.HAS_DAEMON_THREADS:
            for engine in engines:
                engine.leave()
    except Superseded:  # a callback forked, and this is the child: it has an exit of its own
        exits.run(for_good)


exits.install(_drain_all)
