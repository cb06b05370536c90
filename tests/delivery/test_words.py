"""What a user reads in the log: the name of the library, what, how many, which, why, what to do."""

from __future__ import annotations

import ast
import json
import logging
import re
import socket
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest

from support import run_program
from support.clients import Reports, open_client
from support.pages import ROOT
from support.rows import named
from support.sockets import Answer, Listener
from whisperr import Whisperr
from whisperr._delivery.answers import named_field
from whisperr.sandbox import Sandbox

NOWHERE = "http://127.0.0.1:9"  # nobody listens
SECRET = "s3cret"  # part of every value that the tests below hand over
USER = f"{SECRET}@example.org"


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What the logger said, from a level on. None of it holds a value or a key."""
    ours = [record for record in caplog.records if record.name.split(".")[0] == "whisperr"]
    said = [record.getMessage() for record in ours]
    assert not any(SECRET in line or re.search(r"wrk_\w", line) for line in said), said
    assert all(line.startswith("whisperr: ") for line in said), said
    return [record.getMessage() for record in ours if record.levelno >= level]


def track(client: Whisperr, count: int = 1) -> None:
    for _ in range(count):
        client.track(USER, "order_paid", {"card": SECRET}, {"ip": SECRET})


# --- every trouble on the way: what it does, and what its line says


def answered(status: int, **more: Any) -> Callable[[Sandbox, str], str]:
    def inject(server: Sandbox, key: str) -> str:
        server.inject(key, {"do": "status", "status": status, "times": 9, **more})
        return server.url

    return inject


def nowhere(server: Sandbox, key: str) -> str:
    return NOWHERE


TROUBLES: dict[str, tuple[Callable[[Sandbox, str], str], str, tuple[str, ...]]] = {
    "refused connection": (nowhere, "retry_exhausted", ("Nothing listens at", "WHISPERR_BASE_URL")),
    "401": (answered(401), "auth", ("status 401", "WHISPERR_API_KEY")),
    "403": (answered(403), "auth", ("status 403", "WHISPERR_API_KEY")),
    "302": (answered(302), "retry_exhausted", ("status 302", "WHISPERR_BASE_URL")),
    "404": (answered(404), "retry_exhausted", ("status 404", "WHISPERR_BASE_URL")),
    "429": (answered(429), "retry_exhausted", ("status 429", "Try again later")),
    "503": (answered(503), "retry_exhausted", ("status 503", "Try again later")),
    "400": (answered(400), "dropped", ("status 400", "WHISPERR_BASE_URL")),
    "410": (answered(410), "dropped", ("status 410", "WHISPERR_BASE_URL")),
}


@pytest.mark.parametrize(("prepare", "kind", "words"), named(TROUBLES))
def test_a_trouble_is_told_with_its_cause_and_what_to_do(
    server: Sandbox,
    key: str,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[Sandbox, str], str],
    kind: str,
    words: tuple[str, ...],
) -> None:
    """One line, which names the event type; what to do is said once, the trouble each time."""
    caplog.set_level(logging.DEBUG, "whisperr")
    url = prepare(server, key)
    reports = Reports()
    client = Whisperr(key, base_url=url, flush_at=999, max_retries=0, on_error=reports)
    for turn in range(2):
        track(client)
        client.flush()
        (line,) = [line for line in lines(caplog, logging.DEBUG) if f": {kind}: " in line]
        for word in ("1 record" if turn == 0 or kind == "dropped" else "2 records", "(order_paid)"):
            assert word in line
        assert all(word in line for word in words) is (turn == 0), line
        assert ("whisperr doctor" in line) is (turn == 0)
        caplog.clear()
    assert {error.event_types for error in reports.all} == {("order_paid",)}
    caplog.clear()
    server.inject(key, {"do": "status", "status": 503, "times": 9})
    client.shutdown(0)


def test_a_name_that_can_not_be_found(
    key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said so, with the host."""

    def not_found(*args: object, **options: object) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", not_found)
    client = Whisperr(key, base_url="http://no-such-host.example", flush_at=999, max_retries=0)
    track(client)
    assert not client.flush()
    (line,) = lines(caplog)
    assert "The host of http://no-such-host.example has no address" in line
    client.shutdown(0)


