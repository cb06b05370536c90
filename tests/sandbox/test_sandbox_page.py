"""What the page asks of the server: rows, pages of them, one in full, a stream, an export, a file."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any, Iterator
from urllib.parse import quote, urlencode, urlsplit

import pytest

import whisperr.sandbox
from support.sandboxes import (
    BATCH,
    DEADLINE,
    IDENTIFY,
    TRACK,
    ApiClient,
    Json,
    channel,
    context,
    event,
    identity,
    running,
    serving,
)
from whisperr.sandbox import Sandbox

STATIC = Path(whisperr.sandbox.__file__).parent / "page" / "static"


@pytest.fixture
def box() -> Iterator[Sandbox]:
    """One of the test's own: the page shows all keys."""
    with Sandbox() as running:
        yield running


def listed(api: ApiClient, **query: object) -> list[Json]:
    """All rows of a filter, page by page."""
    rows: list[Json] = []
    before: object = ""
    while before is not None:
        page = api.get("/page/rows?" + urlencode({**query, "before": before}))
        assert len(page["rows"]) <= 50
        rows += page["rows"]
        before = page["next"]
    return rows


def seen(api: ApiClient, **query: object) -> list[tuple[str, str]]:
    """State and type of the rows of a filter."""
    return [(row["state"], row["type"]) for row in listed(api, **query)]


def row(api: ApiClient, **query: object) -> Json:
    """The newest row of a filter, in full."""
    found = listed(api, **query)[0]
    return dict(api.get(f"/page/rows/{found['seq']}"))


# --- the list


def test_pages_hold_every_row_once(api: ApiClient) -> None:
    """Pages follow each other, newest first, without a gap or a repeat, while more arrives."""
    api.send(*(event(n) for n in range(120)))
    first = api.get("/page/rows")
    api.send(*(event(n) for n in range(120, 140)))
    rest: list[Json] = []
    before = first["next"]
    while before is not None:
        page = api.get(f"/page/rows?before={before}")
        rest += page["rows"]
        before = page["next"]
    ids = [row["message_id"] for row in first["rows"] + rest]
    assert ids == [f"m-{n}" for n in reversed(range(120))]


def test_filters(api: ApiClient, box: Sandbox) -> None:
    """Rows are found by user, type, state, key, process, and any text in them."""
    one, two = "0123456789abcdef0123", "fedcba9876543210fedc"
    api.send(event(1, f"{one}000000000001", external_user_id="ada", event_type="a_b"))
    api.send(event(2, f"{two}000000000001", external_user_id="bob", event_type="a_c"))
    api.send(event(3, "own", external_user_id="ada", properties={"x": '50% größer_! \\ "q"'}))
    api.post(IDENTIFY, identity("ada", channels=[channel()]))
    other = ApiClient(box.url, "wrk_other")
    other.send(event(1, event_type="Bad"))
    other.close()
    assert seen(api, user="ada") == [
        ("arrived", None),
        ("arrived", "order_paid"),
        ("arrived", "a_b"),
    ]
    assert seen(api, type="a_c") == [("arrived", "a_c")]
    assert seen(api, state="refused") == [("refused", "Bad")]
    assert len(seen(api, state="arrived")) == 4
    lanes = {found["type"]: found["lane"] for found in listed(api)}
    assert len({lanes["a_b"], lanes["a_c"], lanes["Bad"]}) == 3
    assert seen(api, lane=lanes["a_b"]) == [("arrived", "a_b")]
    accounts = {found["account"] for found in listed(api)}
    assert sorted(len(listed(api, account=number)) for number in accounts) == [1, 4]
    for text in ("50%", "größer_!", "\\", '"q"', "GR", "own"):
        assert seen(api, text=text) == [("arrived", "order_paid")], text
    assert seen(api, text="5_%") == []
    assert seen(api, user="ada", type="a_b", state="arrived", text="a_b") == [("arrived", "a_b")]
    assert seen(api, user="ada", type="a_c") == []


