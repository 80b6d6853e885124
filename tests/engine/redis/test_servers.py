"""The servers that a URL names, and which of them can be worked with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from localful_ws.engine.redis.errors import RedisUnavailableError, RedisUnsuitableError
from localful_ws.engine.redis.link import Link, Server, open_link
from localful_ws.engine.redis.servers import Servers, read_slots
from localful_ws.redis_url import parse_url
from tests.redis_server import RedisServer, redis_sentinel
from tests.spec_document import ROOT

OLDEST = "Redis 7, Valkey 8, or later"


def servers_of(url: str) -> Servers:
    return Servers.of(parse_url(url), 3.0)


async def complain(url: str) -> tuple[type[Exception], str]:
    """Connect to a real server, and look at it."""
    servers = servers_of(url)
    async with open_link(servers.first[0]) as link:
        with pytest.raises(RedisUnavailableError) as caught:
            servers.check(link)
    return caught.type, str(caught.value)


def test_a_single_server() -> None:
    servers = servers_of("redis://ada:pw@localhost:1234/5")
    assert servers.first == (Server("localhost", 1234, 3.0, None, "ada", "pw", 5),)
    assert str(servers.first[0]) == "localhost:1234"
    assert "pw" not in repr(servers)
    assert servers_of("unix://:pw@/run/a.sock?db=2").first == (
        Server("/run/a.sock", None, 3.0, None, None, "pw", 2),
    )
    assert list(map(str, servers_of("redis+cluster://[::1],h:7").first)) == ["[::1]:6379", "h:7"]


def test_sentinels_have_names_of_their_own() -> None:
    servers = servers_of("redis+sentinel://ada:pw@a,b:1/main?db=2&sentinel_username=eve&sentinel_password=sp")
    assert servers.first == tuple(
        Server(host, port, 3.0, None, "eve", "sp", 0) for host, port in (("a", 26379), ("b", 1))
    )
    assert servers.at(("c", 9)) == Server("c", 9, 3.0, None, "ada", "pw", 2)


def test_all_servers_of_a_cluster_are_spoken_to_in_the_same_way() -> None:
    servers = servers_of("rediss+cluster://ada:pw@a,b:1")
    assert servers.first[0].tls is not None
    for place in (("a", 6379), ("c", 9)):
        assert servers.at(place) == Server(*place, 3.0, servers.first[0].tls, "ada", "pw")


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    for option in (f"ssl_ca_certs={tmp_path}/none", f"ssl_certfile={tmp_path}/none"):
        with pytest.raises(ValueError, match="can't be read"):
            servers_of(f"rediss://:secret@localhost?{option}")


@pytest.mark.parametrize(
    ("server", "version", "complaint"),
    [
        ("redis", "6.2.14", f"Redis at h:1 is version 6.2.14; it must be {OLDEST}."),
        ("valkey", "7.2.9", f"Valkey at h:1 is version 7.2.9; it must be {OLDEST}."),
        ("redis", "7.0.0", None),
        ("redis", "10.1", None),
        ("valkey", "8.0.1", None),
        ("something", "0.1", None),
        ("redis", "unstable", None),
    ],
)
async def test_versions(server: str, version: str, complaint: str | None) -> None:
    servers = servers_of("redis://h:1")
    link = Link(servers.first[0], trio.testing.memory_stream_pair()[0], None)
    link.hello = {"server": server, "version": version, "mode": "standalone", "role": "master"}
    if complaint is None:
        servers.check(link)
    else:
        with pytest.raises(RedisUnsuitableError) as caught:
            servers.check(link)
        assert str(caught.value) == complaint


def test_the_documentation_names_the_oldest_versions() -> None:
    assert OLDEST in (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")


@pytest.mark.sockets
async def test_what_the_url_says_is_compared_with_what_is_there(
    redis_server: RedisServer, redis_cluster: Sequence[RedisServer]
) -> None:
    port = redis_cluster[0].port
    assert await complain(f"redis://127.0.0.1:{port}") == (
        RedisUnsuitableError,
        f"Redis at 127.0.0.1:{port} is a node of a cluster; begin the URL with redis+cluster://.",
    )
    port = redis_server.port
    assert await complain(f"redis+cluster://127.0.0.1:{port}") == (
        RedisUnsuitableError,
        f"Redis at 127.0.0.1:{port} is not a cluster; begin the URL with redis://.",
    )
    with redis_sentinel(redis_server, "main") as sentinel:
        for scheme in ("redis", "redis+cluster"):
            assert await complain(f"{scheme}://127.0.0.1:{sentinel.port}") == (
                RedisUnsuitableError,
                f"At 127.0.0.1:{sentinel.port} is a sentinel; begin the URL with redis+sentinel://.",
            )


@pytest.mark.sockets
async def test_a_replica_takes_no_events(redis_server: RedisServer) -> None:
    with RedisServer("--replicaof", "127.0.0.1", str(redis_server.port)) as replica:
        # It may be something else soon: that is no unsuitable server.
        assert await complain(replica.url) == (
            RedisUnavailableError,
            f"Redis at 127.0.0.1:{replica.port} is a replica, and takes no events.",
        )
        replica.cli("replicaof", "no", "one")
        servers = servers_of(replica.url)
        async with open_link(servers.first[0]) as link:
            servers.check(link)


def test_slots() -> None:
    reply: Any = [
        [0, 99, [b"10.0.0.1", 6379, b"id", []], [b"10.0.0.2", 6379, b"replica"]],
        [100, 199, [b"", 6380, b"id", []]],
        [200, 299, [None, 6381, b"id", []]],
        [300, 399, [b"?", 6382, b"id", []]],
        # What no Cluster says.
        [400, 99999, [b"a", 6383]],
        [500, 599, [b"a", None]],
        [600, 699],
        None,
    ]
    assert list(read_slots(reply, ("asked", 7000))) == [
        (0, 99, ("10.0.0.1", 6379)),
        (100, 199, ("asked", 6380)),
        (200, 299, ("asked", 6381)),
    ]
