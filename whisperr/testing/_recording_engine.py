"""The engine of a client while a test records, and how all clients of the process get one.

It is the real engine up to the point where a record is queued: the same checks, the same
encoding, the same reports and counts. Instead of being delivered, a record is at once decoded
and handed to the innermost recording. There is no thread, no socket and no file.

Clients get their engines from a factory; ``begin`` installs one that makes these. The clients of
a test's own sandbox keep an ordinary engine: they send.

Fork: a child's engine is of the same kind, and records into the child's own copy.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from types import FrameType
from typing import Any, Callable

from whisperr import Whisperr
from whisperr._client import (
    ClientEngine,
    install_engine_factory,
    ordinary_engine,
    replace_engines,
)
from whisperr._delivery.engine import Engine
from whisperr._delivery.sender_thread import SenderThread
from whisperr._encoding.bodies import batch
from whisperr._encoding.calls import Encoder
from whisperr._encoding.records import Event, Identity
from whisperr._reporting.ledger import Reason
from whisperr._settings import Settings
from whisperr.testing._records import Record, Refused, identified, tracked

Sink = Callable[[Record], None]

_sinks: list[Sink] = []  # of the recordings under way; the innermost gets everything


class RecordingEngine(Engine):
    """Accepts calls and records them."""

    replaced: ClientEngine = None  # what the client had before the recording

    def __init__(self, settings: Settings, encoder: Encoder, closed: bool = False) -> None:
        nowhere: Any = {name: None for name in vars(settings) if name == "journal_dir"}
        super().__init__(dataclasses.replace(settings, **nowhere), encoder, closed)
        self._prefix = os.urandom(10).hex().encode()
        self.intake.append = self._record  # instead of the queue

    def identify(self, fields: dict[str, Any]) -> None:
        super().identify(fields)
        for record in self._queue.take_all():
            self._record(record)

    def for_this_process(self) -> Engine:
        engine = super().for_this_process()
        if isinstance(engine, RecordingEngine):
            engine.replaced = self.replaced
        return engine

    def replacement(self) -> Engine:
        """A recording goes on, whatever is restored."""
        return self

    def retire(self) -> None:
        """The client was garbage collected while a test records: so is what it had before."""
        if self.replaced is not None:
            self.replaced.retire()

    def _record(self, record: Event | Identity) -> None:
        if isinstance(record, Identity):
            _tell(identified(json.loads(record.body), os.getpid()))
        else:
            body = batch([record], self._prefix, self._encoder.environment_bytes)
            (event,) = json.loads(body)["events"]
            _tell(tracked(event, os.getpid()))
        self._ledger.delivered.add(1)

    def _drop(
        self,
        reason: Reason,
        message: str,
        detail: str | None = None,
        types: tuple[str, ...] = (),
    ) -> None:
        _tell(Refused(message, detail, _caller(), os.getpid()))
        super()._drop(reason, message, detail, types)

    def _sender(self) -> SenderThread | None:
        return None  # whatever asks for one has nothing to deliver


class SandboxClient(Whisperr):
    """A client that has a server of the test's own: it sends, also while a test records."""


def begin(sink: Sink) -> None:
    """From now on every client records, those that exist and those to come, into ``sink``."""
    _sinks.append(sink)
    if len(_sinks) == 1:
        install_engine_factory(_recording_engine)
        replace_engines(_recording_engine)


def end(sink: Sink) -> None:
    """Undo ``begin``. After the outermost, every client is again what it was, or would have been."""
    _sinks.remove(sink)
    if not _sinks:
        install_engine_factory(ordinary_engine)
        replace_engines(_engine_before)


def _recording_engine(client: Whisperr, current: ClientEngine) -> ClientEngine:
    if isinstance(client, SandboxClient):
        return current or ordinary_engine(client, None)
    engine = RecordingEngine(
        client._settings, client._encoder, current is not None and current.closed
    )
    engine.replaced = current
    return engine


def _engine_before(client: Whisperr, current: ClientEngine) -> ClientEngine:
    if not isinstance(current, RecordingEngine):
        return current
    if current.replaced is None:  # disabled, or made meanwhile
        return ordinary_engine(client, None, current.closed)
    return current.replaced


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
