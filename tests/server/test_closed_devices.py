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
STORIES: dict[str, Story] = {}
OURS = ("localful_ws", "trio_websocket", "wsproto", "h11", "httptools")


def story(tell: Story) -> Story:
    """What may become of a connection."""
    STORIES[tell.__name__.replace("_", " ")] = tell
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
@pytest.mark.parametrize("name", STORIES)
async def test_nothing_is_left_to_the_garbage_collector(name: str, transport: str, *, tls: bool) -> None:
    if name == "no request" and transport == "trio-websocket":
        pytest.skip("an exception of h11's holds on to itself")
    async with open_loopback(
        tls=tls,
        transport=transport,
        send_buffer=4096,
        auth_timeout=0.1,
        handshake_timeout=0.2,
        close_timeout=0.2,
        ping_interval=0.3,
        send_timeout=0.5,
    ) as loopback:
        at_rest = len(loopback.connections.child_tasks)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await STORIES[name](loopback)
            node = loopback.node
            await until(lambda: not node.devices() and len(loopback.connections.child_tasks) == at_rest)
            # The timers, too, have forgotten it.
            await until(lambda: len(node.timers) == 0)
            gc.collect()
            left = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
            secret = [each for each in gc.garbage if isinstance(each, ssl.SSLObject) and each.server_side]
            found = {what: count for what, count in left.items() if what.startswith(OURS)}, len(secret)
            del secret
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert found == ({}, 0)