@pytest.mark.parametrize(
    ("problem", "query"),
    [
        ("state: must be one of arrived", "state=x"),
        ("account: must be a number", "account=x"),
        ("lane: must be a number", "lane=-1"),
        ("before: must be a number", "before=" + "9" * 30),
    ],
)
def test_a_filter_that_is_none_is_named(problem: str, query: str, api: ApiClient) -> None:
    """What cannot be a filter is refused with its name."""
    assert api.get(f"/page/rows?{query}")["error"].startswith(problem)


def test_one_event_in_full(api: ApiClient, box: Sandbox, key: str) -> None:
    """An event shows its content, its request, and every other time that its id was seen."""
    box.inject(key, {"do": "status", "status": 503})
    sent = event(1)
    api.send(sent)
    api.send(sent)
    api.send(sent)
    found = row(api, state="arrived")
    assert json.loads(found["body"]) == sent
    assert (found["sent"]["path"], found["sent"]["status"]) == (BATCH, 202)
    assert [copy["state"] for copy in found["copies"]] == ["failed", "arrived", "twice"]
    assert found["copies"][0]["reason"] == "injected fault: status 503"
    assert box.ledger(key)["retried"] == 1
    assert api.get("/page/rows/999999") == {"error": "no such row; it may have been let go"}


def test_the_reason_of_a_refusal(api: ApiClient, box: Sandbox, key: str) -> None:
    """A refused event says what is wrong with it; the innocent ones of its batch are not blamed."""
    api.send(event(1), event(2, event_type="Bad", properties=None), event(3))
    assert [found["message_id"] for found in listed(api)] == ["m-2"]
    found = row(api)
    assert found["reason"].splitlines() == [
        "events[1].event_type: must be lowercase snake_case",
        "events[1].properties: must be an object",
    ]
    api.post(BATCH, b'{"events": [', User_Agent="curl/8")
    assert row(api)["reason"].startswith("body: ")
    assert row(api)["body"] == '{"events": ['
    api.post(IDENTIFY, identity("ada", email="a@example.org"))
    assert (row(api)["user"], row(api)["reason"]) == ("ada", "email: unknown field")
    api.post(BATCH, {"events": [event(4)]}, User_Agent="curl/8")
    assert row(api)["reason"] == "header User-Agent: must be whisperr-python/<version>"
    api.post(BATCH, {"events": [event(4)]}, X_API_Key="nonsense")
    assert row(api)["reason"].startswith("401: no valid key")
    assert ticks(box, 1)[0]["counts"]["refused"] == 7
    api.post(BATCH, b" " * (9 * 1024 * 1024))
    assert row(api)["reason"].startswith("413: more than")
    box.inject(key, {"do": "refuse", "where": {"properties.n": 5}})
    api.send(event(5), event(6))
    assert [(f["message_id"], f["state"]) for f in listed(api)[:2]] == [
        ("m-6", "failed"),
        ("m-5", "refused"),
    ]


def test_the_key_is_not_shown(api: ApiClient, box: Sandbox) -> None:
    """A long key is shortened wherever it is shown, and in the export."""
    secret = "wrk_live_0123456789abcdefghijkl"
    other = ApiClient(box.url, secret)
    other.send(event(1))
    other.close()
    shown = json.dumps([listed(api), row(api), ticks(box, 1)])
    assert "wrk_live" in shown
    assert secret not in shown
    assert secret not in exported(box)


def test_a_user(api: ApiClient) -> None:
    """A user is the latest identity that was accepted, and a count of events by state."""
    api.send(event(1, external_user_id="ada"), event(2, external_user_id="ada"))
    api.send(event(3, external_user_id="ada", event_type="Bad"))
    api.post(IDENTIFY, identity("ada", traits={"plan": "free"}))
    api.post(IDENTIFY, identity("ada", traits={"plan": "pro"}, channels=[channel()]))
    api.post(IDENTIFY, identity("ada", traits={}))
    known = api.get("/page/user?user=ada")
    assert known["identity"] == identity("ada", traits={"plan": "pro"}, channels=[channel()])
    assert known["events"] == {"arrived": 2, "refused": 1}
    assert api.get("/page/user?user=eve")["identity"] is None


