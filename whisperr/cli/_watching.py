"""``whisperr journal deliver --watch``: deliver what dead processes leave, until it is told to stop.

For hosts of which no process lives long: it looks at the folder again and again. The client's own
thread delivers; this one keeps the time, shows how far it is, and waits for SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from whisperr import _console
from whisperr._clock import monotonic

if TYPE_CHECKING:
    from whisperr import Whisperr

_GLANCE = 0.5  # seconds between two looks at the figures
_STOPPING = ("SIGTERM", "SIGINT", "SIGHUP")


def watch(client: Whisperr, interval: float, stop_timeout: float) -> dict[str, Any]:
    """Until a signal comes. What is left of the client's figures after ``stop_timeout`` seconds."""
    stop = threading.Event()
    for name in _STOPPING:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: stop.set())
    engine = client._own_engine()
    progress = _Progress()
    look_at = 0.0
    while not stop.is_set():
        if engine is not None and monotonic() >= look_at:
            look_at = monotonic() + interval
            engine.look_for_dead()
        progress.show(client.stats())
        stop.wait(min(_GLANCE, interval))
    client.shutdown(stop_timeout)
    progress.end()
    return client.stats()


def summary(stats: dict[str, Any]) -> str:
    dropped = sum(stats["dropped"].values())
    left = stats["adopted"] - stats["delivered"] - dropped
    return f"{stats['delivered']} delivered, {dropped} dropped, {left} left"


class _Progress:
    """One line that changes, on a terminal; else a line for each change after which nothing waits."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout is not None and sys.stdout.isatty()
        self._shown = ""

    def show(self, stats: dict[str, Any]) -> None:
        text = summary(stats)
        if text == self._shown:
            return
        if self._is_terminal:
            _console.rewrite(text)
        elif stats["adopted"] and not stats["pending"] + stats["spilled"]:
            _console.write(text)
            _console.flush()
        else:
            return
        self._shown = text

    def end(self) -> None:
        if self._is_terminal:
            _console.write("")
