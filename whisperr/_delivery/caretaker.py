"""Delivers what discarded clients have left: one thread for all of them.

A client that is garbage collected leaves its records with a sender thread, which delivers them and
ends. In an outage it would stay, so it makes one attempt (none, if a few others are at theirs, or
the outage is known), ends, and what it has left comes here. Those that have the same options become
one: their records then share a queue, its limits and its requests.

Guarantees:
    Of the threads of discarded clients a few (ENDING) wait for an answer; of those that are more
    the oldest is ended at once, unless it is still connecting.
    At most one thread here, which ends when nothing is left. One attempt at a time, and
    after a failed one none at the same base URL before a back-off, whoever's turn it is.
    All that discarded clients have left is no more than the largest of them might hold: beyond
    that the records of the one that has waited longest are dropped, and reported as its own.
    expect() and take() never wait, and may come from any thread, a signal handler or ``__del__``.
Lock-free:
    take() first appends, then looks whether the thread is there; the thread first says that it
    goes, then looks once more. The thread works while it holds a Turn, so a second one that two
    callers have started at once finds nothing to do.
    All else belongs to the thread.
Fork: a child has its own, which is empty. That of the parent stays referenced, unused.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from typing import Hashable

from whisperr._atomic import Turn
from whisperr._clock import monotonic
from whisperr._delivery.sender_thread import SenderThread
from whisperr._process import exits
from whisperr._process.fork_token import ForkToken, token_of_this_process
from whisperr._reporting.reports import Superseded

ENDING = 4  # threads of discarded clients that may make an attempt at once
FIRST_BACKOFF = 0.5  # seconds before the second attempt at a base URL, doubled for each further one
LONGEST_BACKOFF = 30.0  # seconds; also between two attempts of one that the server is there for


def _jitter() -> float:
    """Between a half and one. Not from ``random``: the numbers of that are the application's."""
    return 0.5 + os.urandom(1)[0] / 510


class _Outage:
    """A base URL at which the last attempt was in vain."""

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0  # monotonic

    def failed(self, asked_for: float | None) -> None:
        """One more attempt in vain; the answer may have asked for so many seconds of peace."""
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.until = monotonic() + max(longest * _jitter(), asked_for or 0.0)


class _Retired:
    """One sender in our care."""

    def __init__(self, sender: SenderThread, key: Hashable) -> None:
        self.sender = sender
        self.key = key  # of its options
        self.since = monotonic()
        self.not_before = 0.0  # monotonic


