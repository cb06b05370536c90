"""A Redis and a RabbitMQ for the tests of this room, empty at the begin of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.parts import need
from support.rabbits import OwnRabbit, own_rabbit_in
from support.relays import OwnRedis, own_redis_with_a_file


def _new_redis(folders: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    need("redis")
    with own_redis_with_a_file(folders.mktemp("redis")) as made:
        yield made


def _new_rabbit(folders: pytest.TempPathFactory) -> Iterator[OwnRabbit]:
    need("rabbitmq")
    with own_rabbit_in(folders.mktemp("rabbitmq")) as made:
        yield made


# --- one for all tests of a worker


@pytest.fixture(scope="session")
def _redis_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    yield from _new_redis(tmp_path_factory)


@pytest.fixture
def own_redis(_redis_of_session: OwnRedis) -> OwnRedis:
    _redis_of_session.client.flushall()
    return _redis_of_session


@pytest.fixture(scope="session")
def _rabbit_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRabbit]:
    yield from _new_rabbit(tmp_path_factory)


@pytest.fixture
def own_rabbit(_rabbit_of_session: OwnRabbit) -> OwnRabbit:
    _rabbit_of_session.clear("whisperr.events.shop", "whisperr.events", "whisperr.dead-letters")
    return _rabbit_of_session


# --- a test's own, which it may kill


@pytest.fixture
def mortal_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    yield from _new_redis(tmp_path_factory)


@pytest.fixture
def mortal_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRabbit]:
    yield from _new_rabbit(tmp_path_factory)