def exported(box: Sandbox, query: str = "") -> str:
    connection = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=DEADLINE)
    try:
        connection.request("GET", f"/page/export?{query}")
        response = connection.getresponse()
        assert response.headers["Content-Disposition"].startswith("attachment")
        return response.read().decode("ascii")
    finally:
        connection.close()


def test_the_export(api: ApiClient, box: Sandbox) -> None:
    """The export is JSON lines, oldest first, of all that the filters let through."""
    api.send(*(event(n) for n in range(500)))
    for start in (500, 1000):
        api.send(*(event(n) for n in range(start, start + 500)))
    api.post(TRACK, b"no JSON")
    lines = [json.loads(line) for line in exported(box).splitlines()]
    assert [line["body"]["properties"]["n"] for line in lines[:-1]] == list(range(1500))
    assert (lines[-1]["state"], lines[-1]["body"]) == ("refused", "no JSON")
    assert len(exported(box, "state=refused").splitlines()) == 1


# --- the stream


@contextlib.contextmanager
def streaming(
    box: Sandbox, query: str = "", **headers: str
) -> Iterator[Iterator[tuple[int, Json]]]:
    """The messages of a stream, each with its id."""
    connection = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=DEADLINE)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", f"/page/stream?{query}", headers=named)
    response = connection.getresponse()
    assert response.headers["Content-Type"].startswith("text/event-stream")

    def messages() -> Iterator[tuple[int, Json]]:
        while True:
            number = response.readline().decode().partition("id: ")[2]
            data = response.readline().decode().partition("data: ")[2]
            assert response.readline() == b"\n"
            yield int(number), json.loads(data)

    try:
        yield messages()
    finally:
        response.close()
        connection.close()


def ticks(box: Sandbox, count: int) -> list[Json]:
    with streaming(box) as messages:
        return [data for _, data in itertools.islice(messages, count)]


def until(messages: Iterator[tuple[int, Json]], wanted: Any) -> tuple[int, Json]:
    """The first message that is as wanted."""
    return next((number, data) for number, data in messages if wanted(data))


def test_the_stream_tells_what_is_new(api: ApiClient, box: Sandbox) -> None:
    """Rows that match the filters come as they arrive, once, with the counts of everything."""
    api.send(event(0, event_type="wanted"))
    with streaming(box, "type=wanted") as messages:
        assert next(messages)[1]["rows"] == []
        api.send(event(1, event_type="wanted"), event(2, event_type="other"))
        number, tick = until(messages, lambda data: data["rows"])
        assert [found["message_id"] for found in tick["rows"]] == ["m-1"]
        assert tick["counts"]["arrived"] == 3
        assert sum(sum(second[1:]) for second in tick["traffic"]["seconds"]) == 3
        assert dict(tick["traffic"]["sizes"])[2] == 1
        assert next(messages)[1]["rows"] == []
        api.send(event(3, event_type="wanted"))
    # A browser that comes back says what it had last.
    with streaming(box, "type=wanted&after=0", Last_Event_ID=str(number)) as messages:
        assert [found["message_id"] for found in next(messages)[1]["rows"]] == ["m-3"]


def test_a_flood_is_skipped_over(api: ApiClient, box: Sandbox) -> None:
    """When more is new than fits, the newest come, and the message says that some were skipped."""
    with streaming(box) as messages:
        next(messages)
        api.send(*(event(n) for n in range(500)))
        _, tick = until(messages, lambda data: data["rows"])
        assert tick["skipped"]
        assert [found["message_id"] for found in tick["rows"]][:2] == ["m-499", "m-498"]
        assert len(tick["rows"]) == 50


GENERATED = "0123456789abcdef0123"  # how the ids of one process begin


