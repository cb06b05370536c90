"""The doctor sends one event, once and without retries, and explains what came back."""

from __future__ import annotations

import os
import threading
import time
import uuid
from typing import Iterator

from whisperr._delivery.outcome import Outcome, Reply
from whisperr._encoding.records import EVENTS_PATH, Encoder
from whisperr._settings import Settings, make_settings, option_names
from whisperr.cli._findings import Finding, advice, ok, wrong

ABOUT = "test event"
NAME = "whisperr_doctor"  # the event and its user
GRACE = 1.0  # seconds more than a request may take, for what has no time-out: the look-up of a name

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_CAS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def settings_for(key: str | None, base_url: str, timeout: float) -> Settings:
    """Raises ValueError, naming what is unusable."""
    options = {name: getattr(Settings, name) for name in option_names()}
    options.update(base_url=base_url, request_timeout=timeout, max_retries=0)
    return make_settings(key, options)


def examine(settings: Settings) -> Iterator[Finding]:
    """Send it, and say in words how that went."""
    message_id = f"{NAME}-{uuid.uuid4().hex[:12]}"
    begun = time.monotonic()
    reply = _send(settings, message_id)
    seconds = time.monotonic() - begun
    url = settings.base_url
    if reply is None:
        yield wrong(
            ABOUT,
            f"The name in {url} could not be looked up within {seconds:.1f} s.",
            "Is the base URL right? Does the name service of this machine answer?",
        )
    elif reply.outcome is Outcome.OK:
        yield ok(ABOUT, f"accepted by {url} in {seconds:.2f} s, $message_id {message_id}")
    else:
        what, change = _explain(reply, settings)
        said = f"\nIn its own words: {reply.detail}" if reply.detail else ""
        yield wrong(ABOUT, what + said, change)
        yield from _environment(reply, settings)


def _send(settings: Settings, message_id: str) -> Reply | None:
    """None: it has not come to an end. The thread is left behind then."""
    from whisperr._delivery.transport import (
        Transport,  # here: it brings requests, few findings need it
    )

    encoder = Encoder(settings.app_version, settings.max_event_bytes)
    event = encoder.event(0, NAME, NAME, {"sent_by": "whisperr doctor"}, None, None, message_id)
    body = encoder.batch([event], b"")
    deadline = time.monotonic() + settings.request_timeout
    transport = Transport(settings, lambda seconds: False, lambda: deadline)
    replies: list[Reply] = []
    thread = threading.Thread(
        target=lambda: replies.append(transport.send(EVENTS_PATH, body)), daemon=True
    )
    thread.start()
    thread.join(settings.request_timeout + GRACE)
    return replies[0] if replies else None


def _explain(reply: Reply, settings: Settings) -> tuple[str, str]:
    """What happened, and what to change."""
    status, url = reply.status, settings.base_url
    if status is None:
        return _network(reply, settings)
    if reply.outcome is Outcome.AUTH:
        return (
            f"The key was rejected (status {status}): the server is there.",
            "Set WHISPERR_API_KEY to the ingestion key of one of your apps, wrk_…",
        )
    if reply.outcome is Outcome.REDIRECT:
        return (
            f"{url} redirects (status {status}), which is never followed: the key would travel.",
            "Set the base URL to where the API is.",
        )
    if reply.outcome is Outcome.RETRY:
        return (
            f"The server can't take events now (status {status}). Clients would keep them.",
            "Try again later; if it stays so, ask those who run it.",
        )
    if reply.outcome is Outcome.DROP:
        return (
            f"The server refused the request for good (status {status}): events would be dropped.",
            f"Is {url} the ingestion API? A path behind it is rarely right.",
        )
    change = "The base URL may be of another API, or a proxy has changed the request."
    if "occurred_at" in (reply.detail or ""):
        change = (
            "Set the clock of this machine: it is more than 5 minutes ahead, or 30 days behind."
        )
    return f"The server refused the event (status {status}): events would be dropped.", change


def _network(reply: Reply, settings: Settings) -> tuple[str, str]:
    url, error, detail = settings.base_url, reply.error or "", reply.detail or ""
    for marks, what, change in _NETWORK:
        if error in marks or any(mark in detail for mark in marks):
            return what.format(url=url, timeout=settings.request_timeout), change
    if reply.interrupted:
        error = "no time was left"
    return f"{url} can't be reached ({error}).", "Is the base URL right?"


# The type of the error or a part of its text -> what happened, what to change. The first that fits.
_NETWORK: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("ProxyError",),
        "The proxy between this machine and {url} can't be used.",
        "Correct the proxy in the environment, or list the host in NO_PROXY.",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "The certificate of {url} is not trusted.",
        "Is it the right host? Behind a proxy that reads TLS, or with a certificate of your own, "
        "name its authority: REQUESTS_CA_BUNDLE=/path/to/ca.pem",
    ),
    (
        ("SSLError",),
        "No TLS connection to {url} could be made: is there plain HTTP, perhaps?",
        "Is https:// and the port right in the base URL?",
    ),
    (
        ("ConnectTimeout", "ConnectTimeoutError"),
        "No connection to {url} within {timeout:g} s: something drops the packets.",
        "Does a firewall let this machine out? Is the base URL right?",
    ),
    (
        ("ReadTimeout", "ReadTimeoutError"),
        "{url} took the request, and has not answered within {timeout:g} s.",
        "Is it the right port? If it is only slow, raise request_timeout.",
    ),
    (
        ("NameResolutionError", "Name or service not known", "getaddrinfo"),
        "The host of {url} has no address: the name can't be looked up.",
        "Is the base URL right? Does this machine have a name service?",
    ),
    (
        ("Connection refused", "Errno 111", "Errno 61", "WinError 10061"),
        "Nothing listens at {url}.",
        "Is the host and the port of the base URL right, and is the server running?",
    ),
    (
        ("Connection aborted",),
        "{url} closed the connection without an answer.",
        "Is it an HTTP server? Is https:// missing in the base URL?",
    ),
)


def _environment(reply: Reply, settings: Settings) -> Iterator[Finding]:
    """Variables that have a say in it. Their values may hold passwords, so only their names."""
    names = [name for low in _PROXIES for name in (low, low.upper()) if os.environ.get(name)]
    if reply.status is None and settings.base_url.startswith("https:"):
        names += [name for name in _CAS if os.environ.get(name)]
    if names:
        yield advice(
            ABOUT,
            f"The environment has {', '.join(names)}, which requests are made with.",
            "Are these meant for this connection, too?",
        )
