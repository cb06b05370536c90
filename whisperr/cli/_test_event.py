"""The doctor sends one event, once and without retries, and explains what came back."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Iterator

from whisperr._clock import monotonic
from whisperr._delivery.answers import (
    Explanation,
    ca_variable,
    explain_answer,
    explain_no_answer,
    proxy_variable,
)
from whisperr._delivery.outcome import Outcome, Reply
from whisperr._encoding.bodies import EVENTS_PATH, batch
from whisperr._encoding.calls import Encoder, encode_call
from whisperr._encoding.values import encode
from whisperr._settings import Settings, make_settings
from whisperr.cli._findings import Finding, advice, ok, wrong

ABOUT = "test event"
NAME = "whisperr_doctor"  # the event and its user
GRACE = 1.0  # seconds more than a request may take, for what has no time-out: the look-up of a name


def settings_for(key: str | None, base_url: str | None, timeout: float) -> Settings:
    """Those of the environment, for one request. Raises ValueError, naming what is unusable."""
    given = {"request_timeout": timeout, "max_retries": 0, "disabled": False, "on_error": None}
    return make_settings(key, given if base_url is None else {**given, "base_url": base_url})


def examine(settings: Settings) -> Iterator[Finding]:
    """Send it, and say in words how that went."""
    message_id = f"{NAME}-{uuid.uuid4().hex[:12]}"
    begun = monotonic()
    reply = _send(settings, message_id)
    seconds = monotonic() - begun
    url = settings.place
    if reply is None:
        yield wrong(
            ABOUT,
            f"The name in {url} could not be looked up within {seconds:.1f} s.",
            "Is the base URL right? Does the name service of this machine answer?",
        )
    elif reply.outcome is Outcome.OK:
        yield ok(ABOUT, f"accepted by {url} in {seconds:.2f} s, $message_id {message_id}")
    else:
        what, change, quotable = _explain(reply, settings)
        said = f"\nIn its own words: {reply.detail}" if reply.detail and quotable else ""
        yield wrong(ABOUT, what + said, change)
        yield from _environment(reply, settings)


def _send(settings: Settings, message_id: str) -> Reply | None:
    """None: it has not come to an end. The thread is left behind then."""
    from whisperr._delivery.transport import (
        Transport,  # here: it brings requests, few findings need it
    )

    encoder = Encoder(settings.app_version, settings.max_event_bytes)
    properties = {"sent_by": "whisperr doctor"}
    call = encode_call(NAME, encoder.event_type(NAME), properties)
    event = (0, time.time_ns(), call, (None, encode(message_id)), None)
    body = batch([event], b"", encoder.environment_bytes)
    deadline = monotonic() + settings.request_timeout
    transport = Transport(settings, lambda seconds: False, lambda: deadline)
    replies: list[Reply] = []
    thread = threading.Thread(
        target=lambda: replies.append(transport.send(EVENTS_PATH, body)), daemon=True
    )
    thread.start()
    thread.join(settings.request_timeout + GRACE)
    return replies[0] if replies else None


def _explain(reply: Reply, settings: Settings) -> Explanation:
    if reply.status is not None:
        return explain_answer(reply.status, reply.detail, settings.base_url)
    error = "no time was left" if reply.interrupted else reply.error or ""
    return explain_no_answer(error, reply.detail, settings.place, settings.request_timeout)


def _environment(reply: Reply, settings: Settings) -> Iterator[Finding]:
    """Variables that have a say in it. Their values may hold passwords, so only their names."""
    url = settings.base_url
    if settings.broker_url is not None:
        return
    names = [proxy_variable(url), ca_variable(url) if reply.status is None else ""]
    if any(names):
        yield advice(
            ABOUT,
            f"The environment has {', '.join(filter(None, names))}, which requests are made with.",
            "Are these meant for this connection, too?",
        )
