"""Clients of whatever the setting ``engine`` may lead to: real servers, with all their locks."""

import logging
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
import trio.testing
import trustme
from localful_ws.engine.redis.clients import (
    REDIS_ERRORS,
    RedisClient,
    RedisUnavailableError,
    is_cluster,
    open_client,
    open_pubsub,
)

from localful_ws.redis_url import RedisUrlError
from tests.redis_server import RedisServer, free_port, redis_sentinel
from tests.spec_document import ROOT

TIMEOUT = 10.0
PASSWORD = "pa/ss:w@rd #%?"
OLDEST = "Redis 7, Valkey 8, or later"
QUOTED = quote(PASSWORD, safe="")

pytestmark = pytest.mark.sockets


async def use(url: str, prefix: str = "test") -> None:
    """Write, read and hear something."""
    keys = [f"{prefix}:{number}" for number in range(20)]
    async with open_client(url, TIMEOUT) as client, open_pubsub(client, keys) as pubsub:
        publish = client.spublish if is_cluster(client) else client.publish
        for key in keys:
            await client.set(key, b"\xff" + key.encode())
            assert await client.get(key) == b"\xff" + key.encode()
            await publish(key, b"\xfe")
        with trio.fail_after(TIMEOUT):
            heard = {(await anext(pubsub)).channel.decode() for _ in keys}
        assert heard == set(keys)


async def refuse(url: str, seconds: float = TIMEOUT) -> str:
    """Be refused; returns what is said."""
    with pytest.raises(RedisUnavailableError) as caught:
        async with open_client(url, seconds):
            pytest.fail("it was let in")
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told
    assert QUOTED not in told
    return str(caught.value)


async def test_a_single_server(redis_server: RedisServer, redis_prefix: str) -> None:
    await use(redis_server.url, redis_prefix)
    async with open_client(redis_server.url, TIMEOUT) as client:
        assert not is_cluster(client)


async def test_a_database_of_its_own(redis_prefix: str) -> None:
    with RedisServer() as server:
        await use(f"redis://127.0.0.1:{server.port}/3", redis_prefix)
        assert (server.cli("dbsize"), server.cli("-n", "3", "dbsize")) == ("0", "20")
        assert "DB index is out of range" in await refuse(f"redis://127.0.0.1:{server.port}/99")


async def test_a_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer("--requirepass", PASSWORD) as server:
        await use(f"redis://:{QUOTED}@127.0.0.1:{server.port}")
        assert "must be called with the client already authenticated" in await refuse(
            f"redis://127.0.0.1:{server.port}"
        )
        assert "invalid username-password" in await refuse(f"redis://:{QUOTED}x@127.0.0.1:{server.port}")
    assert PASSWORD not in caplog.text
    assert QUOTED not in caplog.text


async def test_a_user_who_may_do_little(redis_prefix: str) -> None:
    may = ["-@all", "+hello", "+set", "+get", "+publish", "+subscribe", "+unsubscribe", "+ping"]
    user = ["on", f">{PASSWORD}", f"~{redis_prefix}:*", f"&{redis_prefix}:*", *may]
    with RedisServer("--user", "ada", *user, "--user", "default", "off") as server:
        await use(f"redis://ada:{QUOTED}@127.0.0.1:{server.port}", redis_prefix)
        await refuse(f"redis://ada:wrong@127.0.0.1:{server.port}")


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with RedisServer("--unixsocket", str(path), "--requirepass", PASSWORD):
        await use(f"unix://:{QUOTED}@{quote(str(path))}?db=1")
    assert "can't be used" in await refuse(f"unix://{tmp_path}/none")


