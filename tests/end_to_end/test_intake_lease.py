"""Who reads the intake gives it back at a stop: the next one need not wait until the lease lapses."""

import time
from collections.abc import Iterator

import pytest

from tests.end_to_end.process import DaemonProcess, eventually
from tests.redis_server import RedisServer

pytestmark = pytest.mark.sockets

_LEASE = "localful:{localful:intake}:reader"
_INTAKE = "localful:intake"
# The lease is of 3 s, and a node that is refused it asks again some 1 s later.
_AT_ONCE = 1.5


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


def append(redis: RedisServer) -> None:
    redis.cli("xadd", _INTAKE, "*", "body", '{"event": "item-create", "user": "ada", "vault": "v"}')


@pytest.mark.parametrize("workers", [1, 2])
def test_the_lease_is_given_back_at_a_stop(redis: RedisServer, workers: int) -> None:
    options = ("--engine", redis.url, "--workers", str(workers))
    with DaemonProcess(*options) as daemon:
        eventually(lambda: redis.cli("exists", _LEASE) == "1")
        append(redis)
        eventually(lambda: redis.cli("xlen", _INTAKE) == "0")
        daemon.signal()
        assert daemon.wait() == 0
        assert redis.cli("exists", _LEASE) == "0"

    append(redis)
    with DaemonProcess(*options) as daemon:
        began = time.monotonic()
        eventually(lambda: redis.cli("xlen", _INTAKE) == "0")
        assert time.monotonic() - began < _AT_ONCE
        daemon.signal()
        assert daemon.wait() == 0


def test_another_node_reads_on_at_once(redis: RedisServer) -> None:
    with DaemonProcess("--engine", redis.url) as first:
        eventually(lambda: redis.cli("exists", _LEASE) == "1")
        holder = redis.cli("get", _LEASE)
        with DaemonProcess("--engine", redis.url) as second:
            first.signal()
            assert first.wait() == 0
            ended = time.monotonic()
            assert redis.cli("get", _LEASE) != holder
            append(redis)
            eventually(lambda: redis.cli("xlen", _INTAKE) == "0")
            assert time.monotonic() - ended < _AT_ONCE
            second.signal()
            assert second.wait() == 0
