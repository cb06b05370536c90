"""The doctor looks at a broker: whether it keeps what it has confirmed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Iterator, Mapping

from whisperr._broker.errors import BrokerError, BrokerLogin, BrokerRefusal
from whisperr._broker.messages import DEAD_LETTER_QUEUE, queue_of
from whisperr._delivery.answers import explain_broker
from whisperr._settings import BrokerUrl, Settings, make_settings
from whisperr.cli._findings import Finding, advice, ok, wrong
from whisperr.cli._versions import release

ABOUT = "broker"
_OLDEST = (6, 2)  # of Redis


def settings_for(found: Settings | Finding, timeout: float) -> Settings | None:
    """Those of the environment; where a relay runs neither an app nor a key may be among them.

    None: something in it is unusable, which is told elsewhere.
    """
    if isinstance(found, Settings):
        return found
    try:
        return make_settings(None, {"request_timeout": timeout, "disabled": True, "on_error": None})
    except ValueError:
        return None


def missing_package(settings: Settings | None) -> str:
    """By which it would be spoken to; "" if it is there, or none is wanted."""
    url = settings.broker_url if settings is not None else None
    return url.package if url is not None and find_spec(url.package) is None else ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Ask it. Nothing without a broker."""
    url = settings.broker_url
    if url is None:
        return
    name = missing_package(settings)
    if name:
        yield wrong(ABOUT, f"The package {name} is missing.", f"pip install 'whisperr[{name}]'")
        return
    try:
        yield from _rabbitmq(settings, url) if url.is_amqp else _redis(settings, url)
    except BrokerError as error:
        found = explain_broker(error, settings.place)
        yield wrong(ABOUT, found.what, found.change)


def _rabbitmq(settings: Settings, url: BrokerUrl) -> Iterator[Finding]:
    from whisperr._broker.amqp_connection import Connection

    connection = Connection(url)
    seconds = settings.request_timeout
    try:
        named = settings.app is not None or settings.key.reveal()
        own = (queue_of(settings.app or ""),) if named else ()  # a relay's apps are in its keys
        for queue in (*own, DEAD_LETTER_QUEUE):
            count, relays = connection.look(queue, seconds)
            yield ok(ABOUT, f"The queue {queue} is there, with {_counted(count, 'message')}.")
            if not relays and queue != DEAD_LETTER_QUEUE:
                yield advice(ABOUT, f"No relay takes from {queue}.", "Start `whisperr relay`.")
    finally:
        connection.leave()


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _redis(settings: Settings, url: BrokerUrl) -> Iterator[Finding]:
    from whisperr._broker.redis_connection import Connection

    connection = Connection(url)
    try:
        said = connection.call(settings.request_timeout, "INFO")
    except (BrokerLogin, BrokerRefusal):
        yield advice(
            ABOUT,
            f"{settings.place} does not say how it is set.",
            "Allow the user the command INFO, or look yourself.",
        )
    else:
        lines = said.decode("utf-8", "replace").splitlines()
        yield from of_redis({name: value for name, _, value in (x.partition(":") for x in lines)})
    finally:
        connection.close()


def of_redis(info: Mapping[str, str]) -> Iterator[Finding]:
    """What Redis says of itself, in the names of its command INFO."""
    version = info.get("redis_version", "")
    if release(version) >= _OLDEST:
        yield ok(ABOUT, f"Redis {version}")
    else:
        yield wrong(
            ABOUT, f"Redis {version} is too old for a relay.", "Upgrade it to 6.2 or later."
        )
    if info.get("role") == "slave":
        yield wrong(ABOUT, "It is a replica, and takes no message.", "Name the primary.")
    if info.get("aof_enabled") != "1":
        yield advice(
            ABOUT,
            "It keeps no append-only file: if it is killed, what it confirmed since its last "
            "snapshot is lost.",
            "appendonly yes, in its configuration.",
        )
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction" and info.get("maxmemory", "0") != "0":
        yield wrong(
            ABOUT,
            f"With maxmemory-policy {policy} it drops messages when its memory is full.",
            "maxmemory-policy noeviction, in its configuration.",
        )
