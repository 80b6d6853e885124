"""The client on Trio comes back, or does not."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.client import (
    ClosedByServerError,
    Connected,
    Disconnected,
)
from tests.client.scripted_server import SESSION, Peer, ScriptedServer, next_event
from tests.client.scripts import closing, stay, vanish


@pytest.mark.parametrize(
    ("code", "reason", "delay"),
    [
        (1001, "server-shutdown", 10.0),
        (1011, "internal-error", 5.0),
        (1013, "try-again-later", 5.0),
        (4401, "unauthorized", 1.0),
        (4408, "authentication-timeout", 1.0),
        (4410, "token-expired", 1.0),
        (4412, "slow-consumer", 1.0),
        (4413, "missed-events", 1.0),
        (4429, "too-many", 5.0),
    ],
)
async def test_it_comes_back_with_another_token(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int, reason: str, delay: float
) -> None:
    tokens: list[str] = []

    async def again(peer: Peer) -> None:
        tokens.append((await peer.authenticate())["token"])
        await peer.send(event="user-update", data=None)
        await peer.wait_closed()

    server = ScriptedServer(nursery, [closing(code, reason), again])
    async with server.client() as client:
        assert (await next_event(client)).event == "user-update"
    assert tokens == ["token-2"]
    assert server.attempts == [0, delay]
    assert server.statuses == [
        Connected(SESSION, ()),
        Disconnected(code, reason, "The server closed the connection.", delay),
        Connected(SESSION, (), resumed=True),
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1002, "protocol-error"), (1009, "message-too-big"), (4400, "bad-message"), (4403, "forbidden")],
)
async def test_it_does_not_come_back_where_it_is_told_not_to(
    autojump_clock: MockClock, nursery: trio.Nursery, code: int, reason: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate()
        await peer.send(event="user-update", data=None)
        await peer.send(event="error", code=reason, message="A sentence.")
        await peer.close(code, reason)

    server = ScriptedServer(nursery, [script])
    async with server.client() as client:
        assert (await next_event(client)).event == "user-update"
        for _ in range(2):
            with pytest.raises(ClosedByServerError) as caught:
                await next_event(client)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert caught.value.message == "A sentence."
        with pytest.raises(ClosedByServerError):
            await client.wait_ready()
        with pytest.raises(ClosedByServerError):
            await client.subscribe([])
    assert server.attempts == [0]


async def test_a_token_that_was_refused_is_not_sent_twice(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [closing(4410, "token-expired")])
    async with server.client(get_token=lambda: "the-only-one") as client:
        with pytest.raises(ClosedByServerError, match=r"4410 token-expired"):
            await next_event(client)
    assert server.attempts == [0]


async def test_a_connection_that_breaks_is_made_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def break_off(peer: Peer) -> None:
        await peer.authenticate()
        await peer.stream.aclose()

    server = ScriptedServer(nursery, [break_off, stay])
    async with server.client() as client:
        await client.wait_ready()
        await trio.sleep(1.5)
        assert client.session == SESSION
    assert server.attempts == [0, 1]
    assert server.statuses[1] == Disconnected(1006, "", "The connection broke.", 1.0)


async def test_pauses_grow_while_there_is_no_server(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    refused = OSError("connection refused")
    server = ScriptedServer(nursery, [refused, refused, refused, closing(4412, "slow-consumer"), stay])
    async with server.client() as client:
        await client.wait_ready()
        assert client.session == SESSION
        await trio.sleep(1.5)
    assert server.attempts == [0, 1, 3, 7, 8]
    assert server.statuses[0] == Disconnected(None, "", "There is no connection: connection refused.", 1.0)


async def test_tls_that_fails_is_told_of_by_its_cause(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def distrust() -> trio.abc.Stream:
        raise trio.BrokenResourceError from OSError("certificate verify failed")

    server = ScriptedServer(nursery, [])
    async with server.client(open_stream=distrust):
        await trio.sleep(0.5)
    assert server.statuses == [
        Disconnected(None, "", "There is no connection: certificate verify failed.", 1.0)
    ]


async def test_a_handshake_is_waited_for_so_long(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def hesitate(peer: Peer) -> None:
        await trio.sleep_forever()

    server = ScriptedServer(nursery, [hesitate, stay])
    async with server.client() as client:
        await client.wait_ready()
    assert server.attempts == [0, 11]
    assert server.statuses[0] == Disconnected(
        None, "", "There is no connection: the server did not answer in time.", 1.0
    )


async def test_a_first_answer_is_waited_for_so_long(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def hesitate(peer: Peer) -> None:
        await peer.accept()
        await peer.wait_closed()

    server = ScriptedServer(nursery, [hesitate, stay])
    async with server.client() as client:
        await client.wait_ready()
    assert server.attempts == [0, 11]
    assert server.statuses[0] == Disconnected(1006, "", "The server did not answer in time.", 1.0)


async def test_a_server_that_is_gone_without_a_word_is_noticed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [vanish, stay])
    async with server.client() as client:
        await client.wait_ready()
        await trio.sleep(60)
    # A ping after 30 s, no answer for 20 s, and a pause of 1 s.
    assert server.attempts == [0, 51]
    assert server.statuses[1] == Disconnected(1006, "", "The server fell silent.", 1.0)


async def test_a_server_that_is_only_quiet_is_left_alone(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [stay])
    async with server.client() as client:
        await client.wait_ready()
        await trio.sleep(3600)
    assert server.attempts == [0]