def test_a_service_that_is_silent(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """A time-out is said as one, with its seconds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Whisperr(key, base_url=url, max_retries=0, flush_at=999, request_timeout=0.2)
        track(client)
        assert not client.flush()
        assert f"{url} took the request, and has not answered within 0.2 s" in lines(caplog)[0]
        client.shutdown(0)


def test_the_field_that_the_service_names(
    server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that is 60 days old: the line names ``occurred_at``, and repeats no other word."""
    with open_client(server.url, key) as client:
        old = datetime.now(timezone.utc) - timedelta(days=60)
        client.track(USER, "order_paid", {"card": SECRET}, occurred_at=old)
        assert client.flush()
        (line,) = lines(caplog)
    assert "status 400 (order_paid). Its answer names occurred_at." in line
    assert "30 days" in line


@pytest.mark.parametrize(
    ("detail", "field"),
    [
        (None, None),
        ("", None),
        ("no such thing", None),
        ('{"error": "events[3].properties.email: not context"}', "properties"),
        ("my_event_type is wrong", None),
        ("$message_id is missing", "$message_id"),
    ],
)
def test_only_a_field_of_ours_is_repeated(detail: str | None, field: str | None) -> None:
    """The rest of what a server says may hold anything."""
    assert named_field(detail) == field


# --- what this side does to a record


def overflow(client: Whisperr) -> None:
    track(client, 4)
    client.flush()


def undelivered(client: Whisperr) -> None:
    track(client, 4)
    client.flush()
    client.shutdown(0)


def refused(client: Whisperr) -> None:
    client.track("u", "order_paid")  # so that the type is known
    client.track(USER, "order_paid", {"card": object(), SECRET: SECRET})


def refused_identity(client: Whisperr) -> None:
    client.identify(USER, traits={"card": object()}, email=SECRET)


def refused_type(client: Whisperr) -> None:
    client.track(USER, f"Not {SECRET}")


def refused_size(client: Whisperr) -> None:
    client.track("u", "order_paid")
    client.track(USER, "order_paid", {"card": SECRET * 1000})


def closed(client: Whisperr) -> None:
    client.shutdown(0)
    track(client, 3)


LOSSES: dict[str, tuple[Callable[[Whisperr], None], str]] = {
    "overflow": (overflow, "queue full: dropped 2 records, the oldest (order_paid)"),
    "undelivered": (
        undelivered,
        "lost 2 records: no time was left to deliver (order_paid). Nothing listens at " + NOWHERE,
    ),
    "refused": (refused, "refused a call: a value of type object (order_paid)"),
    "identity": (refused_identity, "refused a call: a value of type object (identify)"),
    "event type": (refused_type, "refused a call: invalid event_type: expected lowercase"),
    "size": (refused_size, "refused a call: an event of over max_event_bytes (2048) (order_paid)"),
    "closed": (closed, "the client is shut down: this call and all later ones are lost"),
}


@pytest.mark.parametrize(("lose", "words"), named(LOSSES))
def test_a_loss_is_told_with_its_event_type(
    key: str, caplog: pytest.LogCaptureFixture, lose: Callable[[Whisperr], None], words: str
) -> None:
    """What, how many, which; the cause where there is one."""
    caplog.set_level(logging.DEBUG, "whisperr")
    options = {"flush_at": 999, "max_queue_size": 2, "max_event_bytes": 2048, "max_retries": 0}
    client = Whisperr(key, base_url=NOWHERE, **options)
    lose(client)
    assert [line for line in lines(caplog) if f"whisperr: dropped: {words}" in line]
    caplog.clear()
    client.shutdown(0)


def test_many_event_types_are_not_all_listed(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """The most frequent three, and how many more."""
    client = Whisperr(key, base_url=NOWHERE, flush_at=999)
    for number in range(9):
        client.track(USER, f"type_{number % 5}")
    client.identify(USER, email=SECRET)
    client.shutdown(0)
    assert "(type_0, type_1, type_2 and 3 more)" in lines(caplog)[0]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO])
def test_an_ignored_call_is_counted(key: str, caplog: pytest.LogCaptureFixture, level: int) -> None:
    """Seen at debug; it is no part of the ledger, and nobody is called."""
    caplog.set_level(level, "whisperr")
    reports = Reports()
    client = Whisperr(key, base_url=NOWHERE, on_error=reports)
    for user in (None, ""):
        client.track(user, "order_paid", {"card": SECRET})  # type: ignore[arg-type]
        client.identify(user, email=SECRET)  # type: ignore[arg-type]
    for event_type in (None, "", "  "):
        client.track(USER, event_type)  # type: ignore[arg-type]
    stats = client.stats()
    assert (stats["ignored"], stats["accepted"], reports.all) == (7, 0, [])
    said = lines(caplog, logging.DEBUG)
    assert len(said) == (7 if level == logging.DEBUG else 0)
    assert all(line.startswith("whisperr: ignored a call: no ") for line in said)
    client.shutdown(0)


