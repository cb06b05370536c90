"""The doctor looks at a broker: whether it keeps what it has confirmed."""

from __future__ import annotations

from typing import Iterator, Mapping

from whisperr._broker.errors import BrokerError, BrokerLogin, BrokerRefusal
from whisperr._delivery.answers import explain_broker
from whisperr._settings import Settings
from whisperr.cli._findings import Finding, advice, ok, wrong
from whisperr.cli._versions import release

ABOUT = "broker"
_OLDEST = (6, 2)  # of Redis


def examine(settings: Settings) -> Iterator[Finding]:
    """Ask it. Nothing without a broker."""
    if settings.broker_url is None:
        return
    try:
        from whisperr._broker.connection import Connection
    except ImportError:
        yield wrong(ABOUT, "The package redis is missing.", "pip install 'whisperr[redis]'")
        return
    connection = Connection(settings.broker_url)
    try:
        said = connection.call(settings.request_timeout, "INFO")
    except (BrokerLogin, BrokerRefusal):
        yield advice(
            ABOUT,
            f"{settings.place} does not say how it is set.",
            "Allow the user the command INFO, or look yourself.",
        )
    except BrokerError as error:
        found = explain_broker(error, settings.place)
        yield wrong(ABOUT, found.what, found.change)
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
