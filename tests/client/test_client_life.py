"""The client on Trio: a device as long as a block of code."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.client import (
    ClientClosedError,
    Connected,
    ReceivedEvent,
    SnapshotNeeded,
    open_client,
)
from tests.client.scripted_server import SESSION, Peer, ScriptedServer, next_event
from tests.client.scripts import stay, vanish


async def test_it_authenticates_and_hands_over_events(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    said: dict[str, Any] = {}

    async def script(peer: Peer) -> None:
        said.update(await peer.authenticate())
        await peer.send(event="item-create", vault="v1", data={"a": [1]}, more="things")
        await peer.send(event="fanfare")
        await peer.send(event="user-update", data=None, cursor="7")
        await peer.wait_closed()

    server = ScriptedServer(nursery, [script])
    async with server.client(vaults=["v1"]) as client:
        assert await next_event(client) == ReceivedEvent("item-create", "v1", {"a": [1]})
        assert await next_event(client) == ReceivedEvent("user-update", None, None, "7")
        assert (client.session, client.vaults) == (SESSION, ("v1",))
    assert (said["token"], said["vaults"]) == ("token-1", ["v1"])
    assert server.statuses == [Connected(SESSION, ("v1",))]
    (peer,) = server.peers
    assert peer.request.path == "/v1/sync"
    assert peer.request.proposed_subprotocols == ("localful.v1",)
    assert not [name for name, _ in peer.request.headers if name == b"authorization"]


async def test_leaving_the_block_says_goodbye(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = ScriptedServer(nursery, [stay])
    async with server.client() as client:
        assert await client.wait_ready() == SESSION
        before = trio.current_time()
    assert trio.current_time() == before
    closed = server.peers[0].closed
    assert closed is not None
    assert (closed.code, closed.reason) == (1000, "normal")
    assert server.statuses == [Connected(SESSION, ())]
    assert [arrival async for arrival in client] == [SnapshotNeeded("the-end")]
    with pytest.raises(ClientClosedError):
        await client.wait_ready()
    with pytest.raises(ClientClosedError):
        await client.subscribe([])


async def test_a_server_that_does_not_answer_goodbye_is_waited_for_so_long(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [vanish])
    async with server.client() as client:
        await client.wait_ready()
        before = trio.current_time()
    assert trio.current_time() - before == 5.0


async def test_leaving_the_block_does_not_wait_for_a_connection(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def never() -> trio.abc.Stream:
        return await trio.sleep_forever()

    server = ScriptedServer(nursery, [])
    async with server.client(open_stream=never):
        await trio.sleep(1)
    assert trio.current_time() == 1


async def test_what_the_block_raises_comes_out_as_it_is(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    class OddError(Exception):
        pass

    server = ScriptedServer(nursery, [stay])

    async def fail() -> None:
        async with server.client() as client:
            await client.wait_ready()
            raise OddError from KeyError("cause")

    with pytest.raises(OddError) as caught:
        await fail()
    assert isinstance(caught.value.__cause__, KeyError)
    assert server.peers[0].closed is not None


async def test_a_block_that_is_cancelled_ends_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [vanish])
    with trio.move_on_after(3):
        async with server.client() as client:
            await next_event(client)
    assert trio.current_time() == 3


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must begin with ws:// or wss://"):
        open_client("http://server.test", lambda: "token")


@pytest.mark.parametrize("vaults", ["v1", [1], [None]])
def test_vaults_are_a_list_of_strings(vaults: Any) -> None:
    with pytest.raises(TypeError, match="must be a list of vault ids"):
        open_client("ws://server.test", lambda: "token", vaults=vaults)


async def test_a_subscription_is_one_as_well(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = ScriptedServer(nursery, [stay])
    async with server.client(vaults=["v1"]) as client:
        await client.wait_ready()
        with pytest.raises(TypeError, match="must be a list of vault ids"):
            await client.subscribe("v1")
        assert client.vaults == ("v1",)