def test_rows_name_the_relay_that_sent_them(api: ApiClient, box: Sandbox) -> None:
    """In a list, in one row and in an export; a process is one, whichever way its events come."""
    for number, relay in enumerate((None, "17-0a1b2c3d", "18-4e5f6a7b")):
        own_id = f"{GENERATED}{number:012x}"
        api.post(BATCH, {"events": [event(number, own_id)]}, X_Whisperr_Relay=relay)
    rows = listed(api)
    assert [row["relay"] for row in rows] == ["18-4e5f6a7b", "17-0a1b2c3d", None]
    assert len({row["lane"] for row in rows}) == 1
    assert api.get(f"/page/rows/{rows[0]['seq']}")["relay"] == "18-4e5f6a7b"
    lines = [json.loads(line) for line in exported(box).splitlines()]
    assert [line["relay"] for line in lines] == [None, "17-0a1b2c3d", "18-4e5f6a7b"]


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells")
def test_a_relay_is_not_taken_for_the_processes_whose_events_it_sends(
    api: ApiClient, box: Sandbox
) -> None:
    """Its connection names it alone: the lane of what has no id of ours, and no other."""
    events = [event(1, f"{GENERATED}{1:012x}"), event(2, "my-own-id")]
    api.post(BATCH, {"events": events}, X_Whisperr_Relay="17-0a1b2c3d")
    with streaming(box) as messages:
        _, tick = until(messages, lambda data: any(lane["process"] for lane in data["lanes"]))
    own, relay = tick["lanes"]
    assert (own["name"], own["process"], own["relays"]) == (GENERATED, "", ["17-0a1b2c3d"])
    assert (relay["name"], relay["relays"]) == ("relay 17-0a1b2c3d", ["17-0a1b2c3d"])
    assert relay["process"].startswith(f"{os.getpid()} ")


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells")
def test_a_lane_has_the_name_of_its_process(api: ApiClient, box: Sandbox) -> None:
    """A process is shown by its pid and program, as long as it lives."""
    api.send(event(1))
    with streaming(box) as messages:
        _, tick = until(messages, lambda data: data["lanes"] and data["lanes"][0]["process"])
    assert tick["lanes"][0]["process"].startswith(f"{os.getpid()} ")
    assert tick["lanes"][0]["rows"] == 1


# --- faults for everybody


def test_faults_for_every_key(api: ApiClient, box: Sandbox, key: str) -> None:
    """A fault that was ordered without a key strikes any; a key's own come first."""
    assert api.post("/sandbox/faults", {"do": "status", "status": 503}) == (200, {"injected": 1})
    box.inject(key, {"do": "status", "status": 500})
    assert api.send(event(1))[0] == 500
    assert [api.send(event(1))[0] for _ in range(2)] == [503, 202]
    status, answer = api.post("/sandbox/faults", {"do": "explode"})
    assert (status, answer["error"][:14]) == (400, "faults[0].do: ")


def test_a_share_of_the_requests(api: ApiClient, box: Sandbox, key: str) -> None:
    """A share strikes evenly, for ever unless it is told how often."""
    box.inject(key, {"do": "status", "status": 503, "share": 0.2})
    answers = [api.send(event(1))[0] for _ in range(20)]
    assert answers == [202, 202, 202, 202, 503] * 4
    box.clear_faults(key)
    box.inject(key, {"do": "status", "status": 503, "share": 0.5, "times": 1})
    assert [api.send(event(1))[0] for _ in range(4)] == [202, 503, 202, 202]
    for share in (0, 1.5, "x", True, -1):
        with pytest.raises(ValueError, match=r"faults\[0\].share: must be more than 0"):
            box.inject(key, {"do": "reset", "share": share})


# --- the files


def test_the_policy_of_the_page(box: Sandbox) -> None:
    """The browser is told to run the page's own files only, and no other page may frame or read it."""
    connection = http.client.HTTPConnection(urlsplit(box.url).netloc, timeout=DEADLINE)
    paths = ["/", *(f"/page/{file.name}" for file in STATIC.iterdir() if file.suffix != ".html")]
    for path in [*paths, "/page/rows", "/page/user?user=x", "/page/rows?state=x"]:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    connection.close()


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """No file of the page names another machine, or makes markup of text."""
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        for sign in ("http:", "https:", "//cdn", "innerHTML =", "insertAdjacentHTML", "eval("):
            assert sign not in text, (file.name, sign)


# --- the file


def arrivals(api: ApiClient, key: str) -> tuple[int, int]:
    ledger = api.get(f"/sandbox/{quote(key)}/ledger")
    return ledger["arrived"], ledger["twice"]