class Caretaker:
    """Gives each sender whose client is gone a pass in its turn."""

    def __init__(self, token: ForkToken) -> None:
        self.token = token
        self._ending: dict[int, SenderThread] = {}  # by id; their own threads still run
        self._newcomers: deque[SenderThread] = deque()
        self._retired: list[_Retired] = []  # whose last turn is the longest ago comes first
        self._heirs: dict[Hashable, _Retired] = {}  # by options
        self._outages: dict[str, _Outage] = {}  # by place
        self._turn = Turn()
        self._is_working = False
        self._wake = threading.Lock()
        self._wake.acquire()

    # --- anybody's thread

    def expect(self, sender: SenderThread) -> None:
        """Its client is gone, and its thread will end. One that hangs does so now, if they are many."""
        self._ending[id(sender)] = sender
        for hanging in list(self._ending.values())[:-ENDING]:
            hanging.transport.abort()

    def may_attempt(self, sender: SenderThread) -> bool:
        """Asked by its own thread, before it ends: whether it shall deliver what it has."""
        outage = self._outages.get(sender.place)
        in_outage = outage is not None and monotonic() < outage.until
        return not in_outage and len(self._ending) <= ENDING

    def ended(self, sender: SenderThread) -> None:
        """Its own thread does nothing any more."""
        self._ending.pop(id(sender), None)

    def take(self, sender: SenderThread) -> bool:
        """See to it that the sender gets a pass soon. False: no thread can be started."""
        self._newcomers.append(sender)
        with suppress(RuntimeError, ValueError):  # it is awake (gevent: ValueError)
            self._wake.release()
        if self._is_working:
            return True
        try:
            threading.Thread(target=self._run, name="whisperr-retired", daemon=True).start()
        except RuntimeError:  # no more threads: limits, or too late in the process
            return False
        return True

    # --- the thread

    def _run(self) -> None:
        try:
            while self._newcomers and self._turn.take():
                self._is_working = True
                try:
                    self._work()
                finally:
                    self._is_working = False
                    self._turn.release()
        except Superseded:  # a callback forked, and this is the child, see SenderThread._run
            exits.run(for_good=True)

    def _work(self) -> None:
        """Until nothing is left."""
        while True:
            self._welcome()
            if not self._retired:
                return
            self._keep_limits()
            now = monotonic()
            due, retired = min(
                ((self._due_at(each), each) for each in self._retired), key=lambda pair: pair[0]
            )
            if due <= now:
                self._pass(retired)
            else:
                self._wake.acquire(True, due - now)

    def _welcome(self) -> None:
        """Those that have come: each joins one with the same options, or waits with the others."""
        while True:
            try:
                sender = self._newcomers.popleft()
            except IndexError:
                return
            if any(each.sender is sender for each in self._retired):
                continue  # somebody wants it looked at
            key = sender.options_key()
            heir = self._heirs.get(key)
            if heir is not None and heir.sender.inherit(sender):
                continue
            retired = _Retired(sender, key)
            self._retired.append(retired)
            self._heirs.setdefault(key, retired)

    def _due_at(self, retired: _Retired) -> float:
        """Monotonic seconds. At once, if somebody waits for it; an outage is for who would send."""
        sender = retired.sender
        if sender.is_awaited():
            return 0.0
        outage = self._outages.get(sender.place) if sender.has_records() else None
        return retired.not_before if outage is None else max(retired.not_before, outage.until)

    def _pass(self, retired: _Retired) -> None:
        sender, transport = retired.sender, retired.sender.transport
        self._retired.remove(retired)
        has_records, transport.is_in_trouble = sender.has_records(), False
        if sender.take_turn():
            if self._heirs.get(retired.key) is retired:
                del self._heirs[retired.key]
            if has_records and not transport.is_in_trouble:
                self._outages.pop(sender.place, None)
            return
        self._retired.append(retired)
        if transport.is_in_trouble:
            self._outages.setdefault(sender.place, _Outage()).failed(transport.retry_after)
            transport.close()  # or a thousand of them keep as many connections
        elif not sender.is_settled:  # the server is there, and will not have it: a key, a proxy
            retired.not_before = monotonic() + LONGEST_BACKOFF
            self._outages.pop(sender.place, None)

    def _keep_limits(self) -> None:
        """Drop the oldest while there is more than the largest of the queues might hold."""
        queues = [retired.sender.queue for retired in self._retired]
        records = sum(queue.pending() for queue in queues) - max(q.max_records for q in queues)
        size = sum(queue.bytes.read() for queue in queues) - max(q.max_bytes for q in queues)
        if records <= 0 and size <= 0:
            return
        for retired in sorted(self._retired, key=lambda each: each.since):
            queue = retired.sender.queue
            while (records > 0 or size > 0) and queue.waiting():
                before = queue.bytes.read()
                queue.drop_oldest()
                records -= 1
                size -= before - queue.bytes.read()


_caretakers: dict[int, Caretaker] = {}  # by id of a token; those of ancestors stay, unused


def caretaker_of_this_process() -> Caretaker:
    """Two threads that ask at once get the same one."""
    token = token_of_this_process()
    caretaker = _caretakers.get(id(token))
    if caretaker is not None:
        return caretaker
    return _caretakers.setdefault(id(token), Caretaker(token))
