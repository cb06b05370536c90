"""A Redis for the tests of this room, empty at the begin of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.parts import need
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
