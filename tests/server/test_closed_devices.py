"""A closed device leaves no cycle behind: the garbage collector, which comes by seldom, finds nothing of it."""

import gc
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from localful_ws.protocol import CloseCode
from tests.raw_device import close, handshake, text
from tests.server.loopback import Loopback, open_loopback, reset, until

Story = Callable[[Loopback], Awaitable[object]]
STORIES: list[Story] = []
OURS = ("localful_ws", "trio_websocket", "wsproto", "h11", "httptools")


def story(tell: Story) -> Story:
    """What may become of a connection."""
    STORIES.append(tell)
    return tell


@story
async def closed_by_the_device(loopback: Loopback) -> None:
    device = await loopback.device()
    await device.send(close())
    await device.ended.wait()
    assert device.closed == (1000, "normal")


@story
async def closed_by_the_server(loopback: Loopback) -> None:
    device = await loopback.device()
    for each in loopback.node.devices():
        each.close(CloseCode.FORBIDDEN)
    await until(lambda: device.closed)
    await device.send(close())
    await device.ended.wait()
    assert device.closed == (4403, "forbidden")


@story
async def closed_by_the_server_and_silent(loopback: Loopback) -> None:
    device = await loopback.device()
    for each in loopback.node.devices():
        each.close(CloseCode.FORBIDDEN)
    await device.ended.wait()


@story
async def reset_by_the_device(loopback: Loopback) -> None:
    reset(await loopback.device())


@story
async def reset_before_anything_is_said(loopback: Loopback) -> None:
    reset(await loopback.raw())


@story
async def refused(loopback: Loopback) -> None:
    device = await loopback.raw(handshake(path="/elsewhere"))
    await until(lambda: device.status == 404)
    await device.stream.aclose()


@story
async def a_request_with_a_token_that_does_not_hold(loopback: Loopback) -> None:
    device = await loopback.raw(handshake("Authorization: Bearer none"))
    await until(lambda: device.status == 401)
    await device.stream.aclose()


@story
async def opened_with_a_token(loopback: Loopback) -> None:
    device = await loopback.raw(handshake(f"Authorization: Bearer {loopback.token()}"))
    await until(lambda: device.messages)
    await device.send(close())
    await device.ended.wait()


@story
async def a_token_that_does_not_hold(loopback: Loopback) -> None:
    device = await loopback.raw(handshake())
    await device.send(text({"event": "authenticate", "token": "none"}))
    await until(lambda: device.closed)
    await device.send(close())
    await device.ended.wait()


@story
async def many_messages_at_once_and_gone(loopback: Loopback) -> None:
    device = await loopback.device()
    await device.send(*[text({"vaults": ["a"]})] * 20)
    reset(device)


@story
async def a_malformed_frame(loopback: Loopback) -> None:
    device = await loopback.device()
    await device.send(b"\xff" * 20)
    await until(lambda: device.closed)
    await device.stream.aclose()


@story
async def no_request(loopback: Loopback) -> None:
    device = await loopback.raw(b"\x00 this is no request \r\n\r\n")
    await device.ended.wait()


@story
async def no_request_in_time(loopback: Loopback) -> None:
    device = await loopback.raw(b"GET")
    await device.ended.wait()


@story
async def no_authentication_in_time(loopback: Loopback) -> None:
    device = await loopback.raw(handshake())
    await device.ended.wait()
    assert device.closed == (4408, "authentication-timeout")


@story
async def a_device_that_stalls(loopback: Loopback) -> None:
    await loopback.stalling()
    for _ in range(40):
        await loopback.publish(*[{"event": "user-update", "user": "ada", "data": "x" * 60_000}] * 10)
        if loopback.node.metrics.slow_consumers:
            break
    await until(lambda: loopback.node.metrics.slow_consumers)


@pytest.mark.sockets
@pytest.mark.parametrize("transport", ["lean", "trio-websocket"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_nothing_is_left_to_the_garbage_collector(transport: str, *, tls: bool) -> None:
    async with open_loopback(
        tls=tls,
        transport=transport,
        send_buffer=4096,
        auth_timeout=0.1,
        handshake_timeout=0.2,
        close_timeout=0.1,
        ping_interval=0.1,
        ping_timeout=2.0,
        send_timeout=0.1,
    ) as loopback:
        node = loopback.node
        at_rest = len(loopback.connections.child_tasks)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for tell in STORIES:
                if tell is no_request and transport == "trio-websocket":
                    continue  # an exception of h11's holds on to itself
                await tell(loopback)
                await until(lambda: not node.devices() and len(loopback.connections.child_tasks) == at_rest)
            # The timers, too, have forgotten them.
            await until(lambda: len(node.timers) == 0)
            gc.collect()
            left = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
            # What trio's TLS at the device's end leaves is none of ours.
            secret = sum(isinstance(each, ssl.SSLObject) and bool(each.server_side) for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert {what: count for what, count in left.items() if what.startswith(OURS)} == {}
    assert secret == 0
