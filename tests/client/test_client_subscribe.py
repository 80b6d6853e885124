"""The client on Trio asks for another subscription."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.client import (
    ClosedByServerError,
    NoAnswerError,
    Refused,
    RequestRefusedError,
)
from tests.client.scripted_server import Peer, ScriptedServer, next_event
from tests.client.scripts import stay


async def test_subscribe_waits_until_it_is_in_force(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate()
        said = await peer.receive()
        assert (said["event"], said["vaults"]) == ("subscribe", ["v1", "v2"])
        await peer.send(event="item-create", vault="v1", data="before")
        await trio.sleep(2)
        await peer.send(event="subscribed", vaults=["v1", "v2"], id=said["id"])
        await peer.wait_closed()

    server = ScriptedServer(nursery, [script])
    async with server.client() as client:
        await client.wait_ready()
        assert await client.subscribe(["v1", "v2", "v1"]) == ("v1", "v2")
        assert trio.current_time() == 2
        assert client.vaults == ("v1", "v2")
        assert (await next_event(client)).data == "before"


async def test_a_refused_subscription_is_told_of(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate()
        said = await peer.receive()
        await peer.send(event="error", code="too-many-vaults", message="Too many.", id=said["id"])
        await peer.wait_closed()

    server = ScriptedServer(nursery, [script])
    async with server.client(vaults=["v1"]) as client:
        await client.wait_ready()
        with pytest.raises(RequestRefusedError, match=r"^Too many\. \(too-many-vaults\)$") as caught:
            await client.subscribe(["v2"])
        assert (caught.value.code, caught.value.message) == ("too-many-vaults", "Too many.")
        assert client.vaults == ("v1",)
    assert Refused("too-many-vaults", "Too many.") in server.statuses


async def test_an_answer_is_waited_for_so_long(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = ScriptedServer(nursery, [stay])
    async with server.client() as client:
        await client.wait_ready()
        with pytest.raises(NoAnswerError):
            await client.subscribe(["v1"])
        assert trio.current_time() == 10


async def test_a_wish_survives_the_connection(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def forgetful(peer: Peer) -> None:
        await peer.authenticate()
        await peer.receive()
        await peer.close(4412, "slow-consumer")

    server = ScriptedServer(nursery, [forgetful, stay])
    async with server.client() as client:
        await client.wait_ready()
        assert await client.subscribe(["v1"]) == ("v1",)
        assert trio.current_time() == 1


async def test_who_waits_for_an_answer_is_told_of_the_end(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate()
        await peer.receive()
        await peer.close(4403, "forbidden")

    server = ScriptedServer(nursery, [script])
    async with server.client() as client:
        await client.wait_ready()
        with pytest.raises(ClosedByServerError):
            await client.subscribe(["v1"])
    assert trio.current_time() == 0
