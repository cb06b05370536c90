"""A Redis and a RabbitMQ for the tests of this room, empty at the begin of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.parts import need
from support.rabbits import OwnRabbit, own_rabbit_in
from support.relays import OwnRedis, own_redis_with_a_file


@pytest.fixture(scope="module")
def _redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRedis]:
    need("redis")
    with own_redis_with_a_file(tmp_path_factory.mktemp("redis")) as made:
        yield made


@pytest.fixture
def own_redis(_redis_of_module: OwnRedis) -> OwnRedis:
    _redis_of_module.client.flushall()
    return _redis_of_module


@pytest.fixture(scope="module")
def _rabbit_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnRabbit]:
    need("rabbitmq")
    with own_rabbit_in(tmp_path_factory.mktemp("rabbitmq")) as made:
        yield made


@pytest.fixture
def own_rabbit(_rabbit_of_module: OwnRabbit) -> OwnRabbit:
    _rabbit_of_module.clear("whisperr.events.shop", "whisperr.events", "whisperr.dead-letters")
    return _rabbit_of_module
