"""What tests of any part may need."""

import secrets
from collections.abc import Iterator, Sequence

import pytest

import tests.redis_server as servers
from tests.redis_server import RedisServer
from tests.world import REDIS, WORLDS, use_redis


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis server for all tests; whoever kills or fills one starts a `RedisServer` of its own.

    Each test uses keys that begin with its own `redis_prefix`, and so none has to empty it.
    """
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Sequence[RedisServer]]:
    """One cluster of three servers for all tests, as `redis_server` is one server."""
    with servers.redis_cluster() as nodes:
        yield nodes


@pytest.fixture
def redis_prefix() -> str:
    """What the names of this test's keys begin with: the setting ``redis-prefix``."""
    return f"test-{secrets.token_hex(6)}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play a test with a `kind` once for each of those that its mark names."""
    mark = metafunc.definition.get_closest_marker("kinds")
    if mark is not None and "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", mark.args, indirect=True)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """What a test's node is made of, out of `WORLDS`: those of its mark in turn, the first without a mark."""
    kind: str = getattr(request, "param", WORLDS[0])
    if kind == REDIS:
        use_redis(request.getfixturevalue("redis_server").url)
    return kind


@pytest.fixture(params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each of the event loops that the client runs on, for `anyio.run`."""
    loop: str = request.param
    return loop
