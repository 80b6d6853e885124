"""Connections to Redis or Valkey: what the URL in the setting ``engine`` leads to.

A client is for one span of time in which Redis is there: whoever loses a connection, or waits in vain for an
answer, leaves the block of `open_client` and opens another. coredis would go on by itself, but it then does
not say what was lost, and a connection that is lost while it is in use is one that its pool never gets back.
"""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar, cast

import anyio
import trio
from attrs import frozen
from coredis import Redis, RedisCluster, Sentinel
from coredis.connection import TCPLocation, UnixDomainSocketLocation
from coredis.exceptions import RedisError
from coredis.pool import SentinelConnectionPool
from coredis.retry import NoRetryPolicy

from localful_ws.engine.redis.errors import (
    REDIS_ERRORS,
    RedisUnavailableError,
    RedisUnsuitableError,
    raise_single,
)
from localful_ws.engine.redis.pubsub import Channel, Message, PubSub, Server, open_links
from localful_ws.redis_url import Address, Deployment, parse_url

__all__ = [
    "REDIS_ERRORS",
    "Message",
    "PubSub",
    "RedisClient",
    "RedisUnavailableError",
    "RedisUnsuitableError",
    "is_cluster",
    "open_client",
    "open_pubsub",
    "publishing",
]

T = TypeVar("T")
RedisClient: TypeAlias = "Redis[bytes] | RedisCluster[bytes]"

# It logs what it raises as well, and with tracebacks.
logging.getLogger("coredis").setLevel(logging.CRITICAL)

_OLDEST: Final = {"redis": (7, "Redis"), "valkey": (8, "Valkey")}
_SLOTS: Final = 16384


@asynccontextmanager
async def open_client(url: str, timeout: float) -> AsyncIterator[RedisClient]:  # noqa: ASYNC109 - no cancel scope could do it
    """Connect to a Redis that can be worked with, until the end of the block.

    Commands are sent once: when a connection is lost under one, it is not known whether it was done.

    Args:
        url: See `localful_ws.redis_url.parse_url`. One that is in a `Settings` can be used.
        timeout: Seconds that Redis may take to accept a connection, and to answer a command. A command that
            blocks must ask for less.

    Yields:
        The client. What its commands raise is in `REDIS_ERRORS`.

    Raises:
        ValueError: If the URL can't be used.
        RedisUnavailableError: If it can't be reached within the timeout, for each of its hosts.
        RedisUnsuitableError: If it is too old, or something else than the URL says.
    """
    address = parse_url(url)
    try:
        async with trio.open_nursery() as nursery:
            client: RedisClient | None = None
            with trio.move_on_after(timeout * (1 + max(1, len(address.hosts)))):
                client = await nursery.start(_Opener(address, timeout).hold)
            if client is None:
                raise RedisUnavailableError(f"Redis at {address} does not answer.")
            yield client
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_single(group)
        raise


class _OnePolicy(NoRetryPolicy):
    """Each command is sent once, and fails with one of `REDIS_ERRORS`."""

    async def call_with_retries(
        self, func: Callable[..., Awaitable[T]], before_hook: Any = None, failure_hook: Any = None
    ) -> T:
        try:
            return await super().call_with_retries(func, before_hook, failure_hook)
        except (RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            # A connection that is ending takes no command, and a pool that has lost one is closed at once.
            # Whoever still has the client learns of it a moment later.
            raise RedisUnavailableError("The connection to Redis is lost.") from error


def is_cluster(client: RedisClient) -> bool:
    """Whether the keys are spread over several servers, so that a script may use those of one slot only."""
    return isinstance(client, RedisCluster)


def publishing(client: RedisClient) -> str:
    """The command by which scripts publish."""
    return "SPUBLISH" if is_cluster(client) else "PUBLISH"


@asynccontextmanager
async def open_pubsub(client: RedisClient, channels: Sequence[Channel] = ()) -> AsyncIterator[PubSub]:
    """Listen to channels until the end of the block, or until it can't be known that all is heard.

    In a cluster these are shard channels, to be published to with SPUBLISH.

    Args:
        client: An open client; its servers, its credentials and its timeout are used.
        channels: Those to begin with.

    Raises:
        RedisUnavailableError: If Redis can't be reached or refuses; and out of the block, when a connection
            is lost or silent for the timeout, or when Redis ends a subscription.
    """
    kwargs: dict[str, Any] = dict(client.connection_pool.connection_kwargs)
    timeout: float = kwargs["connect_timeout"]
    tls, username, password = (kwargs.get(name) for name in ("ssl_context", "username", "password"))

    def make_server(host: str, port: int | None) -> Server:
        return Server(host, port, timeout, tls, username, password)

    link_of_slot = None
    try:
        if isinstance(client, RedisCluster):
            places, link_of_slot = _map_slots(client)
            servers = [make_server(host, port) for host, port in places]
        else:
            with trio.fail_after(timeout):
                location = await _find_location(client)
            if isinstance(location, UnixDomainSocketLocation):
                servers = [make_server(location.path, None)]
            else:
                servers = [make_server(location.host, location.port)]
    except (RedisError, TimeoutError, trio.TooSlowError) as error:
        raise RedisUnavailableError(f"Redis can't be found: {_because(error)}.") from error
    async with open_links(servers, link_of_slot) as pubsub:
        if channels:
            await pubsub.subscribe(*channels)
        yield pubsub


async def _find_location(client: "Redis[bytes]") -> TCPLocation | UnixDomainSocketLocation:
    pool = client.connection_pool
    if isinstance(pool, SentinelConnectionPool):
        return await pool.get_primary_location()
    return cast("TCPLocation | UnixDomainSocketLocation", pool.location)


def _map_slots(client: "RedisCluster[bytes]") -> tuple[list[tuple[str, int]], list[int]]:
    layout = client.connection_pool.cluster_layout
    places: dict[tuple[str, int], int] = {}
    link_of_slot = []
    for slot in range(_SLOTS):
        node = layout.node_for_slot(slot)
        link_of_slot.append(places.setdefault((node.host, node.port), len(places)))
    return list(places), link_of_slot


@frozen
class _Opener:
    """Makes a client of what the URL says."""

    address: Address
    timeout: float

    async def hold(self, *, task_status: "trio.TaskStatus[RedisClient]") -> None:
        """Keep a client open until cancelled.

        In a task of its own, so that to open it can be given up.
        """
        try:
            async with AsyncExitStack() as stack:
                client = await self._enter(stack)
                await _check_server(client, self.address)
                task_status.started(client)
                await trio.sleep_forever()
        except (*REDIS_ERRORS, BaseExceptionGroup, ValueError) as error:
            # coredis makes an error of being cancelled.
            await trio.lowlevel.checkpoint_if_cancelled()
            try:
                if isinstance(error, BaseExceptionGroup):
                    raise_single(error)
                raise
            except (*REDIS_ERRORS, ValueError) as single:
                raise _explain(single, self.address) from single

    async def _enter(self, stack: AsyncExitStack) -> RedisClient:
        address = self.address
        common: dict[str, Any] = {
            "connect_timeout": self.timeout,
            "stream_timeout": self.timeout,
            "ssl_context": None if address.tls is None else address.tls.make_context(),
        }
        retrying: dict[str, Any] = {"retry_policy": _OnePolicy()}
        # Longer than to connect and to introduce itself take at most.
        pool_timeout = 4 * self.timeout
        options: dict[str, Any] = {
            "username": address.username,
            "password": address.password,
            **common,
            **retrying,
        }
        locations = [TCPLocation(host.name, host.port) for host in address.hosts]
        client: RedisClient
        if address.service is not None:
            sentinels: dict[str, Any] = {
                "username": address.sentinel_username,
                "password": address.sentinel_password,
                **common,
            }
            sentinel: Sentinel[bytes] = Sentinel(
                locations, sentinel_kwargs=sentinels, db=address.db, timeout=pool_timeout, **options
            )
            await stack.enter_async_context(sentinel)
            client = sentinel.primary_for(address.service)
        elif address.deployment is Deployment.CLUSTER:
            client = RedisCluster(
                startup_nodes=locations,
                # It would ask for the configuration, which a restricted user may not.
                skip_full_coverage_check=True,
                verify_version=False,
                pool_timeout=pool_timeout,
                **options,
            )
        else:
            place: dict[str, Any] = {"unix_socket_path": address.path}
            if address.path is None:
                place = {"host": locations[0].host, "port": locations[0].port}
            client = Redis(**place, db=address.db, verify_version=False, pool_timeout=pool_timeout, **options)
        return await stack.enter_async_context(client)


async def _check_server(client: RedisClient, address: Address) -> None:
    """Look whether a server is what the URL says, and not too old.

    Raises:
        RedisUnsuitableError: If it isn't.
        RedisUnavailableError: If it is a replica, which may change.
    """
    async with client.connection_pool.acquire() as connection:
        answer = await connection.create_request(b"HELLO", 3, decode=False)
    said = {key.decode(): value for key, value in cast("dict[bytes, Any]", answer).items()}
    mode, role, server, version = (
        said.get(key, b"").decode(errors="replace") for key in ("mode", "role", "server", "version")
    )
    if mode == "sentinel":
        raise RedisUnsuitableError(f"At {address} is a sentinel; begin the URL with redis+sentinel://.")
    if (mode == "cluster") != (address.deployment is Deployment.CLUSTER):
        is_one = "is a node of a cluster" if mode == "cluster" else "is not a cluster"
        begin = "redis+cluster://" if mode == "cluster" else "redis://"
        raise RedisUnsuitableError(f"Redis at {address} {is_one}; begin the URL with {begin}.")
    oldest = _OLDEST.get(server.lower())
    major = re.match(r"\d+", version)
    if oldest and major and int(major[0]) < oldest[0]:
        raise RedisUnsuitableError(
            f"{oldest[1]} at {address} is version {version}; it must be Redis 7, Valkey 8, or later."
        )
    if role in ("replica", "slave"):
        raise RedisUnavailableError(f"Redis at {address} is a replica, and takes no events.")


def _explain(error: Exception, address: Address) -> RedisUnavailableError:
    if isinstance(error, RedisUnavailableError):
        return error
    because = _because(error)
    if "cluster support disabled" in because:
        return RedisUnsuitableError(f"Redis at {address} is not a cluster; begin the URL with redis://.")
    return RedisUnavailableError(f"Redis at {address} can't be used: {because}.")


def _because(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, TimeoutError | trio.TooSlowError):
        return "there was no answer in time"
    return str(error).rstrip(".") or type(error).__name__