def test_a_file_is_gone_on_with(tmp_path: Path, key: str) -> None:
    """With --db a sandbox that starts again knows all that an earlier one had seen."""
    file, key = tmp_path / "events.db", f"{key}_that_is_long_enough_to_be_a_real_one"
    with serving("--numbers", "--db", str(file)) as server:
        api = ApiClient(server.url, key)
        api.send(event(1), event(2))
        api.post(IDENTIFY, identity("ada"))
        api.close()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with serving("--numbers", "--db", str(file)) as server:
        api = ApiClient(server.url, key)
        assert arrivals(api, key) == (2, 0)
        api.send(event(2), event(3), event(1, "another id"))
        api.post(IDENTIFY, identity("ada"))
        assert arrivals(api, key) == (4, 2)
        assert api.get(f"/sandbox/{key}/ledger")["identities_twice"] == 1
        assert len(listed(api)) == 7
        api.close()
    assert not any(key.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_killed_sandbox_keeps_what_it_answered(tmp_path: Path, key: str) -> None:
    """What was answered is in the file, also when the sandbox is killed."""
    file = tmp_path / "events.db"
    with serving("--db", str(file)) as server:
        api = ApiClient(server.url, key)
        for n in range(20):
            api.send(event(n))
        server.process.kill()
        server.process.wait(DEADLINE)
        api.close()
    with serving("--db", str(file)) as server:
        api = ApiClient(server.url, key)
        assert arrivals(api, key) == (20, 0)
        api.close()


def complaint(*options: str) -> str:
    """What a sandbox says that does not start."""
    with running([sys.executable, "-m", "whisperr.sandbox", *options]) as process:
        assert process.wait(DEADLINE) == 1
        assert process.stderr is not None
        return process.stderr.read()


def test_two_sandboxes_on_one_file(tmp_path: Path) -> None:
    """The second is refused and the first goes on, also where the file is of an earlier run."""
    path = str(tmp_path / "events.db")
    for _ in range(2):
        with serving("--db", path) as first:
            assert "in use" in complaint("--db", path)
            api = ApiClient(first.url, "wrk_file")
            assert api.send(event())[0] == 202
            api.close()
            first.process.send_signal(signal.SIGTERM)
            assert first.process.wait(DEADLINE) == 0


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A file that is in use, no database, or not one of ours is refused, and not written to."""
    text, foreign, used = tmp_path / "text", tmp_path / "foreign.db", tmp_path / "used.db"
    text.write_text("Dear diary, " * 1000)
    with contextlib.closing(sqlite3.connect(foreign)) as database:
        database.execute("CREATE TABLE precious (x)")
        database.commit()
    before = foreign.read_bytes()
    assert "file is not a database" in complaint("--db", str(text))
    assert "not one of a sandbox" in complaint("--db", str(foreign))
    assert foreign.read_bytes() == before
    assert text.read_text() == "Dear diary, " * 1000
    assert "No such file" in complaint("--db", str(tmp_path / "no" / "where"))
    with serving("--db", str(used)):
        assert "is another sandbox running on it?" in complaint("--db", str(used))


def test_only_so_many_are_kept(key: str) -> None:
    """Beyond --keep the oldest rows are let go; the counts stay."""
    with serving("--keep", "1000") as server:
        api = ApiClient(server.url, key)
        for start in range(0, 10_000, 500):
            api.send(*(event(n) for n in range(start, start + 500)))
        assert arrivals(api, key) == (10_000, 0)
        kept = api.get(f"/sandbox/{key}/events")
        assert 1000 <= len(kept) < 1000 + 4096 + 500
        assert kept[-1]["properties"]["n"] == 9999
        api.close()


def test_a_lost_browser_costs_nothing(api: ApiClient, box: Sandbox) -> None:
    """A stream whose browser has gone ends, and the server with it in time."""
    streams = [streaming(box) for _ in range(20)]
    for stream in streams:
        with stream as messages:
            next(messages)
    api.send(event(1, context=context("m-1")))
    with streaming(box) as messages:
        next(messages)
        box.stop()
        with pytest.raises((http.client.IncompleteRead, ConnectionError, AssertionError)):
            for _ in messages:
                pass
