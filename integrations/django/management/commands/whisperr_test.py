"""``manage.py whisperr_test``: send one event now, and say in words what came back."""

from __future__ import annotations

import contextlib
import logging
import uuid
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from whisperr import WhisperrError, explain
from whisperr.integrations.django._client import new_client, problem_text

EVENT = "whisperr_test"
TIMEOUT = 15.0  # seconds


class Command(BaseCommand):
    help = (
        "Sends one event with the client of the settings, at once and without retries, and explains "
        "the answer. Ends with status 0 if the event was accepted, else with 1."
    )
    requires_system_checks: Any = ()  # it explains by itself what is wrong

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", default=EVENT, help="external_user_id of the event")
        parser.add_argument(
            "--timeout", type=_seconds, default=TIMEOUT, help="seconds to wait at most (15)"
        )

    def handle(self, *, user: str, timeout: float, **options: Any) -> None:
        reports: list[WhisperrError] = []
        try:
            client = new_client(on_error=reports.append, max_retries=0)
        except Exception as error:
            raise CommandError(
                f"Nothing was sent, the settings are unusable: {problem_text(error)}."
            ) from None
        if not client.ready:
            raise CommandError("Nothing was sent: WHISPERR_DISABLED switches whisperr off.")
        url = client.base_url
        message_id = f"{EVENT}-{uuid.uuid4().hex}"
        self._print(f"Sending one event {EVENT!r} for the user {user!r} to {url} ...")
        with _silence():  # what the logger would say is said here, in more words
            client.track(user, EVENT, {"sent_by": "manage.py"}, message_id=message_id)
            settled = client.flush(timeout)
            accepted = client.stats()["delivered"] == 1
            why = "" if accepted else _explain(reports[:], settled, timeout, url)
            client.shutdown(0)
        if not accepted:
            raise CommandError(why)
        self._print(self.style.SUCCESS(f"Delivered: accepted, $message_id {message_id}."))

    def _print(self, text: str) -> None:
        """On any terminal: what it has no characters for is shown as their escapes."""
        # Django's wrapper has an attribute of that name which, up to 4.2, hides the stream's.
        stream = getattr(self.stdout, "_out", self.stdout)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        self.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _explain(reports: list[WhisperrError], settled: bool, timeout: float, url: str) -> str:
    """Why the one event is not delivered."""
    if not reports:
        if settled:
            return "Nothing was sent: the user id is empty, such an event is ignored."
        return f"No answer within {timeout:g} s: unreachable, or very slow. Is WHISPERR_BASE_URL right?"
    report = reports[0]
    if report.type == "dropped" and report.status is None:
        return f"The event was refused before it was sent: {report.message}."
    if report.status is None:
        return f"The server can't be reached. {explain(report, url)}"
    said = f"\nIn its own words: {report.detail}" if report.detail else ""
    return explain(report, url) + said


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise ValueError
    return seconds


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No lines of the logger for as long as this lasts."""
    logger = logging.getLogger("whisperr")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
