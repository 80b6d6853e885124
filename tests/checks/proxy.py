"""A proxy that does to a handshake what proxies do when they are set up wrong."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from attrs import frozen

Change = Callable[[list[str]], list[str]]
"""What becomes of the lines of a request's head on the way."""


def unchanged(lines: list[str]) -> list[str]:
    return lines


def without(*names: str) -> Change:
    """Headers of these names get lost."""
    prefixes = tuple(f"{name.lower()}:" for name in names)
    return lambda lines: [line for line in lines if not line.lower().startswith(prefixes)]


def rewriting(old: str, new: str) -> Change:
    """This becomes that, wherever it stands in the head."""
    return lambda lines: [line.replace(old, new) for line in lines]


def adding(line: str) -> Change:
    return lambda lines: [*lines, line]


@frozen
class Fault:
    """What is wrong with a proxy.

    Attributes:
        request: What becomes of a request.
        response: What becomes of the answer.
        answer: What it answers by itself.
        holds_back: Whether it swallows what comes after the handshake.
        hangs_up: Whether it ends the connection after the handshake.
        silent: Whether it never answers.
        idle: Seconds after which it cuts an upgraded connection.
        route: Which port a request is for, by its target; None takes the WebSocket port.
    """

    request: Change = unchanged
    response: Change = unchanged
    answer: bytes | None = None
    holds_back: bool = False
    hangs_up: bool = False
    silent: bool = False
    idle: float | None = None
    route: Callable[[str], int] | None = None


async def _read_head(stream: trio.abc.Stream) -> tuple[list[str], bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = await stream.receive_some(4096)
        if not chunk:
            return [], b""
        received += bytes(chunk)
    head, _, rest = received.partition(b"\r\n\r\n")
    return head.decode("latin-1").split("\r\n"), rest


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _pump(source: trio.abc.Stream, sink: trio.abc.Stream, scope: trio.CancelScope) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for chunk in source:
            await sink.send_all(chunk)
    scope.cancel()


async def _serve(fault: Fault, port: int, device: trio.abc.Stream) -> None:
    async with device:
        with suppress(trio.BrokenResourceError):
            await _pass(fault, port, device)


async def _pass(fault: Fault, port: int, device: trio.abc.Stream) -> None:
    if fault.silent:
        await trio.sleep_forever()
    if fault.answer is not None:
        # Whatever it is that came, perhaps the beginning of TLS.
        await device.receive_some(4096)
        await device.send_all(fault.answer)
        return
    lines, rest = await _read_head(device)
    if not lines:
        return
    target = lines[0].split()[1]
    there = await trio.open_tcp_stream("127.0.0.1", port if fault.route is None else fault.route(target))
    async with there, trio.open_nursery() as nursery:
        await there.send_all(_head(fault.request(lines)) + rest)
        answer, first = await _read_head(there)
        await device.send_all(_head(fault.response(answer)) + first)
        upgraded = answer[0].split()[1] == "101"
        if upgraded and fault.hangs_up:
            return
        if upgraded and fault.idle is not None:
            nursery.cancel_scope.deadline = trio.current_time() + fault.idle
        if upgraded and fault.holds_back:
            await trio.sleep_forever()
        nursery.start_soon(_pump, device, there, nursery.cancel_scope)
        nursery.start_soon(_pump, there, device, nursery.cancel_scope)


@asynccontextmanager
async def running_proxy(fault: Fault, port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Have a proxy before a port, on a port of its own, with TLS if there is a context."""

    async def serve(stream: trio.abc.Stream) -> None:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        await _serve(fault, port, stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()
