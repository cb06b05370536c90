"""The thread that delivers, what wakes it, and who waits for it.

Guarantees:
    One pass at a time. An idle thread waits without a time-out. A flush is answered by a pass
    that began after it asked. A back-off ends at once when an exit begins. A deadline, once set,
    bounds every wait and every request from then on; of two exits the earlier one counts.
Guarded by _passing (held for a whole pass, network and callbacks included):
    the delivery pass, the transport, _caller_deadline. Only the thread's loop waits for it, and a
    caller in whose process no thread can be started, up to its deadline. _passing_in says whose it
    is, so that a callback or a signal handler inside a pass never waits for itself.
Lock-free:
    _phase and _deadline only advance (``Furthest``), whoever reports first.
    _starting is one dict.setdefault that nobody waits for: the start of the thread.
    _wake is a binary semaphore. wake() may be called from anywhere, a signal handler inside
    itself included. No wake-up is lost: a caller first puts, then reads queue.wake_at; the loop
    first writes wake_at, then looks at the queue once more, then waits.
    _asked holds one Barrier for each waiting flush; a Barrier is a lock of its own that nobody
    holds over anything.
Fork: a sender thread belongs to the process that made it. The child makes its own and keeps this
    one referenced, unused.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import math
import threading
from collections import deque
from dataclasses import replace
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any, Callable, Hashable, NamedTuple, Protocol

from whisperr._atomic import Furthest
from whisperr._clock import monotonic
from whisperr._delivery.delivery_pass import DeliveryPass
from whisperr._delivery.queue import RecordQueue
from whisperr._encoding.calls import Encoder
from whisperr._encoding.records import Record, renumbered, types_of, with_own_id
from whisperr._process import exits
from whisperr._process.fork_token import ForkToken
from whisperr._reporting import observers
from whisperr._reporting.feedback import our_records, urllib3_says_all
from whisperr._reporting.ledger import Ledger, Reason
from whisperr._reporting.reports import Reporter, Superseded, dropped, is_finalizing, say
from whisperr._settings import Settings

if TYPE_CHECKING:
    from whisperr._journal.journal import Journal

NEVER = 2**30 - 1  # records; no queue is so long (and so small an int compares quickest)
REPORT_TIME = 0.25  # seconds of a deadline for saying what was lost, a tenth of it at most


class Phase(enum.IntEnum):
    """How a sender thread's life goes on. It only advances."""

    OPEN = 0  # delivers by count, by time and when asked
    RETIRING = 1  # its client is gone: its thread ends, the caretaker delivers what is left
    CLOSING = 2  # ends when everything is delivered, or the deadline has come
    ENDED = 3  # nobody delivers any more


class Deadline(NamedTuple):
    """In monotonic seconds. The sender gives up a little earlier than whoever waits for it.

    So it is the sender that counts and reports what is left, at one time and in one sum.
    """

    at: float
    give_up_at: float

    @staticmethod
    def with_time_to_report(at: float) -> Deadline:
        """Leave some of what is left until then."""
        left = max(0.0, at - monotonic())
        return Deadline(at, at - min(REPORT_TIME, left / 10))


NO_DEADLINE = Deadline(math.inf, math.inf)


class Barrier:
    """One flush that waits. A raw lock and not an Event: a signal handler may interrupt the wait."""

    def __init__(self, *, from_callback: bool = False) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._settled = False
        self.from_callback = from_callback  # nobody waits: a callback inside a pass wants another

    def resolve(self, settled: bool) -> None:
        """Answer who waits. Once."""
        self._settled = settled
        self._lock.release()

    def wait(self, deadline: float) -> bool:
        """True when a pass settled everything before the deadline (monotonic seconds)."""
        in_time = self._lock.acquire(True, max(0.0, deadline - monotonic()))
        return in_time and self._settled


class Retirement(Protocol):
    """What becomes of a sender whose client is gone (``caretaker``)."""

    def expect(self, sender: SenderThread) -> None:
        """Its thread will end soon."""

    def may_attempt(self, sender: SenderThread) -> bool:
        """Whether its thread shall still deliver what it has."""
        ...

    def ended(self, sender: SenderThread) -> None:
        """Its thread does nothing any more."""

    def take(self, sender: SenderThread) -> bool:
        """Something is left, or somebody waits for a pass. False: nobody can see to it."""
        ...


