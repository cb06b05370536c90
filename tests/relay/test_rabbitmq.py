"""A RabbitMQ between clients, relays and a server: all of them real. What is confirmed arrives."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import run_program
from support.clients import NEVER, Reports, assert_closed, numbers_at, track
from support.deadlines import DEADLINE, generous, wait_until
from support.rabbits import LARGEST, OwnRabbit
from support.relays import (
    IMPORTS,
    assert_all_arrived,
    command,
    command_json,
    findings,
    publish,
    running_relay,
)
from support.tls import https_before
from whisperr import Whisperr
from whisperr._broker.amqp_connection import Connection
from whisperr._relay.interfaces import Depth, Waiting
from whisperr._relay.rabbitmq.broker import RabbitBroker, RabbitPresence
from whisperr._relay.rabbitmq.content import about_of, fields_of
from whisperr._settings import find
from whisperr.sandbox import Sandbox

QUEUE, DEAD = "whisperr.events.shop", "whisperr.dead-letters"
# One worker of pytest-xdist has the broker of this module.
pytestmark = pytest.mark.xdist_group("rabbitmq")

KINDS = ("classic", "quorum")
NOWHERE = "amqp://127.0.0.1:9"
NO_SERVER = "http://127.0.0.1:9"


@pytest.fixture
def client(own_rabbit: OwnRabbit) -> Iterator[Whisperr]:
    """Of a queue that is there, and that nobody takes from."""
    own_rabbit.declare(QUEUE)
    made = Whisperr(
        broker_url=own_rabbit.url, app="shop", flush_at=NEVER, flush_interval=NEVER, max_retries=0
    )
    yield made
    made.shutdown(generous(5.0))
    assert_closed(made.stats())


def numbers(rabbit: OwnRabbit) -> list[int]:
    bodies = [json.loads(bytes(message.body)) for message in rabbit.messages(QUEUE)]
    return [event["properties"]["n"] for body in bodies for event in body.get("events", ())]


# --- publishing


def test_what_is_published(own_rabbit: OwnRabbit, client: Whisperr) -> None:
    """Identities first, then whole batches, for the disk; the headers say what a relay has to know."""
    track(client, range(3))
    client.identify("user", email="user@example.org")
    assert client.flush()
    stats = client.stats()
    assert (stats["delivered"], stats["requests"], stats["pending"]) == (4, 2, 0)
    identity, events = own_rabbit.messages(QUEUE)
    assert events.properties["delivery_mode"] == 2
    assert len(identity.headers.pop("id")) == 32
    common = {"v": "1", "app": "shop", "key": ""}
    assert identity.headers == {**common, "kind": "identity", "n": 1}
    assert events.headers == {**common, "kind": "events", "n": 3, "id": ""}
    assert numbers(own_rabbit) == [0, 1, 2]


def test_a_queue_that_is_not_there(
    own_rabbit: OwnRabbit, client: Whisperr, caplog: pytest.LogCaptureFixture
) -> None:
    """A confirm of what can't be routed is none: it is kept, told, and goes when there is one."""
    own_rabbit.clear(QUEUE)
    track(client, range(3))
    assert not client.flush()
    assert (client.stats()["delivered"], client.stats()["pending"]) == (0, 3)
    assert f"The broker at {own_rabbit.url} has no queue for these messages." in caplog.text
    own_rabbit.declare(QUEUE)
    assert client.flush()
    assert numbers(own_rabbit) == [0, 1, 2]