class Certificates:
    """An authority, and what it has certified."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.authority, self.server, self.client = (directory / name for name in ("ca", "server", "client"))
        authority.cert_pem.write_to_path(self.authority)
        authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            self.server
        )
        authority.issue_cert("a-node").private_key_and_cert_chain_pem.write_to_path(self.client)

    def options(self, port: int, clients: str = "no") -> list[str]:
        """How a server is told to speak TLS."""
        return [
            *("--tls-port", str(port), "--tls-ca-cert-file", str(self.authority)),
            *("--tls-cert-file", str(self.server), "--tls-key-file", str(self.server)),
            *("--tls-auth-clients", clients),
        ]


async def test_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ca = f"ssl_ca_certs={certificates.authority}"
    port = free_port()
    with RedisServer(*certificates.options(port), "--bind", "127.0.0.1 127.0.0.2", "--requirepass", PASSWORD):
        at = f":{QUOTED}@localhost:{port}"
        await use(f"rediss://{at}/1?{ca}")
        await use(f"rediss://:{QUOTED}@127.0.0.2:{port}?{ca}&ssl_check_hostname=false")
        await use(f"rediss://{at}?ssl_cert_reqs=none")
        assert "certificate verify failed" in await refuse(f"rediss://{at}")
        assert "IP address mismatch" in await refuse(f"rediss://:{QUOTED}@127.0.0.2:{port}?{ca}")
        assert "ssl_ca_certs can't be read" in await refuse(f"rediss://{at}?ssl_ca_certs=/nowhere")
        await refuse(f"redis://{at}")


async def test_tls_with_a_certificate_of_the_client(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ca = f"ssl_ca_certs={certificates.authority}"
    port = free_port()
    with RedisServer(*certificates.options(port, clients="yes")):
        await use(f"rediss://localhost:{port}?{ca}&ssl_certfile={certificates.client}")
        await refuse(f"rediss://localhost:{port}?{ca}")


async def test_tls_with_sentinels(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    port, sentinel_port = free_port(), free_port()
    with RedisServer(*certificates.options(port), "--tls-replication", "yes"):
        options = [*certificates.options(sentinel_port), "--tls-replication", "yes"]
        config = f"sentinel monitor main 127.0.0.1 {port} 1"
        with RedisServer("--sentinel", *options, config=config):
            ca = f"ssl_ca_certs={certificates.authority}"
            await use(f"rediss+sentinel://127.0.0.1:{sentinel_port}/main?{ca}")


async def test_tls_in_a_cluster(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    port = free_port()
    cluster = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--tls-cluster", "yes"]
    with RedisServer(*certificates.options(port), *cluster) as server:
        server.cli("cluster", "addslotsrange", "0", "16383")
        with trio.fail_after(TIMEOUT):
            while True:
                if "cluster_state:ok" in server.cli("cluster", "info"):
                    break
                await trio.sleep(0.02)
        await use(f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={certificates.authority}")


async def test_sentinels(redis_prefix: str) -> None:
    auth = f"sentinel auth-pass main {PASSWORD.replace(' ', '')}"
    password = PASSWORD.replace(" ", "")
    with (
        RedisServer("--requirepass", password) as server,
        redis_sentinel(server, "main", auth, "requirepass of-the-sentinel") as sentinel,
    ):
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
        userinfo = f":{quote(password, safe='')}@"
        options = "sentinel_password=of-the-sentinel&db=2"
        await use(f"redis+sentinel://{userinfo}{hosts}/main?{options}", redis_prefix)
        assert server.cli("-a", password, "--no-auth-warning", "-n", "2", "dbsize") == "20"
        assert "No primary found" in await refuse(f"redis+sentinel://{userinfo}{hosts}/other?{options}")
        await refuse(f"redis+sentinel://{userinfo}{hosts}/main")
        assert "redis+sentinel://" in await refuse(f"redis://:of-the-sentinel@127.0.0.1:{sentinel.port}")
        server.kill()
        assert "can't be used" in await refuse(f"redis+sentinel://{userinfo}{hosts}/main?{options}")
        sentinel.kill()
        assert "can't be used" in await refuse(f"redis+sentinel://{userinfo}{hosts}/main?{options}")


async def test_a_cluster(redis_cluster: Sequence[RedisServer], redis_prefix: str) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{redis_cluster[2].port}"
    await use(url, redis_prefix)
    async with open_client(url, TIMEOUT) as client:
        assert is_cluster(client)
    assert all(server.cli("keys", f"{redis_prefix}:*") for server in redis_cluster)


async def test_a_user_of_a_cluster_who_may_do_little(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    may = ["+hello", "+set", "+get", "+spublish", "+ssubscribe", "+sunsubscribe", "+ping", "+cluster|slots"]
    user = [redis_prefix, "on", ">pw", f"~{redis_prefix}:*", f"&{redis_prefix}:*", *may]
    for server in redis_cluster:
        server.cli("acl", "setuser", *user)
    try:
        await use(f"redis+cluster://{redis_prefix}:pw@127.0.0.1:{redis_cluster[0].port}", redis_prefix)
    finally:
        for server in redis_cluster:
            server.cli("acl", "deluser", redis_prefix)


async def test_what_the_url_says_is_compared_with_what_is_there(
    redis_server: RedisServer, redis_cluster: Sequence[RedisServer]
) -> None:
    port = redis_cluster[0].port
    assert await refuse(f"redis://127.0.0.1:{port}") == (
        f"Redis at 127.0.0.1:{port} is a node of a cluster; begin the URL with redis+cluster://."
    )
    port = redis_server.port
    assert await refuse(f"redis+cluster://127.0.0.1:{port}") == (
        f"Redis at 127.0.0.1:{port} is not a cluster; begin the URL with redis://."
    )
    assert "can't be used" in await refuse(f"redis+sentinel://127.0.0.1:{port}/main")


async def test_a_replica_takes_no_events(redis_server: RedisServer) -> None:
    with RedisServer("--replicaof", "127.0.0.1", str(redis_server.port)) as replica:
        assert "is a replica" in await refuse(replica.url)
        replica.cli("replicaof", "no", "one")
        await use(replica.url)


async def test_nobody_is_there(caplog: pytest.LogCaptureFixture) -> None:
    for scheme, path in (("redis", ""), ("redis+cluster", ""), ("redis+sentinel", "/main"), ("rediss", "")):
        assert "127.0.0.1:" in await refuse(f"{scheme}://:{QUOTED}@127.0.0.1:{free_port()}{path}")
    assert caplog.text == ""


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster", "redis+sentinel"])
async def test_nobody_answers(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    path, said = ("/main", "No primary found") if scheme == "redis+sentinel" else ("", "answer")
    with RedisServer() as server:
        server.pause()
        began = trio.current_time()
        assert said in await refuse(f"{scheme}://:{QUOTED}@127.0.0.1:{server.port}{path}", 0.2)
        assert trio.current_time() - began < 1
    assert caplog.text == ""


async def test_a_command_is_not_waited_for_longer_than_the_timeout(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_client(server.url, 0.2) as client:
            await client.set(redis_prefix, "1")
            server.pause()
            began = trio.current_time()
            with pytest.raises(REDIS_ERRORS):
                await client.incr(redis_prefix)
            assert trio.current_time() - began < 1
            server.resume()
            # Late, and once.
            assert await client.get(redis_prefix) == b"2"


async def test_a_command_is_not_sent_again_when_the_connection_is_lost(redis_prefix: str) -> None:
    async def lose_connection(client: RedisClient) -> None:
        with pytest.raises(REDIS_ERRORS):
            await client.incr(redis_prefix)

    with RedisServer(appendonly=True, appendfsync="always") as server:
        async with open_client(server.url, TIMEOUT) as client, trio.open_nursery() as nursery:
            await client.incr(redis_prefix)
            server.pause()
            nursery.start_soon(lose_connection, client)
            await trio.testing.wait_all_tasks_blocked()
            server.kill()
            server.start()
        assert server.cli("get", redis_prefix) == "1"
        await use(server.url)


async def test_a_client_whose_connections_are_closed_fails_as_when_redis_is_away(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    async with open_client(redis_server.url, TIMEOUT) as client:
        script = client.register_script("return 1")
        assert await script([], []) == 1
    # As it is for a moment to whoever uses it when a connection is lost.
    with pytest.raises(RedisUnavailableError):
        await client.get(redis_prefix)
    with pytest.raises(RedisUnavailableError):
        await script([], [])


async def test_what_the_block_raises_comes_out_as_it_is(redis_server: RedisServer) -> None:
    async def fail(error: BaseException) -> None:
        async with open_client(redis_server.url, TIMEOUT):
            raise error

    with pytest.raises(ZeroDivisionError):
        await fail(ZeroDivisionError())
    with pytest.raises(ExceptionGroup, match="two") as caught:
        await fail(ExceptionGroup("two", [ValueError(), KeyError()]))
    assert [type(each) for each in caught.value.exceptions] == [ValueError, KeyError]
    with trio.move_on_after(0.05) as scope:
        async with open_client(redis_server.url, TIMEOUT):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_opening_can_be_cancelled() -> None:
    with RedisServer() as server:
        server.pause()
        with trio.move_on_after(0.05) as scope:
            async with open_client(server.url, TIMEOUT):
                pass
        assert scope.cancelled_caught


async def test_a_url_that_can_not_be_used() -> None:
    with pytest.raises(RedisUrlError):
        async with open_client(f"redis://ada:{PASSWORD}@localhost", TIMEOUT):
            pass


async def introduce(server: str, version: str, stream: trio.SocketStream) -> None:
    """Be a server that says of itself what it is told to."""
    said = {"server": server, "version": version, "mode": "standalone", "role": "master"}
    pairs = "".join(f"${len(text)}\r\n{text}\r\n" for pair in said.items() for text in pair)
    answer = f"%6\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n{pairs}".encode()
    async for data in stream:
        # Two commands, with which coredis introduces itself, may come in one piece.
        await stream.send_all(answer if b"HELLO" in data else b"+OK\r\n" * data.count(b"*"))


@pytest.mark.parametrize(
    ("server", "version", "complaint"),
    [
        (
            "redis",
            "6.2.14",
            f"Redis at 127.0.0.1:%d is version 6.2.14; it must be {OLDEST}.",
        ),
        (
            "valkey",
            "7.2.9",
            f"Valkey at 127.0.0.1:%d is version 7.2.9; it must be {OLDEST}.",
        ),
        ("redis", "7.0.0", None),
        ("redis", "10.1", None),
        ("valkey", "8.0.1", None),
        ("something", "0.1", None),
        ("redis", "unstable", None),
    ],
)
async def test_versions(server: str, version: str, complaint: str | None) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(introduce, server, version), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        url = f"redis://127.0.0.1:{port}"
        if complaint is None:
            async with open_client(url, TIMEOUT):
                pass
        else:
            assert await refuse(url) == complaint % port
        nursery.cancel_scope.cancel()


def test_the_documentation_names_the_oldest_versions() -> None:
    assert OLDEST in (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
