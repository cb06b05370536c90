"""The engine of a client while a test records, and how all clients of the process get one.

It is the real engine up to the point where a record is queued: the same checks, the same
encoding, the same reports and counts. Instead of being delivered, a record is at once decoded
and handed to the innermost recording. There is no thread, no socket and no file.

Left out are the clients that a test has made of its own sandbox: they send.

Fork: a child's engine is of the same kind, and records into the child's own copy.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import weakref
from types import FrameType
from typing import Any, Callable

from whisperr import Whisperr, _client
from whisperr._client import live_clients
from whisperr._delivery.engine import Engine, LazyEngine
from whisperr._delivery.sender_thread import SenderThread
from whisperr._encoding.records import Encoder, Identity
from whisperr._reporting.ledger import Reason
from whisperr._settings import Settings
from whisperr.testing._records import Record, Refused, identified, tracked

Sink = Callable[[Record], None]

_sinks: list[Sink] = []  # of the recordings under way; the innermost gets everything
_real: weakref.WeakSet[Whisperr] = weakref.WeakSet()  # clients that are never replaced
_replaced: list[
    tuple[Whisperr, Engine | LazyEngine | None]
] = []  # what clients had before the outermost


class RecordingEngine(Engine):
    """Accepts calls and records them."""

    def __init__(self, settings: Settings, encoder: Encoder, closed: bool = False) -> None:
        nowhere: Any = {name: None for name in vars(settings) if name == "journal_dir"}
        super().__init__(dataclasses.replace(settings, **nowhere), encoder, closed)
        self._prefix = os.urandom(10).hex().encode()

    def track(
        self,
        user_id: Any,
        event_type: Any,
        properties: Any,
        context: Any,
        occurred_at: Any,
        message_id: Any,
    ) -> None:
        super().track(user_id, event_type, properties, context, occurred_at, message_id)
        self._record()

    def identify(self, fields: dict[str, Any]) -> None:
        super().identify(fields)
        self._record()

    def _record(self) -> None:
        for record in self._buffer.take_all():
            if isinstance(record, Identity):
                _tell(identified(json.loads(record.body), os.getpid()))
            else:
                (event,) = json.loads(self._encoder.batch([record], self._prefix))["events"]
                _tell(tracked(event, os.getpid()))
            self._ledger.delivered.add(1)

    def _lost(self, reason: Reason, message: str, detail: str | None = None) -> None:
        _tell(Refused(message, detail, _caller(), os.getpid()))
        super()._lost(reason, message, detail)

    def _worker(self) -> SenderThread | None:
        return None  # whatever asks for one has nothing to deliver


def begin(sink: Sink) -> None:
    """From now on every client records, those that exist and those to come, into ``sink``."""
    _sinks.append(sink)
    if len(_sinks) > 1:
        return
    _client.double = RecordingEngine
    for client in live_clients():
        if client in _real:
            continue
        before = client._engine
        _replaced.append((client, before))
        client._engine = RecordingEngine(
            client._settings, client._encoder, before is not None and before.closed
        )


def leave_out(client: Whisperr) -> None:
    """It sends, also while a test records: it has a server of the test's own."""
    _real.add(client)
    if isinstance(client._engine, RecordingEngine) and not client._settings.disabled:
        client._engine = LazyEngine(client._settings, client._encoder)


def end(sink: Sink) -> None:
    """Undo ``begin``. After the outermost, every client is again what it was, or would have been."""
    _sinks.remove(sink)
    if _sinks:
        return
    _client.double = None
    before = {id(client): engine for client, engine in _replaced}
    for client in live_clients():
        double = client._engine
        if not isinstance(double, RecordingEngine):
            continue
        if id(client) in before:
            client._engine = before[id(client)]
        elif client._settings.disabled:
            client._engine = None
        else:  # made meanwhile
            client._engine = Engine(client._settings, client._encoder, double.closed)
    _replaced.clear()


def _tell(record: Record) -> None:
    if _sinks:
        _sinks[-1](record)


def _caller() -> str:
    """``file:line`` of the innermost frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name != "whisperr" and not name.startswith("whisperr."):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
