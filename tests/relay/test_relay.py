"""The relay: real processes between a real Redis and a real server. All arrives, none under two ids."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clients import NEVER, numbers_at, track
from support.deadlines import DEADLINE, wait_until
from support.relays import (
    EVENTS,
    CuttingProxy,
    OwnRedis,
    assert_all_arrived,
    command,
    command_json,
    publish,
    running_relay,
    sent_by_relay,
)
from whisperr import Whisperr
from whisperr.sandbox import Sandbox

NOWHERE = "redis://127.0.0.1:9"


def wait_for_all_settled(redis: OwnRedis, app: str = "shop") -> None:
    assert wait_until(lambda: redis.waiting(app) == 0), redis.held(app)


def test_all_arrives(own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Messages of many clients go in few requests, identities too; then the stream is empty."""
    for begin in range(0, 1000, 20):
        publish(own_redis.url, range(begin, begin + 20))
    with Whisperr(broker_url=own_redis.url, app="shop") as client:
        client.identify("user", email="user@example.org")
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        assert "1001 delivered, 0 dead letters" in relay.stop()
    ledger = assert_all_arrived(server, key, 1000)
    assert (ledger["identities"], ledger["identities_twice"]) == (1, 0)
    assert (
        ledger["requests"] <= 4
    )  # two batches of 500, one identity; one more if it read in between
    assert own_redis.held() == {}  # who has gone is on no list
    assert command_json(own_redis.url, "status")["apps"] == [
        {"app": "shop", "messages": 0, "held": 0, "age": None, "relays": []}
    ]


