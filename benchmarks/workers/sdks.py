"""One face for all SDKs: a client, what tracks one event, and what waits until all are delivered.

Each is configured as its documentation says for production: defaults, no debug, its own
background thread. Two things are set for all alike: a queue so long that nothing is dropped
in a measurement, and, where the server is made to wait on purpose, a longer time-out.

Both releases of ``whisperr`` are called directly; the wrappers around the others cost 0.1 µs.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, Tuple

EVENT = "payment_failed"  # what the sink counts: once in every event and every identity
WAIT = 300  # seconds, for a peer whose flush wants a limit

Payload = Tuple[str, str, Dict[str, Any]]
Track = Callable[[str, str, Dict[str, Any]], object]


@dataclass(frozen=True)
class Client:
    track: Track
    flush: Callable[[], object]  # a barrier: everything delivered, or given up
    identify: Callable[[str, dict[str, Any]], object] | None = None


@dataclass(frozen=True)
class Options:
    """What a measurement asks of every SDK."""

    url: str
    queue: int = 10_000  # events; more than are ever queued at once
    timeout: float = 0.0  # seconds for one request; 0: the SDK's default
    journal_dir: str = ""


def open_client(sdk: str, options: Options) -> Client:
    return _OPENERS[sdk](options)


def payload(n: int, keys: int = 5) -> Payload:
    """The arguments of one call, new objects each time; with 5 keys 300 bytes on the wire of whisperr."""
    properties: dict[str, Any] = {
        "n": n,
        "plan_id": f"pro_{n % 12}",
        "price": 49.9 + n % 7,
        "currency": "EUR",
        "is_resubscribe": n % 2 == 0,
    }
    if keys != len(properties):
        properties = {f"key_{index}": f"value {n} {index}" for index in range(keys)}
    return f"user_{n:06}", EVENT, properties


def traits(n: int) -> dict[str, Any]:
    return {"plan": f"pro_{n % 12}", "seats": n % 7, "last_event": EVENT}


# --- the SDKs


def _none(options: Options) -> Client:
    """The empty function: what the harness itself costs."""

    def track(user: str, event: str, properties: dict[str, Any]) -> None:
        pass

    def identify(user: str, traits: dict[str, Any]) -> None:
        pass

    return Client(track, lambda: None, identify)


def _whisperr(options: Options) -> Client:
    from whisperr import Whisperr

    wanted: dict[str, Any] = {
        "max_queue_size": options.queue,
        # Ours bounds the bytes of the queue, too; 0.2.1 has no such option.
        "max_queue_bytes": max(64 << 20, 1024 * options.queue),
    }
    if options.timeout:
        wanted["request_timeout"] = options.timeout
    if options.journal_dir:
        wanted["journal_dir"] = options.journal_dir
        wanted["max_journal_bytes"] = max(64 << 20, 1024 * options.queue)
    known = inspect.signature(Whisperr).parameters
    given = {name: value for name, value in wanted.items() if name in known}
    client = Whisperr("wrk_benchmark", base_url=options.url, **given)

    def identify(user: str, traits: dict[str, Any]) -> None:
        client.identify(user, traits=traits)

    return Client(client.track, client.flush, identify)


def _posthog(options: Options) -> Client:
    from posthog import Posthog

    timeout = {"timeout": options.timeout} if options.timeout else {}
    client = Posthog("phc_benchmark", host=options.url, max_queue_size=options.queue, **timeout)
    # Newer ones give up a flush after 10 s, unless told otherwise.
    limited = "timeout_seconds" in inspect.signature(client.flush).parameters
    flush = (lambda: client.flush(timeout_seconds=None)) if limited else client.flush

    def track(user: str, event: str, properties: dict[str, Any]) -> object:
        return client.capture(event=event, distinct_id=user, properties=properties)

    def identify(user: str, traits: dict[str, Any]) -> object:
        return client.set(distinct_id=user, properties=traits)

    return Client(track, flush, identify)


def _segment(options: Options) -> Client:
    from segment.analytics.client import Client as Segment

    timeout = {"timeout": options.timeout} if options.timeout else {}
    client = Segment("benchmark", host=options.url, max_queue_size=options.queue, **timeout)
    return Client(client.track, client.flush, client.identify)


def _opentelemetry(options: Options) -> Client:
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider()
    exporter = OTLPLogExporter(f"{options.url}/v1/logs", timeout=options.timeout or None)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(exporter, max_queue_size=options.queue)
    )
    emit = _otel_emit(provider.get_logger("benchmark"))
    severity = SeverityNumber.INFO

    def track(user: str, event: str, properties: dict[str, Any]) -> None:
        properties["user.id"] = user
        emit(event, properties, severity)

    return Client(track, lambda: provider.force_flush(WAIT * 1000))


def _otel_emit(logger: Any) -> Callable[[str, dict[str, Any], Any], None]:
    """The logger's own emit, past the standard library's logging, which would only add to it."""
    from time import time_ns

    if "body" in inspect.signature(logger.emit).parameters:

        def emit(body: str, attributes: dict[str, Any], severity: Any) -> None:
            logger.emit(
                timestamp=time_ns(), severity_number=severity, body=body, attributes=attributes
            )

        return emit
    from opentelemetry.sdk._logs import LogRecord

    resource = logger.resource

    def emit_record(body: str, attributes: dict[str, Any], severity: Any) -> None:
        logger.emit(
            LogRecord(
                timestamp=time_ns(),
                severity_number=severity,
                body=body,
                attributes=attributes,
                trace_id=0,
                span_id=0,
                resource=resource,
            )
        )

    return emit_record


def _sentry(options: Options) -> Client:
    import sentry_sdk

    dsn = options.url.replace("://", "://benchmark@") + "/1"
    sentry_sdk.init(dsn, transport_queue_size=options.queue)
    capture, client = sentry_sdk.capture_event, sentry_sdk.get_client()

    def track(user: str, event: str, properties: dict[str, Any]) -> object:
        return capture(
            {"message": event, "level": "info", "user": {"id": user}, "extra": properties}
        )

    return Client(track, lambda: client.flush(WAIT))


_OPENERS: dict[str, Callable[[Options], Client]] = {
    "none": _none,
    "whisperr": _whisperr,
    "posthog": _posthog,
    "segment": _segment,
    "opentelemetry": _opentelemetry,
    "sentry": _sentry,
}
