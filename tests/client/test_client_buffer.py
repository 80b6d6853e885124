"""What the client on Trio holds for whoever iterates, and what it does when that is full."""

from contextlib import suppress

import anyio
import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

from localful_ws.client import Disconnected, ReceivedEvent, SnapshotNeeded, open_client
from localful_ws.client.inbox import Inbox
from localful_ws.client.resuming import Arrival
from tests.client.model_server import ModelServer, Published
from tests.client.scripted_server import Peer, ScriptedServer


def arrival(number: int) -> Arrival:
    return Arrival(ReceivedEvent("user-update", None, number, str(number)), str(number))


async def test_room_is_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    inbox = Inbox(2)
    put: list[int] = []

    async def receive() -> None:
        for number in range(5):
            await inbox.wait_for_room()
            inbox.put(arrival(number))
            put.append(number)
        inbox.close()

    nursery.start_soon(receive)
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1]
    assert await inbox.take() == arrival(0)
    await trio.testing.wait_all_tasks_blocked()
    assert put == [0, 1, 2]
    assert [await inbox.take() for _ in range(4)] == [arrival(number) for number in range(1, 5)]
    with pytest.raises(anyio.EndOfStream):
        await inbox.take()


async def test_who_is_cancelled_has_taken_nothing(autojump_clock: MockClock) -> None:
    inbox = Inbox(1)
    with trio.move_on_after(1) as waiting:
        await inbox.take()
    assert waiting.cancelled_caught
    inbox.put(arrival(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await inbox.take()
    assert scope.cancelled_caught
    assert await inbox.take() == arrival(1)


async def test_no_more_is_read_than_may_wait(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    sent: list[int] = []

    async def script(peer: Peer) -> None:
        await peer.authenticate()
        for number in range(50):
            await peer.send(event="user-update", data=number)
            sent.append(number)
        await peer.wait_closed()

    # A stream that holds nothing back: what the client does not read, the server can't send.
    server = ScriptedServer(nursery, [script], make_pair=trio.testing.lockstep_stream_pair)
    async with server.client(buffered_events=3) as client:
        await client.wait_ready()
        await trio.testing.wait_all_tasks_blocked()
        # Two behind the notice that a snapshot is needed, and a few in the hands of those who pass them on.
        assert 2 <= len(sent) <= 6
        assert await anext(client) == SnapshotNeeded("the-end")
        with trio.fail_after(1000):
            arrivals = [await anext(client) for _ in range(50)]
        assert arrivals == [ReceivedEvent("user-update", None, number) for number in range(50)]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_nothing_is_lost_when_nobody_reads_for_so_long_that_the_connection_is_given_up(
    autojump_clock: MockClock, nursery: trio.Nursery, limit: int
) -> None:
    model = ModelServer()
    model.publish(*[Published()] * 20)

    async def script(peer: Peer) -> None:
        await peer.accept()
        model.cut()
        model.take(await peer.receive())
        with suppress(ConnectionClosed):
            for message in list(model.under_way):
                await peer.send(**message)
        await peer.wait_closed()

    server = ScriptedServer(
        nursery, [script] * 20, make_pair=trio.testing.lockstep_stream_pair, tokens=["token"] * 20
    )
    async with server.client(buffered_events=limit, since=model.cursor(0)) as client:
        await trio.sleep(10_000)
        # One ping without an answer; and without room there is no second connection.
        assert server.attempts == [0]
        assert server.statuses[1:] == [Disconnected(1006, "", "The server fell silent.", 1.0)]
        assert client.session is None
        arrivals = []
        for _ in range(20):
            with trio.fail_after(1000):
                arrivals.append(await anext(client))
            await trio.sleep(100)
        assert [arrival.cursor for arrival in arrivals] == [model.cursor(number) for number in range(1, 21)]
        assert len(server.attempts) > 1
        with trio.move_on_after(1000):
            pytest.fail(f"{await anext(client)} is one too many.")


def test_there_must_be_room_for_one() -> None:
    with pytest.raises(ValueError, match="buffered_events must be at least 1"):
        open_client("ws://server.test", lambda: "token", buffered_events=0)