def test_two_relays_share_the_work(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Each message goes through one of them, and each request says through which."""
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as one, running_relay(
        tmp_path, own_redis.url, server.url, shop=key
    ) as other:
        for begin in range(0, 600, 10):
            publish(own_redis.url, range(begin, begin + 10))
        wait_for_all_settled(own_redis)
        (row,) = command_json(own_redis.url, "status")["apps"]
        assert len(row["relays"]) == 2
        ends = [one.stop(), other.stop()]
    assert_all_arrived(server, key, 600)
    delivered = [int(end.split()[-5]) for end in ends]
    assert sum(delivered) == 600, ends
    # Its own name for itself ends with the one that it tells the API: a machine's name stays here.
    told = sent_by_relay(server, key)
    names = [end.partition(" as ")[2].partition(":")[0] for end in ends]
    found = [told[name.partition(f"{socket.gethostname()}-")[2]] for name in names]
    assert found == delivered


def test_a_slow_relay_is_not_robbed_and_a_killed_one_is(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """What a living relay holds is its own, for however long. After SIGKILL another one takes it."""
    publish(own_redis.url, range(20))
    with silent_server() as silent, running_relay(
        tmp_path, own_redis.url, silent, shop=key
    ) as slow:
        assert wait_until(lambda: 1 in own_redis.held().values())
        holders = own_redis.held()
        with running_relay(tmp_path, own_redis.url, server.url, shop=key) as other:
            looks = looks_for_the_dead(own_redis)
            assert wait_until(lambda: looks_for_the_dead(own_redis) >= looks + 3)
            assert holders.items() <= own_redis.held().items()
            assert server.ledger(key)["arrived"] == 0
            slow.group.send(signal.SIGKILL)
            wait_for_all_settled(own_redis)
            other.stop()
    assert_all_arrived(server, key, 20)


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """One that takes every request, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(5)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def looks_for_the_dead(redis: OwnRedis) -> int:
    """How often a relay has asked who else is there."""
    stats = redis.client.info("commandstats")
    return sum(row["calls"] for name, row in stats.items() if name.startswith("cmdstat_xinfo"))


def test_a_relay_is_killed_before_it_acknowledges(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The server has stored the batch, nobody knows: it comes again, under the same ids."""
    publish(own_redis.url, range(50))
    server.inject(key, {"do": "hang", "store": True})
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        assert wait_until(lambda: server.ledger(key)["arrived"] == 50)
        relay.group.send(signal.SIGKILL)
    assert own_redis.waiting() == 1
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        relay.stop()
    assert_all_arrived(server, key, 50, resent=50)


def test_the_broker_is_killed_for_a_while(
    server: Sandbox, key: str, tmp_path: Path, mortal_redis: OwnRedis
) -> None:
    """Clients keep what they have, the relay waits, and all goes on where it was."""
    redis = mortal_redis
    with Whisperr(
        broker_url=redis.url, app="shop", flush_at=NEVER, max_retries=0
    ) as client, running_relay(tmp_path, redis.url, server.url, shop=key) as relay:
        track(client, range(10))
        assert client.flush()
        server.wait_for(key, 10)
        redis.kill()
        track(client, range(10, 20))
        assert not client.flush()
        relay.wait_until_it_says("can't be reached, or closed the connection")
        redis.start()
        assert client.flush()
        track(client, range(20, 30))
        assert client.flush()
        wait_for_all_settled(redis)
        server.wait_for(key, 30)
        relay.stop()
    assert_all_arrived(server, key, 30)


def test_what_is_held_while_the_broker_is_killed(
    server: Sandbox, key: str, tmp_path: Path, mortal_redis: OwnRedis
) -> None:
    """A relay whose connection broke looks at what it was given before, and reads it again."""
    redis = mortal_redis
    patient = ("--linger", "3600")
    with running_relay(tmp_path, redis.url, server.url, *patient, shop=key) as relay:
        publish(redis.url, range(10))
        assert wait_until(lambda: 1 in redis.held().values())
        redis.kill()
        relay.wait_until_it_says("can't be reached, or closed the connection")
        redis.start()
        publish(redis.url, range(10, 500))  # the batch is full with what it held
        wait_for_all_settled(redis)
        relay.stop()
    assert assert_all_arrived(server, key, 500)["requests"] == 1


FAILURES: dict[str, dict[str, Any]] = {
    "503": {"do": "status", "status": 503, "times": 3},
    "429": {"do": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 2},
    "reset": {"do": "reset", "times": 2},
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_server(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path, failure: str
) -> None:
    """What it does not take is held and tried again, never put back."""
    publish(own_redis.url, range(30))
    published = own_redis.newest()
    server.inject(key, FAILURES[failure])
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        relay.stop()
    assert_all_arrived(server, key, 30)
    assert own_redis.newest() == published
    assert own_redis.dead() == []
    assert server.ledger(key)["requests"] == FAILURES[failure]["times"] + 1


def test_a_rejected_key_holds_its_own_app_alone(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """Its messages stay; those of others go on."""
    bad = f"{key}_bad"
    server.inject(bad, {"do": "status", "status": 401, "times": -1})
    publish(own_redis.url, range(10), app="bad")
    publish(own_redis.url, range(10))
    with running_relay(tmp_path, own_redis.url, server.url, shop=key, bad=bad) as relay:
        wait_for_all_settled(own_redis)
        relay.wait_until_it_says("app bad: The key was rejected")
        assert own_redis.waiting("bad") == 1
        assert bad not in relay.stop() and key not in relay.said()
    assert_all_arrived(server, key, 10)


def test_poison_is_split_out_and_can_be_sent_again(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """All others arrive. Each poisonous event is one dead letter with its reason, until it is mended."""
    for begin in range(0, 100, 20):
        publish(own_redis.url, range(begin, begin + 20))
    poison = [7, 33, 34, 99]
    server.inject(key, *({"do": "refuse", "where": {"properties.n": n}} for n in poison))
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        assert sorted(numbers_at(server, key)) == [n for n in range(100) if n not in poison]
        rows = command_json(own_redis.url, "dead-letters", "list")
        found = {(row["app"], row["count"], row["status"], row["reason"]) for row in rows}
        assert found == {("shop", "1", 400, "the API refused it with status 400")}
        shown = command(own_redis.url, "dead-letters", "show", "--all")[1].splitlines()
        bodies = [json.loads(line)["body"]["events"] for line in shown]
        assert sorted(event["properties"]["n"] for (event,) in bodies) == poison
        server.clear_faults(key)
        status, said = command(own_redis.url, "dead-letters", "send", rows[0]["id"])
        assert (status, said) == (0, "1 of 1 dead letters are messages again\n")
        assert command(own_redis.url, "dead-letters", "send", "--all")[0] == 0
        wait_for_all_settled(own_redis)
        server.wait_for(key, 100)
        relay.stop()
    assert_all_arrived(server, key, 100)
    assert own_redis.dead() == []


def test_an_acknowledgement_whose_answer_is_lost(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The relay asks whether it was done: nothing is delivered twice, and no letter written twice."""
    server.inject(key, {"do": "refuse", "where": {"properties.n": 3}})
    publish(own_redis.url, range(10))
    with CuttingProxy(own_redis.port, b"XACK") as proxy, running_relay(
        tmp_path, proxy.url, server.url, shop=key
    ) as relay:
        assert proxy.has_cut.wait(DEADLINE)
        wait_for_all_settled(own_redis)
        relay.wait_until_it_says("1 dead letter: the API refused it with status 400")
        assert "9 delivered, 1 dead letters" in relay.stop()
    assert sorted(numbers_at(server, key)) == [n for n in range(10) if n != 3]
    assert (server.ledger(key)["twice"], server.ledger(key)["resent"]) == (0, 0)
    assert len(own_redis.dead()) == 1


def test_a_lost_answer_while_more_is_held(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """What was read beyond the batch is read again, and delivered once."""
    begin = 0
    for count in (1, 400, 400, 90, 90, 90):
        publish(own_redis.url, range(begin, begin + count))
        begin += count
    with CuttingProxy(own_redis.port, b"XACK") as proxy, running_relay(
        tmp_path, proxy.url, server.url, shop=key
    ) as relay:
        assert proxy.has_cut.wait(DEADLINE)
        wait_for_all_settled(own_redis)
        assert f"{begin} delivered, 0 dead letters" in relay.stop()
    assert_all_arrived(server, key, begin)


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "foreign": ({"hello": "world"}, "it is no message of whisperr"),
    "future": ({"v": "2"}, "its format is of another version: a newer relay may deliver it"),
    "kind": ({"kind": "letters"}, "it is of an unknown kind"),
    "count": ({"n": "many"}, "its count or its app can't be read"),
    "app": ({"app": "blog"}, "it names another app than its queue does"),
    "body": ({"body": "no JSON"}, "its body is not one of whisperr"),
    "cut": ({"n": "2", "body": b'{"events":[{"external_user_id":"u"]}'}, "its body is damaged"),
    "large": ({"body": b"x" * (8 * 2**20 + 1)}, "it is larger than 8388608 bytes"),
}


def test_what_is_not_ours(own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Each is a dead letter, as it came, with its reason; what is ours goes on."""
    whole = {"v": "1", "app": "shop", "key": "", "kind": "events", "id": "", "n": "1"}
    whole["body"] = '{"events":[{"external_user_id":"u"}]}'
    for fields, _ in STRANGE.values():
        message = fields if "hello" in fields else {**whole, **fields}
        own_redis.client.xadd(EVENTS + "shop", message)
    publish(own_redis.url, range(10))
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        relay.stop()
    assert_all_arrived(server, key, 10)
    dead = own_redis.dead()
    reasons = sorted(letter[b"reason"].decode() for letter in dead)
    assert reasons == sorted(reason for _, reason in STRANGE.values())
    assert any(letter.get(b"o:hello") == b"world" for letter in dead)
    status, said = command(own_redis.url, "dead-letters", "purge", "--all")
    assert (status, len(own_redis.dead())) == (1, len(STRANGE)), said
    assert command(own_redis.url, "dead-letters", "purge", "--all", "--yes")[0] == 0
    assert own_redis.dead() == []


def test_a_missing_key(own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path) -> None:
    """Its messages wait, which is said; a relay that has the key delivers them."""
    publish(own_redis.url, range(10), app="blog")
    with running_relay(tmp_path, own_redis.url, server.url, shop="wrk_other") as relay:
        relay.wait_until_it_says("Set WHISPERR_KEY_BLOG")
        relay.stop()
    assert own_redis.waiting("blog") == 1
    keys = tmp_path / "keys.toml"
    keys.write_text(f'blog = "{key}"\n')
    with running_relay(tmp_path, own_redis.url, server.url, "--keys", str(keys)) as relay:
        wait_for_all_settled(own_redis, "blog")
        relay.stop()
    assert_all_arrived(server, key, 10)


def test_messages_that_name_no_app(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """The lone key serves them; what was made with another key is never sent under it."""
    publish(own_redis.url, range(10), app=None, api_key=key)
    publish(own_redis.url, range(10, 20), app=None, api_key="wrk_of_another_app")
    with running_relay(tmp_path, own_redis.url, server.url, nameless=key) as relay:
        wait_for_all_settled(own_redis, "")
        relay.stop()
    assert_all_arrived(server, key, 10)
    (letter,) = own_redis.dead()
    assert letter[b"reason"] == b"its client has another key than the relay"


def test_sigterm_delivers_what_is_held(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """A message that waits for others to fill its request does not wait for the next relay."""
    publish(own_redis.url, range(10))
    with running_relay(tmp_path, own_redis.url, server.url, "--linger", "3600", shop=key) as relay:
        assert wait_until(lambda: 1 in own_redis.held().values())
        assert server.ledger(key)["arrived"] == 0
        assert "10 delivered, 0 dead letters" in relay.stop()
    assert own_redis.waiting() == 0
    assert_all_arrived(server, key, 10)


def test_sigterm_while_the_server_is_down(
    own_redis: OwnRedis, server: Sandbox, key: str, tmp_path: Path
) -> None:
    """It ends within its bound, and leaves what it holds to the next one."""
    publish(own_redis.url, range(10))
    server.inject(key, {"do": "status", "status": 503, "times": -1})
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        assert wait_until(lambda: server.ledger(key)["requests"] > 0)
        relay.stop()
    assert own_redis.waiting() == 1
    server.clear_faults(key)
    with running_relay(tmp_path, own_redis.url, server.url, shop=key) as relay:
        wait_for_all_settled(own_redis)
        relay.stop()
    assert_all_arrived(server, key, 10)


MISTAKES = {
    "no key": ((), "no key: name a file with --keys"),
    "no file": (("--keys", "no-such.toml"), "No such file"),
    "no TOML": (("--keys", __file__), "it is no TOML file"),
    "no broker": (("--broker-url", "kafka://127.0.0.1"), "broker_url must be"),
    "no letters": (("dead-letters", "send"), "name dead letters by their ids"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_on_the_command_line(mistake: str) -> None:
    """Status 2 and a sentence."""
    arguments, words = MISTAKES[mistake]
    status, said = command(NOWHERE, *arguments)
    assert (status, words in said) == (2, True), said


def test_a_broker_that_is_not_there() -> None:
    """A sentence, and status 1."""
    status, said = command(NOWHERE.replace("127", ":s3cret@127"), "status")
    assert status == 1
    assert f"The broker at {NOWHERE} can't be reached" in said and "s3cret" not in said
