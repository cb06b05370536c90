"""A relay: a lane for each app that it has a key for, and the sign that it lives.

Threads: each lane has one; the caller's gives the sign of life, and waits for the end. None of them
forks. Lock-free: they share an event, and two numbers that only this thread writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from typing import Mapping, NamedTuple

from whisperr._broker.errors import BrokerError
from whisperr._clock import monotonic
from whisperr._relay.interfaces import Broker
from whisperr._relay.keys import is_app, variable_for
from whisperr._relay.lane import Lane
from whisperr._reporting.reports import say
from whisperr._settings import Settings

LONGEST_BEAT = 1.0  # seconds between two signs of life
ANSWER = 5.0  # seconds for the broker's, to a sign of life
GRACE = 1.0  # second at the end for who is in the middle of something
SHORTEST = 0.1  # seconds for an answer; none at all would be a broken connection
LOOK_FOR_APPS = 30.0  # seconds between two looks for apps without a key


class Times(NamedTuple):
    """In seconds."""

    linger: float  # a message waits for others to fill its batch
    claim_after: float  # the messages of a relay that gave no sign of life go to others
    stop: float  # to deliver what is held, at the end


class Relay:
    """Runs in the thread that calls run(), until stop()."""

    def __init__(
        self, broker: Broker, place: str, settings_by_app: Mapping[str, Settings], times: Times
    ) -> None:
        """``place``: the broker's URL without a password."""
        #: by which the API may tell relays apart: no name of a machine leaves the network
        self.name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.consumer = f"{socket.gethostname()}-{self.name}"
        self._times = times
        self._presence = broker.presence(self.consumer, times.claim_after)
        self._stop = threading.Event()
        self._stop_at: float | None = None  # monotonic
        self._look_at = 0.0  # monotonic
        self._told: set[str] = set()  # apps without a key
        self._has_failed = False
        self.lanes = [
            Lane(
                app=app,
                inbox=broker.inbox(app, self.consumer, self._presence),
                broker=place,
                settings=settings,
                relay=self.name,
                linger=times.linger,
                stop=self._stop,
                stop_at=lambda: self._stop_at,
            )
            for app, settings in settings_by_app.items()
        ]
        self._threads: list[threading.Thread] = []  # of the lanes, once they run
        self.broker_seen_at: float | None = None  # monotonic; its latest answer to a sign of life

    def stop(self) -> None:
        """From a signal handler or any thread: deliver what is held, then end."""
        if self._stop_at is None:
            self._stop_at = monotonic() + self._times.stop
        self._stop.set()

    def run(self) -> bool:
        """False: it failed, by a defect that the log names."""
        threads = [
            threading.Thread(target=self._run, args=(lane,), name="whisperr-lane", daemon=True)
            for lane in self.lanes
        ]
        self._beat()  # first: who reads gives a sign of life
        for thread in threads:
            thread.start()
        self._threads = threads
        beat = min(LONGEST_BEAT, self._times.claim_after / 5)
        while not self._stop.wait(beat):
            self._beat()
            self._look_for_apps()
        while any(thread.is_alive() for thread in threads) and not self._is_over():
            self._beat()
            threads = [thread for thread in threads if thread.is_alive()]
            for thread in threads[:1]:
                thread.join(beat)
        self._leave()
        return not self._has_failed

    def _run(self, lane: Lane) -> None:
        try:
            lane.run()
        except Exception as error:
            say(logging.ERROR, f"the relay failed: {type(error).__name__}", lane=lane.app)
            self._has_failed = True
            self.stop()

    @property
    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def ended_lanes(self) -> list[str]:
        """The apps whose lane has ended, and nobody had told it to. From any thread."""
        if self._stop.is_set() and not self._has_failed:
            return []
        lanes = zip(self.lanes, self._threads)
        return [lane.app for lane, thread in lanes if not thread.is_alive()]

    def _is_over(self) -> bool:
        return self._stop_at is not None and monotonic() > self._stop_at + GRACE

    def _patience(self) -> float:
        """Seconds for the broker's next answer: one that is frozen holds up no end."""
        if self._stop_at is None:
            return ANSWER
        return max(SHORTEST, min(ANSWER, self._stop_at + GRACE - monotonic()))

    # --- signs of life

    def _beat(self) -> None:
        with contextlib.suppress(BrokerError):  # the lanes say so
            self._presence.beat(self._patience())
            self.broker_seen_at = monotonic()

    def _leave(self) -> None:
        with contextlib.suppress(BrokerError):  # or the sign expires
            self._presence.leave(self._patience())

    # --- apps whose messages no lane takes

    def _look_for_apps(self) -> None:
        if monotonic() < self._look_at:
            return
        self._look_at = monotonic() + LOOK_FOR_APPS
        served = {lane.app for lane in self.lanes}
        try:
            unserved = self._presence.unserved(served | self._told)
        except BrokerError:
            self._look_at = 0.0
            return
        for app in filter(is_app, unserved):
            self._told.add(app)
            named = f"of the app {app}" if app else "that name no app"
            say(
                logging.WARNING,
                f"messages {named} wait: this relay has no key for them. "
                f"Set {variable_for(app)}, or add it to the file of keys.",
            )