def test_a_queue_that_refuses(
    own_rabbit: OwnRabbit, client: Whisperr, caplog: pytest.LogCaptureFixture
) -> None:
    """A nack counts for nothing; the next message is matched to its own confirm."""
    own_rabbit.clear(QUEUE)
    own_rabbit.declare(QUEUE, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    track(client, [0])
    assert client.flush()
    track(client, [1])
    assert not client.flush()
    assert client.stats()["delivered"] == 1
    assert "its queue is full" in caplog.text
    own_rabbit.ask(lambda channel: channel.queue_purge(QUEUE))
    assert client.flush()
    assert numbers(own_rabbit) == [1]


def test_an_alarm(
    own_rabbit: OwnRabbit, client: Whisperr, caplog: pytest.LogCaptureFixture
) -> None:
    """A broker that is short of memory takes what it was sent when that is over: so it is sent once."""
    track(client, [0])
    assert client.flush()  # the connection is open
    with own_rabbit.alarm():
        track(client, [1, 2])
        for n in range(3, 6):
            assert not client.flush(0.5)
            track(client, [n])
        assert (client.stats()["delivered"], client.stats()["requests"]) == (1, 2)
        assert wait_until(lambda: "takes nothing: it has too little memory" in caplog.text)
    assert client.flush(DEADLINE)
    assert sorted(numbers(own_rabbit)) == list(range(6))
    assert client.stats()["requests"] == 3


def test_the_end_of_a_process_during_an_alarm(own_rabbit: OwnRabbit, client: Whisperr) -> None:
    """It is bounded, and what nobody has confirmed counts as lost."""
    track(client, [0])
    assert client.flush()
    with own_rabbit.alarm():
        track(client, [1])
        assert not client.flush(0.5)
        assert not client.shutdown(2)
        assert client.stats()["dropped"] == {"undelivered": 1}


def test_a_broker_that_is_frozen(own_rabbit: OwnRabbit, client: Whisperr) -> None:
    """A deadline bounds the wait; what may have arrived goes again under its ids. A late confirm
    counts for nothing else."""
    track(client, [1])
    assert client.flush()
    with own_rabbit.frozen():
        track(client, [2])
        assert not client.flush(0.2)
    assert client.flush(DEADLINE)
    ids = {
        (event["properties"]["n"], event["context"]["$message_id"])
        for message in own_rabbit.messages(QUEUE)
        for event in json.loads(bytes(message.body))["events"]
    }
    assert len(ids) == 2 and {n for n, _ in ids} == {1, 2}


def test_a_body_over_the_limit_is_split(own_rabbit: OwnRabbit) -> None:
    """Its halves are published; an event that alone is too large is dropped, and told."""
    own_rabbit.declare(QUEUE)
    reports = Reports()
    large = {"max_event_bytes": 8 << 20, "max_batch_bytes": 16 << 20, "on_error": reports}
    with Whisperr(broker_url=own_rabbit.url, app="shop", flush_at=NEVER, **large) as client:
        track(client, range(4), text="x" * (LARGEST // 3))
        client.track("user", "too_large", {"text": "x" * (LARGEST + 1)})
        assert client.flush()
        stats = client.stats()
    assert sorted(numbers(own_rabbit)) == [0, 1, 2, 3]
    assert (stats["delivered"], stats["dropped"]["rejected"]) == (4, 1)
    (error,) = reports.all
    assert (error.type, error.event_types) == ("dropped", ("too_large",))
    assert "too large for one message" in error.message


def test_through_tls(own_rabbit: OwnRabbit, tmp_path: Path) -> None:
    """amqps://, with a certificate that is trusted; one that is not gets nothing."""
    own_rabbit.declare(QUEUE)
    with https_before(own_rabbit.url.replace("amqp", "http"), tmp_path) as (url, pem):
        tls = url.replace("https", "amqps")
        trusted = Whisperr(broker_url=f"{tls}?ssl_ca_certs={pem}", app="shop", flush_at=NEVER)
        track(trusted, range(3))
        assert trusted.flush(), trusted.stats()
        trusted.shutdown(generous(5.0))
        untrusted = Whisperr(broker_url=tls, app="shop", max_retries=0, flush_at=NEVER)
        track(untrusted, [3])
        assert not untrusted.flush()
        untrusted.shutdown(0)
    assert numbers(own_rabbit) == [0, 1, 2]


def test_a_password_that_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the log nor in a report."""
    caplog.set_level("DEBUG")
    reports = Reports()
    url = NOWHERE.replace("127", "user:s3cret@127")
    client = Whisperr(broker_url=url, app="shop", max_retries=0, flush_at=NEVER, on_error=reports)
    track(client, [1])
    assert not client.flush()
    assert f"The broker at {NOWHERE} can't be reached" in caplog.text
    assert "s3cret" not in caplog.text + repr(client) + repr(reports.all)
    client.shutdown(0)


def test_a_wrong_password(own_rabbit: OwnRabbit, caplog: pytest.LogCaptureFixture) -> None:
    url = own_rabbit.url.replace("127", "guest:s3cret@127")
    client = Whisperr(broker_url=url, app="shop", max_retries=0, flush_at=NEVER)
    track(client, [1])
    assert not client.flush()
    assert "does not let this user do that" in caplog.text and "s3cret" not in caplog.text
    client.shutdown(0)


FORKS = """
import gc, os, sys
from whisperr import Whisperr

client = Whisperr(broker_url=sys.argv[1], app="shop", flush_at=10**6, flush_interval=10**6)
client.track("user", "it_happened", {"n": 0})
assert client.flush()  # its connection is open from here on


def collected():
    global client
    client = None
    gc.collect()


def crashed():
    raise LookupError


def tracking():
    client.track("user", "it_happened", {"n": 100})
    assert client.flush()


for n, child in enumerate([lambda: os._exit(0), sys.exit, collected, crashed, tracking], 1):
    pid = os.fork()
    if pid == 0:
        sys.stderr = open(os.devnull, "w")
        child()
        sys.exit(0)
    os.waitpid(pid, 0)
    client.track("user", "it_happened", {"n": n})
    assert client.flush()
assert client.stats()["retries"] == 0, client.stats()
"""


def test_a_fork_with_an_open_connection(own_rabbit: OwnRabbit, tmp_path: Path) -> None:
    """The parent's connection lives on, whatever its children do; one that publishes opens its own."""
    own_rabbit.declare(QUEUE)
    run_program(FORKS, tmp_path, arguments=[own_rabbit.url])
    assert sorted(numbers(own_rabbit)) == [0, 1, 2, 3, 4, 5, 100]


POOLS = """
import multiprocessing, sys
from whisperr import Whisperr

client = Whisperr(broker_url=sys.argv[1], app="shop", flush_at=10**6, flush_interval=10**6)


def work(n):
    client.track("user", "it_happened", {"n": n})


if __name__ == "__main__":
    client.track("user", "it_happened", {"n": 0})
    assert client.flush()
    fork = multiprocessing.get_context("fork")
    for n in range(1, 7):
        process = fork.Process(target=work, args=(n,))
        process.start()
        process.join()
        assert process.exitcode == 0
        client.track("user", "it_happened", {"n": 100 + n})
        assert client.flush()
    assert client.stats()["retries"] == 0, client.stats()
"""


def test_children_of_multiprocessing(own_rabbit: OwnRabbit, tmp_path: Path) -> None:
    """They deliver at their end, and their parent's connection lives on."""
    own_rabbit.declare(QUEUE)
    run_program(POOLS, tmp_path, arguments=[own_rabbit.url])
    assert sorted(numbers(own_rabbit)) == [*range(7), *range(101, 107)]


def test_nothing_is_imported_after_the_client_is_made(
    own_rabbit: OwnRabbit, tmp_path: Path
) -> None:
    """Or a fork in the middle of it would leave a child with a locked module."""
    own_rabbit.declare(QUEUE)
    said = run_program(IMPORTS, tmp_path, arguments=[own_rabbit.url, NOWHERE]).stderr
    assert "looked for" not in said, said


@pytest.mark.parametrize("query", ["?heartbeat=3", "?ssl_ca_certs=s3cret"])
def test_options_that_it_does_not_have(query: str) -> None:
    """Told when the client is made, without what was given."""
    with pytest.raises(ValueError, match=r"^broker_url may have these options") as caught:
        Whisperr(broker_url=NOWHERE + query, app="shop")
    assert "s3cret" not in str(caught.value)


# --- relays


@pytest.fixture(params=KINDS)
def queues(
    own_rabbit: OwnRabbit, request: pytest.FixtureRequest, key: str, tmp_path: Path
) -> OwnRabbit:
    """A RabbitMQ whose queues a relay has made."""
    declare = ("--declare", request.param)
    with running_relay(tmp_path, own_rabbit.url, NO_SERVER, *declare, shop=key) as relay:
        assert wait_until(lambda: own_rabbit.has(DEAD))
        relay.stop()
    return own_rabbit


def test_all_arrives(queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Messages of many clients go in few requests, identities too; then the queue is empty."""
    for begin in range(0, 1000, 20):
        publish(queues.url, range(begin, begin + 20))
    with Whisperr(broker_url=queues.url, app="shop") as client:
        client.identify("user", email="user@example.org")
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        server.wait_for(key, 1000)
        server.wait_for(key, 1, field="identities")
        assert "1001 delivered, 0 dead letters" in relay.stop()
    ledger = assert_all_arrived(server, key, 1000)
    assert (ledger["identities"], ledger["identities_twice"]) == (1, 0)
    assert ledger["requests"] <= 4
    assert wait_until(lambda: queues.counts() == {QUEUE: (0, 0), DEAD: (0, 0)})


def test_small_messages_fill_a_request(
    queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Of one event each: the broker is asked for as many at once as a request takes."""
    publish(queues.url, range(1200), max_batch_size=1)
    with running_relay(tmp_path, queues.url, server.url, "--linger", "3", shop=key) as relay:
        server.wait_for(key, 1200)
        assert "1200 delivered" in relay.stop()
    assert assert_all_arrived(server, key, 1200)["requests"] <= 4
    assert queues.waiting(QUEUE) == 0


RETURNS = 25  # a quorum queue of RabbitMQ 4 bears 20, unless it is told otherwise


def test_what_comes_back_often_stays(
    queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """However many relays have died with a message: queues that a relay has made keep it."""
    publish(queues.url, range(10))
    for _ in range(RETURNS):
        assert wait_until(lambda: queues.messages(QUEUE))  # they go back when the connection ends
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        server.wait_for(key, 10)
        relay.stop()
    assert_all_arrived(server, key, 10)


def test_a_relay_is_killed_before_it_acknowledges(
    queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The server has stored the batch, nobody knows: another relay sends it, under the same ids."""
    publish(queues.url, range(50))
    server.inject(key, {"do": "hang", "store": True})
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        assert wait_until(lambda: server.ledger(key)["arrived"] == 50)
        relay.group.send(signal.SIGKILL)
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        assert wait_until(lambda: server.ledger(key)["resent"] == 50)
        assert "50 delivered" in relay.stop()
    assert_all_arrived(server, key, 50, resent=50)
    assert queues.waiting(QUEUE) == 0


FAILURES: dict[str, dict[str, Any]] = {
    "503": {"do": "status", "status": 503, "times": 3},
    "429": {"do": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_server(
    own_rabbit: OwnRabbit, server: Sandbox, key: str, tmp_path: Path, failure: str
) -> None:
    """What it does not take is held and tried again, never put back."""
    server.inject(key, FAILURES[failure])
    with running_relay(
        tmp_path, own_rabbit.url, server.url, "--declare", "classic", shop=key
    ) as relay:
        assert wait_until(lambda: own_rabbit.has(DEAD))
        publish(own_rabbit.url, range(30))
        server.wait_for(key, 30)
        assert "30 delivered" in relay.stop()
    assert_all_arrived(server, key, 30)
    assert server.ledger(key)["requests"] == FAILURES[failure]["times"] + 1


def test_sigterm_while_the_server_is_down(
    queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """It ends within its bound, and what it held is there for the next one."""
    publish(queues.url, range(10))
    server.inject(key, {"do": "status", "status": 503, "times": -1})
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        assert wait_until(lambda: server.ledger(key)["requests"] > 0)
        relay.stop()
    assert wait_until(lambda: queues.waiting(QUEUE) == 1)  # it is given back a little later
    server.clear_faults(key)
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        server.wait_for(key, 10)
        relay.stop()
    assert_all_arrived(server, key, 10)


def test_poison_is_split_out_and_can_be_sent_again(
    queues: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """All others arrive. Each poisonous event is one dead letter with its reason, until it is mended."""
    for begin in range(0, 100, 20):
        publish(queues.url, range(begin, begin + 20))
    poison = [7, 33, 34, 99]
    server.inject(key, *({"do": "refuse", "where": {"properties.n": n}} for n in poison))
    with running_relay(tmp_path, queues.url, server.url, shop=key) as relay:
        assert wait_until(lambda: queues.waiting(DEAD) == len(poison))
        server.wait_for(key, 100 - len(poison))
        assert sorted(numbers_at(server, key)) == [n for n in range(100) if n not in poison]
        rows = command_json(queues.url, "dead-letters", "list")
        assert wait_until(lambda: queues.waiting(DEAD) == len(poison))  # they are back
        found = {(row["app"], row["count"], row["status"], row["reason"]) for row in rows}
        assert found == {("shop", "1", 400, "the API refused it with status 400")}
        shown = command(queues.url, "dead-letters", "show", "--all")[1].splitlines()
        assert wait_until(lambda: queues.waiting(DEAD) == len(poison))
        bodies = [json.loads(line)["body"]["events"] for line in shown]
        assert sorted(event["properties"]["n"] for (event,) in bodies) == poison
        server.clear_faults(key)
        status, said = command(queues.url, "dead-letters", "send", rows[0]["id"])
        assert (status, said) == (0, "1 of 1 dead letters are messages again\n")
        assert wait_until(lambda: queues.waiting(DEAD) == len(poison) - 1)
        assert command(queues.url, "dead-letters", "send", "--all")[0] == 0
        server.wait_for(key, 100)
        relay.stop()
    assert_all_arrived(server, key, 100)
    assert wait_until(lambda: queues.counts() == {QUEUE: (0, 0), DEAD: (0, 0)})


STRANGE: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "foreign": ({"v": None, "hello": "world"}, b"?", "it is no message of whisperr"),
    "future": ({"v": "2"}, b"", "its format is of another version: a newer relay may deliver it"),
    "count": ({"n": "many"}, b"", "its count or its app can't be read"),
    "app": ({"app": "blog"}, b"", "it names another app than its queue does"),
    "body": ({}, b"no JSON", "its body is not one of whisperr"),
}


def test_what_is_not_ours(own_rabbit: OwnRabbit, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Each is a dead letter, as it came, with its reason; what is ours goes on."""
    import amqp

    own_rabbit.declare(QUEUE)
    own_rabbit.declare(DEAD)
    whole = {"v": "1", "app": "shop", "key": "", "kind": "events", "id": "", "n": 1}
    good = b'{"events":[{"external_user_id":"u"}]}'

    def put(channel: Any) -> None:
        for changed, body, _ in STRANGE.values():
            headers = {k: v for k, v in {**whole, **changed}.items() if v is not None}
            message = amqp.Message(body or good, application_headers=headers)
            channel.basic_publish(message, routing_key=QUEUE)

    own_rabbit.ask(put)
    publish(own_rabbit.url, range(10))
    with running_relay(tmp_path, own_rabbit.url, server.url, shop=key) as relay:
        server.wait_for(key, 10)
        assert wait_until(lambda: own_rabbit.waiting(DEAD) == len(STRANGE))
        relay.stop()
    assert_all_arrived(server, key, 10)
    dead = own_rabbit.messages(DEAD)
    reasons = sorted(letter.headers["whisperr-reason"] for letter in dead)
    assert reasons == sorted(reason for _, _, reason in STRANGE.values())
    assert any(letter.headers.get("hello") == "world" for letter in dead)
    status, said = command(own_rabbit.url, "dead-letters", "purge", "--all")
    assert status == 1 and wait_until(lambda: own_rabbit.waiting(DEAD) == len(STRANGE)), said
    assert command(own_rabbit.url, "dead-letters", "purge", "--all", "--yes")[0] == 0
    assert own_rabbit.waiting(DEAD) == 0


def test_a_header_whose_name_is_no_text() -> None:
    """A newer py-amqp gives its bytes. It is one field more, of a message that is not ours."""
    message = SimpleNamespace(headers={b"\xff": "x", "x-death": [], "n": 2}, body=b"?")
    assert fields_of(message) == {b"\xff": b"x", b"n": b"2", b"body": b"?"}
    assert about_of(message) == {}


def test_queues_that_are_not_there(
    own_rabbit: OwnRabbit, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A relay says so, and waits until somebody has made them."""
    with running_relay(tmp_path, own_rabbit.url, server.url, shop=key) as relay:
        relay.wait_until_it_says("has no queue for these messages")
        own_rabbit.declare(QUEUE)
        own_rabbit.declare(DEAD)
        publish(own_rabbit.url, range(10))
        server.wait_for(key, 10)
        relay.stop()
    assert_all_arrived(server, key, 10)


def test_the_depth_of_queues_that_are_not_there(own_rabbit: OwnRabbit) -> None:
    """Nothing waits in them, and the broker is there all the same: that is no fault of its."""
    broker = RabbitBroker(find("broker_url", {"broker_url": own_rabbit.url}, {}).value, None)
    nothing = Depth(0, None)
    assert broker.waiting(["blog", "shop"], DEADLINE) == Waiting(
        {"blog": nothing, "shop": nothing}, 0
    )
    own_rabbit.declare(QUEUE)
    publish(own_rabbit.url, range(10))
    assert broker.waiting(["blog", "shop"], DEADLINE) == Waiting(
        {"blog": nothing, "shop": Depth(1, None)}, 0
    )


def test_status_and_doctor(
    own_rabbit: OwnRabbit, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queues of the apps that have a key here; the doctor names what is missing."""
    monkeypatch.setenv("WHISPERR_KEY_SHOP", key)
    monkeypatch.setenv("WHISPERR_APP", "shop")
    assert command_json(own_rabbit.url, "status") == {"apps": [], "dead_letters": 0}
    assert ("wrong", "no queue") in _doctor(own_rabbit.url)
    own_rabbit.declare(QUEUE)
    own_rabbit.declare(DEAD)
    publish(own_rabbit.url, range(10))
    row = {"app": "shop", "messages": 1, "held": None, "age": None, "relays": 0}
    found = {"apps": [row], "dead_letters": 0}
    assert command_json(own_rabbit.url, "status") == found
    monkeypatch.delenv("WHISPERR_KEY_SHOP")
    (tmp_path / "keys.toml").write_text(f'shop = "{key}"\n')
    keys = ("--keys", str(tmp_path / "keys.toml"))
    assert command_json(own_rabbit.url, "status", *keys) == found
    assert command_json(own_rabbit.url, *keys, "status") == found
    assert ("advice", "No relay takes") in _doctor(own_rabbit.url)


def _doctor(url: str) -> set[tuple[str, str]]:
    """Level, and which of these phrases are in the sentence."""
    phrases = ("no queue", "No relay takes", "is there, with")
    said = findings(url)
    return {(level, phrase) for level, what in said for phrase in phrases if phrase in what}


def test_the_broker_is_killed(
    server: Sandbox, key: str, tmp_path: Path, mortal_rabbit: OwnRabbit
) -> None:
    """With -9. Clients keep what they have, the relay waits, and nothing that was confirmed is lost."""
    rabbit = mortal_rabbit
    patient = ("--linger", "3600", "--declare", "quorum")
    with Whisperr(
        broker_url=rabbit.url, app="shop", flush_at=NEVER, max_retries=0
    ) as client, running_relay(tmp_path, rabbit.url, server.url, *patient, shop=key) as relay:
        assert wait_until(lambda: rabbit.has(DEAD))
        rabbit.write_down()
        track(client, range(10))
        assert client.flush(DEADLINE)
        rabbit.kill()
        track(client, range(10, 20))
        assert not client.flush()
        relay.wait_until_it_says("can't be reached, or closed the connection")
        rabbit.start()
        track(client, range(20, 500))  # with what the relay held before, its batch is full
        assert wait_until(lambda: client.flush(DEADLINE))
        server.wait_for(key, 500)
        relay.stop()
    assert_all_arrived(server, key, 500, resent=20)


# --- one lane, held by its test


def test_an_idle_relay_lives(own_rabbit: OwnRabbit) -> None:
    """A relay that reads and gets nothing gives signs of life, or the broker would cut it."""
    own_rabbit.declare(QUEUE)
    own_rabbit.declare(DEAD)
    url = find("broker_url", {"broker_url": own_rabbit.url}, {}).value
    inbox = RabbitBroker(url, None, heartbeat=2).inbox(
        "shop", "me", RabbitPresence(Connection(url))
    )
    try:
        assert inbox.read(1, 0.0) == []
        made = inbox._connection._connection
        sent = made.bytes_sent  # frames

        def has_beaten() -> bool:
            assert inbox.read(1, 0.05) == []
            return bool(made.bytes_sent > sent)

        assert wait_until(has_beaten)
        assert inbox._connection._connection is made
    finally:
        inbox.leave()