class SenderThread:
    """Delivers what one engine's queue holds, from a thread of its own: a daemon, where there are any."""

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        queue: RecordQueue,
        ledger: Ledger,
        reporter: Reporter,
        id_prefix: bytes,
        token: ForkToken,
        retirement: Retirement,
        on_return: Callable[[], object],
        on_end: Callable[[], None],
    ) -> None:
        # The constructor of the client has imported it; an import of whisperr does not pay for it.
        from whisperr._delivery.transport import Transport

        self.journal: Journal | None = None
        if settings.journal_dir is not None:
            from whisperr._journal.journal import Journal

            self.journal = Journal(settings, encoder.environment_bytes, id_prefix, ledger, token)
        self.place = settings.place
        self.queue = queue
        self._settings = settings
        self._id_prefix = id_prefix
        self._token = token
        self._flush_at = settings.flush_at
        self._interval = settings.flush_interval
        self._ledger = ledger
        self._reporter = reporter
        self._retirement = retirement
        self._on_return = on_return  # after on_end: a late call has brought it back
        self._on_end = on_end
        self._phase = Furthest(Phase.OPEN, max)
        self._deadline = Furthest(NO_DEADLINE, min)  # of an exit or a shutdown
        self._caller_deadline = NO_DEADLINE  # of a pass in a caller's thread
        self.transport = Transport(settings, self._pause, self._give_up_at, self._has_one_attempt)
        self._delivery_pass = DeliveryPass(
            settings,
            encoder.environment_bytes,
            queue,
            self.transport,
            ledger,
            reporter,
            id_prefix,
            self.journal,
        )
        self._wake = threading.Lock()
        self._wake.acquire()
        self._passing = threading.Lock()
        self._passing_in: int | None = None  # thread
        self._starting: dict[str, tuple[int, object]] = {}  # by which thread
        self._thread: threading.Thread | None = None
        self._asked: deque[Barrier] = deque()
        self._asked_inside = False  # a callback inside a pass wants another
        self._is_leaving = False  # the thread ends; passes are made by who wants them
        self._is_with_caretaker = False
        self.is_settled = True  # by the last pass: everything that it found
        self._is_wanted = False  # somebody waits for a pass, or is about to ask for one
        self._ended_well = False

    # --- anybody's thread

    @property
    def has_ended(self) -> bool:
        """Nobody delivers any more."""
        return self._phase.read() is Phase.ENDED

    def wake(self) -> None:
        """Have the loop look again. Never waits."""
        try:
            self.queue.wake_when(NEVER)  # one caller is enough; the loop writes it anew
        finally:  # an exception of a signal handler must not come between the two
            with contextlib.suppress(RuntimeError, ValueError):  # it is awake (gevent: ValueError)
                self._wake.release()

    def start(self) -> bool:
        """Start the thread, unless it runs. False when it can't be, or this is a child."""
        # A thread that runs while the interpreter ends will not run any more.
        if self._is_leaving or self._is_forked_copy() or is_finalizing():
            return False
        if self._is_with_caretaker:
            self._on_return()
            return self._retirement.take(self)
        if self._is_running():
            return True
        me = threading.get_ident()
        start = (me, object())
        try:
            if self._starting.setdefault("by", start) is not start:
                return self._starting.get("by", start)[0] != me  # a signal handler, inside ours?
            if not self._is_running():
                if not exits.may_start_thread():
                    return False
                is_daemon = exits.HAS_DAEMON_THREADS
                thread = threading.Thread(target=self._run, name="whisperr", daemon=is_daemon)
                thread.start()
                self._thread = thread
            return True
        except RuntimeError:  # no more threads: limits, or too late in the process
            return False
        finally:
            if "by" in self._starting and self._starting["by"] is start:
                del self._starting["by"]

    def flush(self, deadline: float) -> bool:
        """A pass over all that waits now. True when all of it was settled before the deadline."""
        if self._passing_in == threading.get_ident():  # inside a pass: a callback, a handler
            if self.queue.is_empty():
                return True
            self._asked_inside = True
            return False
        if self._is_forked_copy():
            return False
        if self._has_nothing():
            if (
                self._passing_in is not None
            ):  # another thread has delivered it, and is about to tell
                observers.tell()
            return True
        self._is_wanted = True  # before the thread begins its first pass
        if not self.start():
            return self._pass_here(deadline)
        barrier = Barrier()
        self._ask(barrier)
        return barrier.wait(deadline)

    def request_pass(self) -> None:
        """Have a pass begin soon, without waiting for it."""
        self._is_wanted = True
        if not self._has_nothing() and self.start():
            self._ask(Barrier())

    def _ask(self, barrier: Barrier) -> None:
        """Have the next pass answer. Who passes looks for it at the end, so we look second."""
        self._asked.append(barrier)
        self.wake()
        if self._is_with_caretaker:
            self._retirement.take(self)
        if self.has_ended or self._is_leaving:
            self._answer()

    def look_for_dead(self) -> None:
        """Have a pass begin soon that looks for what dead processes left, unless one is asked for."""
        if self.journal is not None and not self._asked:
            self.journal.adopt_at = 0.0
            self.request_pass()

    def begin_exit(self, deadline: float, closing: bool) -> None:
        """Bound everything by the deadline from now on, and end a back-off."""
        self._deadline.advance(Deadline.with_time_to_report(deadline))
        if closing:
            self._phase.advance(Phase.CLOSING)
        self.request_pass()  # of all before any is waited for: one may hang
        self.wake()

    def finish_exit(self) -> bool:
        """Deliver until the deadline; report what is left. True when nothing was."""
        if self._passing_in == threading.get_ident() or self._is_forked_copy():
            return False  # in a callback: the loop goes on from here when it returns
        deadline = self._deadline.read().at if self._is_exiting() else monotonic()
        settled = self.flush(deadline)
        while settled and not self.queue.is_empty():  # more came meanwhile
            settled = self.flush(deadline)
        if self._phase.read() >= Phase.CLOSING and not self._is_running():
            self._phase.advance(Phase.ENDED)
        settled = self._abandon() and settled
        if self.has_ended and self.journal is not None:
            self.journal.release()
        return settled

    def leave(self) -> None:
        """End the thread, and nothing else: its interpreter is about to wait for it."""
        self._is_leaving = True
        self.wake()

    def retire(self) -> None:
        """The client is gone: the thread ends. Where there is none, the exit delivers."""
        if self._is_running():
            self._retirement.expect(self)
        self._phase.advance(Phase.RETIRING)
        self.wake()

    def take_late(self, deadline: float) -> None:
        """A record was put while the client was being shut down: see that it is settled."""
        if self._is_forked_copy():
            return
        if self._phase.read() < Phase.CLOSING:  # made by this very record
            self.begin_exit(deadline, closing=True)
        if self.has_ended:
            self._abandon()
            if self.journal is not None:
                self.journal.release()

    def close_in_child(self) -> None:
        """In a child: close its copies of the parent's journal."""
        if self.journal is not None:
            self.journal.close_in_child()

    def _has_nothing(self) -> bool:
        """Nothing to deliver, and nothing to tidy up."""
        if not self.queue.is_empty():
            return False
        journal = self.journal
        if journal is None or self.has_ended:
            return True
        if journal.is_due() or self._passing_in is not None:  # a pass may have some in its hands
            return False
        return self.queue.is_empty() and (not self._is_exiting() or journal.is_clean())

    def _is_forked_copy(self) -> bool:
        """A signal handler forked inside a call, and in the child the call goes on, to here.

        It goes on in the parent too, and there its record is delivered.
        """
        return not self._token[0]

    def _is_exiting(self) -> bool:
        return self._deadline.read() != NO_DEADLINE

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _abandon(self) -> bool:
        """Give up what is left, and say so. True when nothing was."""
        lost, spilled = self.queue.abandon()
        count = len(lost)
        if spilled:
            plural = "record stays" if spilled == 1 else "records stay"
            say(logging.INFO, f"{spilled} {plural} in the journal, for the next process")
        if count:
            self._ledger.dropped[Reason.UNDELIVERED].add(count)
            message = f"lost {count} record{'' if count == 1 else 's'}: no time was left to deliver"
            self._ledger.last_error = message
            why = self._delivery_pass.trouble
            error = dropped(count, message, types=types_of(lost), cause=why and why.what)
            self._reporter.lost(error, why.change if why else "")
        if count + spilled:
            observers.tell()
        return count + spilled == 0

    def _pass_here(self, deadline: float) -> bool:
        """A pass in the calling thread, where there can be no other."""
        if is_finalizing():  # who was inside one never leaves it
            deadline = monotonic()
        if not self._passing.acquire(True, max(0.0, deadline - monotonic())):
            return False
        try:
            self._caller_deadline = Deadline(deadline, deadline)
            return self._pass() and self._delivery_pass.complete
        finally:
            self._caller_deadline = NO_DEADLINE
            self._passing.release()

    # --- the thread that passes

    def _pass(self) -> bool:
        """With _passing held: one pass, and the answer to every flush that asked before it."""
        self._passing_in = threading.get_ident()
        # Who waits for a shutdown is answered when its loss has been reported, see _loop.
        closing = self._phase.read() >= Phase.CLOSING
        asked = [] if closing else [self._asked.popleft() for _ in range(len(self._asked))]
        settled = False
        try:
            is_wanted, self._is_wanted = self._is_wanted, False
            is_waited_for = is_wanted or bool(asked) or self._is_waited_for()
            with our_records() if urllib3_says_all() else contextlib.nullcontext():
                settled = self._delivery_pass.run(is_waited_for)
            if self.journal is not None and settled and self._is_exiting():
                self.journal.retire()
        finally:
            observers.tell()  # before whoever waits goes on, and perhaps ends the process
            self._passing_in = None
            for barrier in asked:
                barrier.resolve(settled and self._delivery_pass.complete)
            # One that fails again is not followed by a third: a callback may ask at each failure.
            was_asked_inside = any(barrier.from_callback for barrier in asked)
            if self._asked_inside and (settled or not was_asked_inside):
                self._asked.append(Barrier(from_callback=True))
            self._asked_inside = False
        return settled

    def _is_waited_for(self) -> bool:
        """By an exit, by a shutdown, or by whoever makes the pass in his own thread."""
        in_caller = self._caller_deadline != NO_DEADLINE
        return in_caller or self._is_exiting() or self._phase.read() >= Phase.CLOSING

    def _give_up_at(self) -> float:
        """Monotonic seconds; infinite while there is no deadline."""
        return min(self._deadline.read(), self._caller_deadline).give_up_at

    def _pause(self, seconds: float) -> bool:
        """Wait between two attempts. False: there shall be none, or no time is left for one."""
        if self._has_one_attempt():
            return False
        give_up_at = self._give_up_at()
        until = monotonic() + seconds
        if until >= give_up_at:
            return False
        while True:
            left = until - monotonic()
            if left <= 0:
                return True
            self._wake.acquire(True, left)
            if self._give_up_at() != give_up_at or self._has_one_attempt():  # an exit has begun
                return False

    def _has_one_attempt(self) -> bool:
        """The client is gone: who delivers then has others to see to. An exit tries as for all."""
        return self._phase.read() is Phase.RETIRING and not self._is_exiting()

    # --- the sender thread

    def _run(self) -> None:
        try:
            self._loop()
        except Superseded:
            # A callback forked, and this is the child: its main thread is this one, which the
            # interpreter lets end without atexit, and the process ends with its last thread.
            exits.run(for_good=True)

    def _loop(self) -> None:
        while True:
            self._wait()
            if self._is_left_to_caretaker() or self.take_turn():
                return
            if self._is_leaving:  # first said, then answered: who asks later makes a pass itself
                self._answer()
                return

    def take_turn(self) -> bool:
        """One pass. True: it was the last one, and nobody delivers any more.

        In the thread, or in the caretaker's, never in both.
        """
        self.queue.wake_when(NEVER)  # working: nobody needs to wake it
        closing = self._phase.read() >= Phase.CLOSING
        self.is_settled = False
        try:
            with self._passing:
                self.is_settled = self._pass()
        except Superseded:
            raise
        except BaseException as error:  # a defect, or a SystemExit of a callback: go on
            say(logging.ERROR, f"a delivery pass failed: {type(error).__name__}")
        if closing and not self.is_settled:
            return self._end()
        if self._phase.read() is Phase.OPEN or self.queue.pending():
            return False
        if self._phase.read() is Phase.RETIRING:
            return self._is_done_for_now()
        return self._end()

    def _end(self) -> bool:
        # Whoever puts or asks looks at the phase after that, and this thread looks for what was
        # put or asked after it has ended: nothing falls between.
        self._phase.advance(Phase.ENDED)
        try:
            self._ended_well = self._abandon() and self.is_settled
        finally:  # whatever a callback raises
            self._leave()
        return True

    def _leave(self) -> None:
        if self.journal is not None:
            self.journal.release()
        self._answer()
        self.transport.close()
        self._on_end()

    def _answer(self) -> None:
        while self._asked:
            with contextlib.suppress(IndexError):  # another thread is answering, too
                self._asked.popleft().resolve(self._ended_well)

    def _wait(self) -> None:
        """Return when a pass is due: records are old or many enough, or somebody asks."""
        due: float | None = None  # nothing waits: no time-out
        while not self._is_asked():
            count = self.queue.waiting()
            backlog = 0 if self.journal is None else self.journal.backlog()
            if count + backlog == 0:
                due, wake_at = None, 1
            elif not self.is_settled:
                wake_at = NEVER  # the last pass gave up: not again before the interval
            elif backlog or count >= self._flush_at:
                return
            else:
                wake_at = self._flush_at
            if count + backlog and due is None:
                due = monotonic() + self._interval
            until = due
            if self.journal is not None:
                until = min(due or self.journal.adopt_at, self.journal.adopt_at)
            left = -1.0 if until is None else max(0.0, until - monotonic())
            if left == 0:
                return
            self.queue.wake_when(wake_at)
            if self.queue.waiting() < wake_at and not self._is_asked():
                self._wake.acquire(True, left)

    def _is_asked(self) -> bool:
        return bool(self._asked) or self._is_leaving or self._phase.read() > Phase.OPEN

    # --- after the client: first the thread, as it ends, then the caretaker's

    def _is_left_to_caretaker(self) -> bool:
        """Whether the client is gone. Then this thread ends, after one attempt at the most."""
        if self._phase.read() is not Phase.RETIRING:
            return False
        if not self.has_records() or self._retirement.may_attempt(self):
            self.take_turn()
        self._retirement.ended(self)
        # A call that comes now (from the __del__ of another object in the same garbage) wakes the
        # caretaker. One that came before has put its record where we look next.
        self._is_with_caretaker = True
        if self.has_records() or self.is_awaited():
            self._retirement.take(self)
        return True

    def is_awaited(self) -> bool:
        """Somebody waits for a pass."""
        return bool(self._asked) or self._phase.read() >= Phase.CLOSING

    def has_records(self) -> bool:
        """Something waits to be sent."""
        backlog = 0 if self.journal is None else self.journal.backlog()
        return self.queue.waiting() + backlog > 0

    def _is_done_for_now(self) -> bool:
        """Whether nothing is left. What a late call queues then brings it back to the caretaker."""
        if self.journal is not None and (self.journal.backlog() or not self.is_settled):
            return False
        self._ended_well = self.is_settled
        self.queue.wake_when(1)  # and then look once more: see wake()
        if self.queue.pending():
            return False
        self._leave()
        return True

    def options_key(self) -> Hashable:
        """Equal for two that send to the same place, in the same way, and report to the same."""
        told: Any = self._settings.on_error
        if isinstance(told, (MethodType, BuiltinMethodType)):  # made anew by each look at it
            of: Hashable = (id(told.__self__), told.__name__)
        else:
            of = id(told)
        return replace(self._settings, on_error=None), of

    def inherit(self, other: SenderThread) -> bool:
        """Take over what another one, with the same options, has left. False: not at an exit."""
        if any(each.is_awaited() or each._is_exiting() for each in (self, other)):
            return False
        with self.queue.moving():  # is_empty() waits for it
            other._bequeath(self)
        other._ended_well = True
        other._leave()
        return True

    def _bequeath(self, heir: SenderThread) -> None:
        self.queue.wake_when(1)
        self._delivery_pass.report_news()
        for record in self.queue.take_all():
            if self.journal is None or not self.journal.spill(record):
                self._ledger.handed_over.add(1)
                heir._adopt(with_own_id(record, self._id_prefix))
        if self.journal is not None and heir.journal is not None:
            self.journal.release()
            heir.journal.adopt_at = 0.0  # at once

    def _adopt(self, record: Record) -> None:
        self._ledger.adopted.add(1)
        self._ledger.renumbered.add(1)
        record = renumbered(record, self._ledger.numbers.next())
        self.queue.put(record if self.journal is None else self.journal.keep(record))