def test_debug_shows_each_request_in_one_line(
    server: Sandbox, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt: what went, and what came."""
    caplog.set_level(logging.DEBUG, "whisperr")
    with open_client(server.url, key, max_retries=1) as client:
        client.identify(USER, email=SECRET)
        server.inject(key, {"do": "status", "status": 503, "times": 1})
        track(client, 2)
        client.track("u", "order_sent")
        assert client.flush()
        said = [line for line in lines(caplog, logging.DEBUG) if "POST" in line]
    assert [line.partition(" in ")[0].partition(", ")[0] for line in said[:2]] == [
        "whisperr: POST /v1/identify: 1 identity"
    ] * 2
    assert ["status 503" in said[0], "status 200" in said[1]] == [True, True]
    assert "whisperr: POST /v1/events/batch: 3 events (order_paid, order_sent), " in said[2]
    assert "bytes: status 202 in " in said[2] and said[2].endswith(" ms")
    assert len(said) == 3


def test_a_journal_that_can_not_be_used_is_named(
    key: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """The folder, the reason, and whom to ask."""
    folder = tmp_path / "none"
    folder.write_text("a file")
    client = Whisperr(key, base_url=NOWHERE, flush_at=999, max_retries=0, journal_dir=folder)
    track(client)
    client.flush()
    (line,) = [line for line in lines(caplog) if "journal: " in line]
    assert f"the journal in {folder} can't be used (" in line
    assert "whisperr doctor --journal-dir" in line
    client.shutdown(0)


# --- however it is written


def test_without_any_logging_configuration(tmp_path: Path) -> None:
    """A script with a wrong port: one line on standard error, that says all."""
    source = f"""
        from whisperr import Whisperr
        w = Whisperr("wrk_any", base_url={NOWHERE!r}, shutdown_timeout=0.5)
        w.track({USER!r}, "order_paid", {{"card": {SECRET!r}}})
    """
    (line,) = run_program(source, tmp_path).stderr.splitlines()
    assert line.startswith(
        "whisperr: dropped: lost 1 record: no time was left to deliver (order_paid). "
        f"Nothing listens at {NOWHERE}. "
    )
    assert line.endswith("`whisperr doctor` looks further.")
    assert SECRET not in line


def test_debug_lines_have_the_name_once(tmp_path: Path) -> None:
    """With the process. They go to what sys.stderr is when they are written, if that is open."""
    source = """
        import io, sys
        from whisperr import Whisperr
        ours, sys.stderr = sys.stderr, io.StringIO()
        w = Whisperr("wrk_any", debug=True)
        w.track(None, "order_paid")
        first = sys.stderr.getvalue()
        sys.stderr.close()
        w.track(None, "order_paid")
        sys.stderr = None
        w.track(None, "order_paid")
        sys.stderr = ours
        w.track(None, "order_paid")
        print(first, end="")
    """
    done = run_program(source, tmp_path)
    assert done.stdout == done.stderr
    assert done.stderr.startswith("whisperr[") and done.stderr.count("whisperr") == 1
    assert done.stderr.endswith("] DEBUG ignored a call: no user\n")


def test_a_record_has_fields(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """For handlers that write JSON, structlog's among them: values, beside the sentence."""
    client = Whisperr(key, base_url=NOWHERE, flush_at=999)
    track(client, 3)
    client.shutdown(0)
    (record,) = caplog.records
    fields = {name: value for name, value in vars(record).items() if name.startswith("whisperr_")}
    assert fields == {
        "whisperr_error": "dropped",
        "whisperr_count": 3,
        "whisperr_status": None,
        "whisperr_event_types": ("order_paid",),
    }
    json.dumps(fields)


# --- all of them


def _modules() -> Iterator[tuple[str, ast.AST]]:
    for folder in ("whisperr", "integrations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("whisperr/integrations/", "whisperr/sandbox/")):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


LEVELS = ("debug", "info", "warning", "error", "exception", "critical")


def test_every_call_of_a_logger_names_the_library() -> None:
    """The text is written there, and begins with it; everything else goes by ``say()``."""
    found = 0
    for name, tree in _modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if getattr(node.func.value, "id", "") not in ("logger", "logging"):
                continue
            if node.func.attr == "log":
                assert name == "whisperr/_reporting/reports.py"
            elif node.func.attr in LEVELS:
                found += 1
                text = node.args[0]
                assert isinstance(text, ast.Constant), (name, node.lineno)
                assert str(text.value).startswith("whisperr: "), (name, node.lineno)
    assert found >= 4


# What the sentences of the delivery, the journal and the encoding may put in: counts, options, names
# of types, event types that are legal, names of ours. Whoever adds one looks at what it may hold.
HARMLESS = {
    "'' if count == 1 else 's'",
    "'' if len(part) == 1 else 's'",
    "', '.join(types[:_MAX_TYPES])",
    "f' and {more} more' if more > 0 else ''",
    "'s' * (count > 1)",
    "MAX_ITEMS",
    "_MAX_CHANNELS",
    "_cause(reply)",  # the type of an error, or a status
    "_records(count)",
    "_records(kept)",
    "count",
    "error.message",
    "error.type",
    "field",  # see named_field
    "flag",
    "len(body)",
    "len(part)",
    "limit",
    "listed(error.event_types)",
    "listed(self._legal_type(event_type))",
    "listed(types_of(part))",
    "message",
    "more",
    "name",
    "name or 'no unit'",
    "path",
    "plural",
    "reason(error)",  # strerror, without a path
    "record.levelname",
    "record.process",
    "reply.status",
    "said",
    "segment.damaged",
    "self._encoder.max_event_bytes",
    "self._folder",  # an option
    "self.max_event_bytes",
    "spilled",
    "status",
    "text",
    "timeout",
    "types",  # of the engine, made by listed()
    "took",
    "type(error).__name__",
    "type(raised).__name__",
    "type_name(changed)",
    "type_name(error)",
    "type_name(given)",
    "type_name(given[name])",
    "type_name(key)",
    "type_name(plain)",
    "type_name(value)",
    "url",  # an option, without credentials
    "what",
    "why",
    "why.rstrip('.')",
    "parts.scheme",
    "proxy_variable(url) or 'the proxy variable'",
    "found.what",
    "found.change",
    "way.verb",
    # Of the relay: names of apps are snake_case, a relay's own name is host, process and random digits.
    "MAX_MESSAGE_BYTES",
    "address",  # where a relay listens, by its option
    "error.strerror or error",  # of listening
    "monotonic() - seen",
    # Of a RabbitMQ: queues are named after apps; host and port make an address for py-amqp.
    "_QUEUE",
    "connection.generation",
    "event",
    "host",
    "message.delivery_tag",
    "names",
    "parts.hostname",
    "port",
    "queue",
    "app",
    "kind_of_error",
    "letters",
    "named",
    "os.getpid()",
    "os.urandom(4).hex()",
    "reason",  # of a dead letter, in our words
    "self._name()",
    "self.app",
    "self.name",
    "sentence",  # of answers.py
    "socket.gethostname()",
    "variable_for(app)",
}
# Not sentences: names of files and variables, and what only goes into a detail.
NO_SENTENCES = {
    "_journal/folder.py",
    "_journal/ownership.py",
    "_journal/format.py",
    "_delivery/session.py",
    "_relay/redis_streams/dead_letters.py",
    "_relay/keys.py",  # what a command says of its own options
}
ONLY_IN_DETAILS = {
    "fnmatch.translate(name)",
    "error",
    "error.strerror",
    "at",
    "'.'.join(error.path)",
    "detail or ''",
}


ROOMS = ("_delivery/", "_journal/", "_encoding/", "_reporting/", "_broker/", "_relay/")


@pytest.mark.skipif(sys.version_info < (3, 9), reason="ast.unparse")
def test_no_sentence_holds_a_value() -> None:
    """Every part of every f-string that may become a line is one that was looked at."""
    unknown, found = [], 0
    for name, tree in _modules():
        room = name.partition("/")[2]
        if not room.startswith(ROOMS):
            continue
        if room in NO_SENTENCES:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue):
                found += 1
                part = ast.unparse(node.value)
                if part not in HARMLESS | ONLY_IN_DETAILS:
                    unknown.append((name, node.lineno, part))
    assert found > 50 and not unknown, unknown


def test_the_pages_show_what_is_said() -> None:
    """The line of the page about the life of an event is that of a script with a wrong port."""
    page = (ROOT / "docs/explanation/delivery.md").read_text(encoding="utf-8")
    assert (
        "whisperr: dropped: lost 1 record: no time was left to deliver (order_paid). Nothing listens at"
        in page
    )


def test_a_page_of_a_proxy_is_not_repeated(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server says, a log has none of it."""
    page = Answer(status=400, body=f"{USER} wrk_x".encode())
    with Listener(lambda heard: page) as listener, open_client(listener.url, key) as client:
        track(client)
        assert client.flush()
    assert len(lines(caplog)) == 1
