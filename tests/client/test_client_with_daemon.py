"""The client against a daemon, on both event loops and real sockets."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trustme

from localful_ws.client import (
    Client,
    ClosedByServerError,
    Connected,
    Disconnected,
    ReceivedEvent,
    RequestRefusedError,
    SnapshotNeeded,
    Status,
    open_client,
)
from localful_ws.client.waking import Signal
from tests.end_to_end.process import DaemonProcess
from tests.redis_server import RedisServer

pytestmark = pytest.mark.sockets

PATIENCE = 60.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess("--max-vaults", "3") as daemon:
        yield daemon


def item(number: int, vault: str = "v1", **more: str) -> dict[str, Any]:
    return {"event": "item-create", "user": "ada", "vault": vault, "data": number, **more}


def run(backend: str, main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(PATIENCE):
            await main()

    anyio.run(bounded, backend=backend)


class Device:
    """What a client of one daemon and another is opened with.

    Attributes:
        statuses: What the client told of.
    """

    def __init__(self, daemon: DaemonProcess) -> None:
        self.daemon = daemon
        self.statuses: list[Status] = []
        self._told = Signal()

    def tell(self, status: Status) -> None:
        self.statuses.append(status)
        self._told.notify()

    async def told(self, kind: type[Status], count: int = 1) -> None:
        """Wait until there have been so many statuses of a kind."""
        while sum(isinstance(status, kind) for status in self.statuses) < count:
            await self._told.wait()

    @property
    def resumed(self) -> list[bool | None]:
        return [status.resumed for status in self.statuses if isinstance(status, Connected)]

    async def get_token(self) -> str:
        return self.daemon.token("ada", "laptop")

    def client(self, scheme: str = "ws", **changes: Any) -> AbstractAsyncContextManager[Client]:
        options: dict[str, Any] = {
            "get_token": self.get_token,
            "vaults": ["v1"],
            "on_status": self.tell,
            "draw": lambda: 0.0,
        }
        url = f"{scheme}://127.0.0.1:{self.daemon.ports['websocket']}/v1/sync"
        return open_client(url, **options | changes)


async def take(client: Client, count: int) -> list[Any]:
    """So many arrivals, events as their data."""
    arrivals = [await anext(client) for _ in range(count)]
    return [arrival.data if isinstance(arrival, ReceivedEvent) else arrival for arrival in arrivals]


async def publish(daemon: DaemonProcess, *events: dict[str, Any]) -> None:
    await anyio.to_thread.run_sync(daemon.publish, *events)


async def all_gone(daemon: DaemonProcess) -> None:
    """Wait until the daemon has no device left."""
    devices = 'localful_ws_connections{state="authenticated"}'
    while await anyio.to_thread.run_sync(daemon.metric, devices):  # noqa: ASYNC110
        await anyio.sleep(0.01)


def test_it_is_told_what_it_subscribed_to(backend: str, daemon: DaemonProcess) -> None:
    async def main() -> None:
        device = Device(daemon)
        async with device.client() as client:
            assert (await client.wait_ready()).group == "laptop"
            (notice,) = await take(client, 1)
            assert isinstance(notice, SnapshotNeeded)
            await publish(daemon, item(1), item(2, group="laptop"), item(3, "v2"), item(4))
            assert await take(client, 2) == [1, 4]
            assert await client.subscribe(["v2", "v3"]) == ("v2", "v3")
            with pytest.raises(RequestRefusedError, match="too-many-vaults"):
                await client.subscribe(["a", "b", "c", "d"])
            await publish(daemon, item(5), item(6, "v2"))
            assert await take(client, 1) == [6]
            stored = client.cursor
            await publish(daemon, item(7, "v2"), item(8, "v3"))
        await all_gone(daemon)
        async with device.client(vaults=["v3"], since=stored) as client:
            assert await take(client, 1) == [8]
        await all_gone(daemon)

    run(backend, main)


def test_a_burst_arrives_whole_and_in_order(backend: str, daemon: DaemonProcess) -> None:
    async def main() -> None:
        async with Device(daemon).client(buffered_events=3) as client:
            await take(client, 1)
            await publish(daemon, *[item(number) for number in range(500)])
            assert await take(client, 500) == list(range(500))

    run(backend, main)


def test_it_renews_its_token(backend: str, daemon: DaemonProcess) -> None:
    async def main() -> None:
        device = Device(daemon)
        # The first runs out after 3 s, and is asked for at half of them.
        seconds = [3.0, 600.0]

        async def get_token() -> str:
            await anyio.lowlevel.checkpoint()
            return daemon.token("ada", "laptop", seconds.pop(0))

        async with device.client(get_token=get_token) as client:
            before = (await client.wait_ready()).expires_at
            await device.told(Connected, 2)
            assert client.session is not None
            assert client.session.expires_at > before + 500
        assert not [status for status in device.statuses if isinstance(status, Disconnected)]

    run(backend, main)


def test_a_daemon_that_is_killed_is_come_back_to(
    backend: str, redis_server: RedisServer, redis_prefix: str
) -> None:
    options = ("--engine", redis_server.url, "--redis-prefix", redis_prefix)

    async def main() -> None:
        with DaemonProcess(*options) as first:
            device = Device(first)
            # The options that come last count.
            again = (*options, "--port", str(first.ports["websocket"]))
            async with device.client() as client:
                await take(client, 1)
                await publish(first, item(1))
                assert await take(client, 1) == [1]
                first.process.kill()
                await device.told(Disconnected)
                with DaemonProcess(*again) as second:
                    await publish(second, item(2))
                    await device.told(Connected, 2)
                    await publish(second, item(3))
                    assert await take(client, 2) == [2, 3]
        assert device.resumed == [None, True]

    run(backend, main)


def test_tls(backend: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def main() -> None:
        with DaemonProcess("--tls-cert", str(chain), "--tls-key", str(key)) as daemon:
            async with Device(daemon).client("wss", ssl_context=trusting) as client:
                await take(client, 1)
                await publish(daemon, *[item(number) for number in range(100)])
                assert await take(client, 100) == list(range(100))
            await all_gone(daemon)
            distrusting = Device(daemon)
            async with distrusting.client("wss"):
                await distrusting.told(Disconnected)
            (told,) = distrusting.statuses
            assert isinstance(told, Disconnected)
            assert "certificate verify failed" in told.message
            assert told.code is None
            plain = Device(daemon)
            async with plain.client("ws"):
                await plain.told(Disconnected)
            assert plain.statuses[0] == Disconnected(
                None, "", "There is no connection: no WebSocket server answered.", 0.5
            )

    run(backend, main)


def test_where_nobody_listens(backend: str) -> None:
    async def main() -> None:
        told: list[Status] = []
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{taken.getsockname()[1]}/v1/sync"
            async with open_client(url, lambda: "a.b.c", on_status=told.append, draw=lambda: 0.0):
                while not told:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
        refused = "There is no connection: Connection refused."
        assert told == [Disconnected(None, "", refused, 0.5)]

    run(backend, main)


def test_a_token_that_is_refused(backend: str, daemon: DaemonProcess) -> None:
    async def main() -> None:
        async with Device(daemon).client(get_token=lambda: "no.such.token") as client:
            with pytest.raises(ClosedByServerError) as caught:
                await anext(client)
        assert (caught.value.code, caught.value.reason) == (4401, "unauthorized")

    run(backend, main)


def test_cancelled_while_it_waits(backend: str, daemon: DaemonProcess) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with Device(daemon).client() as client:
                await take(client, 1)
                scope.cancel()
                await anext(client)
        assert scope.cancelled_caught
        await all_gone(daemon)

    run(backend, main)


def test_a_task_of_asyncio_is_cancelled(daemon: DaemonProcess) -> None:
    waiting = asyncio.Event()

    async def be_device() -> None:
        async with Device(daemon).client() as client:
            await take(client, 1)
            waiting.set()
            async for _ in client:
                pass

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            task = asyncio.create_task(be_device())
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await all_gone(daemon)

    asyncio.run(main())


def test_who_waits_with_a_timeout_of_asyncio_loses_nothing(daemon: DaemonProcess) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE), Device(daemon).client() as client:
            await take(client, 1)
            told: list[Any] = []
            await publish(daemon, *[item(number) for number in range(200)])
            while len(told) < 200:
                try:
                    told += await asyncio.wait_for(take(client, 1), 0.0005)
                except TimeoutError:
                    continue
            assert told == list(range(200))

    asyncio.run(main())
