"""What a user's type checker sees: typical calls, and mistakes that it must find.

Never run. The environment ``type`` has mypy --strict and pyright (strict) read it against the
installed wheel. A line with two ``ignore`` comments must be an error in both: where one is not, the
comment is superfluous, and that is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import whisperr
from whisperr import BillingEvent, Whisperr, WhisperrError, __version__, lifecycle
from whisperr.integrations.asgi import FlushOnShutdown
from whisperr.integrations.aws_lambda import deliver
from whisperr.sandbox import Sandbox
from whisperr.testing import Identified, Recording, Refused, Tracked, recording


def heard(error: WhisperrError) -> None:
    words: str = f"{error.type} {error.message}"
    status: int | None = error.status
    count: int = error.count
    print(words, status, count)


def clients() -> Sequence[Whisperr]:
    return [
        Whisperr("wrk_k"),
        Whisperr("wrk_k", base_url="http://127.0.0.1:8765", on_error=heard, flush_at=5),
        Whisperr(os.environ.get("WHISPERR_API_KEY"), disabled=True),
        Whisperr(api_key="wrk_k", journal_dir=Path("journal"), shutdown_timeout=2.5),
        Whisperr(broker_url="redis://127.0.0.1:6379/0", app="shop"),
        Whisperr("wrk_k", journal_dir="journal", on_error=lambda error: print(error.message)),
    ]


def without_visitors(call: dict[str, Any]) -> dict[str, Any] | None:
    return None if call["external_user_id"].startswith("visitor_") else call


def filtered() -> Whisperr:
    Whisperr("wrk_k", before_send=heard)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Whisperr("wrk_k", redact=[7])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    return Whisperr("wrk_k", before_send=without_visitors, redact=["*password*", re.compile("x")])


def events(client: Whisperr) -> None:
    client.track("user_42", "payment_failed")
    client.track("user_42", "payment_failed", {"amount": Decimal("12.5"), "tries": [1, 2]})
    client.track("user_42", BillingEvent.REFUND_GRANTED, context={"ip": "::1"})
    client.track(
        "user_42", "plan_upgraded", occurred_at=datetime.now(timezone.utc), message_id="own-1"
    )
    nothing: None = client.track("user_42", "seen")  # type: ignore[func-returns-value]
    print(nothing)


def identities(client: Whisperr) -> None:
    client.identify("user_42", traits={"plan": "pro"}, email="ada@example.org")
    client.identify("user_42", channels=[{"channel": "email", "address": "a@example.org"}])


def waits(client: Whisperr) -> bool:
    settled: bool = client.flush() and client.flush(2) and client.shutdown(timeout=0.5)
    told: dict[str, Any] = client.stats()
    lifecycle.start_all()
    url: str = client.base_url
    lifecycle.after_pass(lifecycle.start_all)
    figures: dict[str, Any] = lifecycle.stats_all()
    lifecycle.after_restore()
    numbers: list[int] = lifecycle.deliver_on_signals() + lifecycle.deliver_on_signals(15)
    return (
        settled
        and lifecycle.flush_all(5.0)
        and lifecycle.shutdown_all()
        and bool(told and numbers and url and figures)
    )


@deliver
def handler(event: dict[str, str], context: object) -> int:
    return len(event)


@deliver(timeout=0.5)
async def late_handler(event: dict[str, str], context: object) -> int:
    return handler(event, context)


def the_default() -> Whisperr:
    whisperr.track("user_42", "payment_failed", {"amount": 12.5})
    whisperr.identify("user_42", traits={"plan": "pro"})
    whisperr.configure(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    whisperr.configure("wrk_k", flush_att=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    flushed: bool = whisperr.flush(2)
    return whisperr.configure("wrk_k", flush_at=2, disabled=flushed)


async def in_a_block() -> None:
    with Whisperr("wrk_k") as w:
        w.track("user_42", "seen")
    async with Whisperr("wrk_k") as w:
        w.track("user_42", "seen")


async def asynchronous(client: Whisperr) -> bool:
    flushed: bool = await client.aflush(1.0)
    return await client.ashutdown() and flushed


def served(application: Any) -> FlushOnShutdown:
    return FlushOnShutdown(application, timeout=3.0)


def a_test(whisperr_events: Recording) -> None:
    tracked: Tracked = whisperr_events.assert_tracked("payment_failed", user="user_42")
    known: Identified = whisperr_events.assert_identified("user_42")
    refused: list[Refused] = whisperr_events.refused
    print(tracked, known, refused, whisperr_events[0], whisperr_events[:2], __version__)
    with recording() as more:
        more.assert_nothing_tracked()


def a_sandbox() -> str:
    with Sandbox() as sandbox:
        return sandbox.url


def mistakes(client: Whisperr) -> None:
    Whisperr(42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Whisperr("wrk_k", flush_at="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Whisperr("wrk_k", flush_att=20)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.track("user_42")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.track("user_42", 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.track("u", "seen", [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.identify("u", mail="a@b.c")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.flush("soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.send  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore
