"""The servers that the URL in the setting ``engine`` names, and whether they can be worked with."""

import re
from collections.abc import Iterable
from typing import Any, Final

from attrs import frozen

from localful_ws.engine.redis.errors import RedisUnavailableError, RedisUnsuitableError
from localful_ws.engine.redis.keys import SLOTS
from localful_ws.engine.redis.link import Link, Server
from localful_ws.redis_url import Address, Deployment

Place = tuple[str, int]
"""The name or address of a server, and its port."""

_OLDEST: Final = {"redis": (7, "Redis"), "valkey": (8, "Valkey")}


@frozen
class Servers:
    """Makes servers of places.

    Attributes:
        address: What the URL says.
        timeout: Seconds that a server may take to accept a connection, and to answer.
        first: The servers that the URL names; with Sentinel the Sentinels.
    """

    address: Address
    timeout: float
    first: tuple[Server, ...]

    @classmethod
    def of(cls, address: Address, timeout: float) -> "Servers":
        """Read the files that the URL names.

        Raises:
            ValueError: If one can't be read or used.
        """
        tls = None if address.tls is None else address.tls.make_context()
        sentinel = address.deployment is Deployment.SENTINEL
        username = address.sentinel_username if sentinel else address.username
        password = address.sentinel_password if sentinel else address.password
        if address.path is not None:
            first = [Server(address.path, None, timeout, None, username, password, address.db)]
        else:
            first = [
                Server(host.name, host.port, timeout, tls, username, password, 0 if sentinel else address.db)
                for host in address.hosts
            ]
        return cls(address, timeout, tuple(first))

    def at(self, place: Place) -> Server:
        """A server that others have named."""
        address, host = self.address, place[0]
        return Server(
            host, place[1], self.timeout, self.first[0].tls, address.username, address.password, address.db
        )

    def check_mode(self, link: Link) -> None:
        """Look whether a server is what the URL says.

        Raises:
            RedisUnsuitableError: If it isn't.
        """
        server, mode = link.server, link.hello.get("mode", "")
        clustered = self.address.deployment is Deployment.CLUSTER
        if mode == "sentinel":
            raise RedisUnsuitableError(f"At {server} is a sentinel; begin the URL with redis+sentinel://.")
        if (mode == "cluster") != clustered:
            is_one = "is not a cluster" if clustered else "is a node of a cluster"
            begin = "redis://" if clustered else "redis+cluster://"
            raise RedisUnsuitableError(f"Redis at {server} {is_one}; begin the URL with {begin}.")

    def check(self, link: Link) -> None:
        """Look whether a server is what the URL says, takes events, and is not too old.

        Raises:
            RedisUnsuitableError: If it isn't.
            RedisUnavailableError: If it is a replica, which may change.
        """
        self.check_mode(link)
        server, said = link.server, link.hello
        version = said.get("version", "")
        oldest = _OLDEST.get(said.get("server", "").lower())
        major = re.match(r"\d+", version)
        if oldest and major and int(major[0]) < oldest[0]:
            raise RedisUnsuitableError(
                f"{oldest[1]} at {server} is version {version}; it must be Redis 7, Valkey 8, or later."
            )
        if said.get("role") in ("replica", "slave"):
            raise RedisUnavailableError(f"Redis at {server} is a replica, and takes no events.")


def read_slots(reply: Any, asked: Place) -> Iterable[tuple[int, int, Place]]:
    """The slots of a Cluster and who has them, as ``CLUSTER SLOTS`` tells: first, last, and where.

    Args:
        reply: What it told.
        asked: Who was asked. Whoever names no host is that one.
    """
    for slots in reply:
        match slots:
            case [int(first), int(last), [bytes() | None as host, int(port), *_], *_] if last < SLOTS:
                name = host.decode(errors="replace") if host else ""
                if name != "?":
                    yield first, last, (name or asked[0], port)
