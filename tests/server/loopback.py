"""A node on real sockets, and devices that do to theirs what a test says."""

import json
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import trio
from attrs import Factory, define
from structlog.testing import capture_logs

from localful_ws.clock import Clock
from localful_ws.engine.memory import MemoryEngine
from localful_ws.publishing import decode_publish_body
from localful_ws.server.listeners import address, bind
from localful_ws.server.node import Node
from localful_ws.server.verifier import build_verifier
from localful_ws.settings import Settings
from localful_ws.tcp import TcpStream, accept_connections
from localful_ws.tokens import TokenVerifier, mint_token
from tests.raw_device import RawDevice, handshake, text
from tests.server.tls import device_side, server_side
from tests.world import SECRET, make_settings

PATIENCE = 10.0
"""Seconds in which whatever is waited for happens, or the test fails."""

_NO_LINGER = struct.pack("ii", 1, 0)


async def until(happened: Callable[[], object]) -> None:
    """Wait until something is so; sockets tell nobody when."""
    with trio.fail_after(PATIENCE):
        while not happened():  # noqa: ASYNC110
            await trio.sleep(0.001)


def open_files() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def socket_of(device: RawDevice) -> trio.socket.SocketType:
    """A device's socket."""
    stream = device.stream
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    return cast("trio.SocketStream", stream).socket


def reset(device: RawDevice) -> None:
    """Have the server's kernel told that the connection is broken."""
    socket_of(device).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    socket_of(device).close()


@define(eq=False)
class Loopback:
    """A node, and where it listens.

    Attributes:
        node: The node.
        settings: Its settings.
        connections: Where connections are served.
        nursery: Where devices read.
        where: Host and port.
        tls: Whether TLS is spoken.
        devices: All devices' ends, to be closed in the end.
    """

    node: Node
    settings: Settings
    connections: trio.Nursery
    nursery: trio.Nursery
    where: tuple[str, int]
    tls: bool
    devices: list[trio.abc.Stream] = Factory(list)

    def token(self, user: str = "ada") -> str:
        return mint_token(SECRET, user, "laptop", 3600, self.node.clock.now())

    async def connect(self, receive_buffer: int | None = None) -> trio.abc.Stream:
        """Connect, with TLS if it is spoken.

        Args:
            receive_buffer: The size of the device's receive buffer, for one that is to stall soon.
        """
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(self.where)
        stream = trio.SocketStream(sock)
        self.devices.append(stream)
        if not self.tls:
            return stream
        secret = device_side(stream)
        await secret.do_handshake()
        return secret

    async def raw(self, *data: bytes) -> RawDevice:
        """Connect a device that sends ``data`` as it is, and keeps what it gets."""
        device = RawDevice(await self.connect(), trio.current_time)
        self.nursery.start_soon(device.read)
        if data:
            await device.send(*data)
        return device

    async def device(self, user: str = "ada") -> RawDevice:
        """Connect a device, and authenticate it."""
        device = await self.stalling(user, receive_buffer=None)
        self.nursery.start_soon(device.read)
        return device

    async def stalling(self, user: str = "ada", *, receive_buffer: int | None = 4096) -> RawDevice:
        """Connect a device, and authenticate it. It reads no further."""
        device = RawDevice(await self.connect(receive_buffer), trio.current_time)
        await device.send(handshake())
        while device.status is None:
            device.received += await device.stream.receive_some(65536)
        await device.send(text({"event": "authenticate", "token": self.token(user), "vaults": ["a"]}))
        while not device.messages:
            device.received += await device.stream.receive_some(65536)
        return device

    async def publish(self, *events: dict[str, Any]) -> None:
        body = json.dumps({"events": events}).encode()
        await self.node.publish(decode_publish_body(body, self.settings.publish_limits()))


@asynccontextmanager
async def open_loopback(
    *,
    tls: bool = False,
    verifier: TokenVerifier | None = None,
    send_buffer: int | None = None,
    **changes: Any,
) -> AsyncIterator[Loopback]:
    """Run a node on real sockets for the length of the block. In the end no descriptor is left.

    Args:
        tls: Whether TLS is spoken.
        verifier: In place of the one that the settings describe.
        send_buffer: The size of the server's send buffers, for devices that are to stall soon.
        changes: Settings.
    """
    settings = make_settings(**changes)
    before = open_files()
    clock = Clock()
    node = Node(
        settings, clock, verifier or build_verifier(settings, clock.now), MemoryEngine(settings, clock)
    )

    async def serve(stream: TcpStream) -> None:
        await node.serve_stream(server_side(stream) if tls else stream)

    with capture_logs() as log, bind("127.0.0.1", 0, setting="port", backlog=100) as listening:
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(node.run)
            nursery.start_soon(accept_connections, listening, serve, connections)
            loopback = Loopback(node, settings, connections, nursery, address(listening), tls)
            try:
                yield loopback
            finally:
                for stream in loopback.devices:
                    await trio.aclose_forcefully(stream)
            nursery.cancel_scope.cancel()
    assert [entry for entry in log if entry["log_level"] not in ("debug", "info")] == []
    assert open_files() == before
