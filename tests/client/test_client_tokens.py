"""The client on Trio and its tokens."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.client import (
    Connected,
    Disconnected,
    RenewalFailed,
    TokenUnavailableError,
)
from localful_ws.protocol import Session
from tests.client.scripted_server import SESSION, Peer, ScriptedServer, next_event
from tests.client.scripts import sending, stay


async def test_a_token_is_renewed_when_the_server_asks(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate(expiresAt=60)
        await peer.send(event="reauthenticate", expiresAt=60)
        said = await peer.receive()
        assert said == {"event": "authenticate", "token": "token-2", "id": said["id"]}
        answer = {"user": "ada", "group": "phone", "expiresAt": 120, "vaults": ["v1"], "id": said["id"]}
        await peer.send(event="authenticated", **answer)
        await peer.wait_closed()

    server = ScriptedServer(nursery, [script])
    async with server.client(vaults=["v1"]) as client:
        await trio.sleep(1)
        assert client.session == Session("ada", "phone", 120)
        assert client.vaults == ("v1",)
    assert server.statuses == [
        Connected(Session("ada", "phone", 60), ("v1",)),
        Connected(Session("ada", "phone", 120), ("v1",)),
    ]


async def test_events_go_on_while_a_token_is_fetched(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    calls = 0

    async def get_token() -> str:
        nonlocal calls
        calls += 1
        await trio.sleep(5)
        return f"token-{calls}"

    asking = '{"event":"reauthenticate","expiresAt":1}'
    server = ScriptedServer(nursery, [sending(asking, asking, asking, '{"event":"user-update","data":1}')])
    async with server.client(get_token=get_token) as client:
        await next_event(client)
        assert (trio.current_time(), calls) == (5, 2)


@pytest.mark.parametrize("error", [TokenUnavailableError("Offline."), KeyError("broken")])
async def test_a_renewal_that_fails_leaves_the_connection(
    autojump_clock: MockClock, nursery: trio.Nursery, error: Exception
) -> None:
    tokens: list[str | Exception] = ["token-1", error]

    def get_token() -> str:
        token = tokens.pop(0)
        if isinstance(token, Exception):
            raise token
        return token

    server = ScriptedServer(nursery, [sending('{"event":"reauthenticate","expiresAt":1}')])
    async with server.client(get_token=get_token) as client:
        await trio.sleep(1)
        assert client.session == SESSION
    assert server.statuses == [Connected(SESSION, ()), RenewalFailed(error)]


async def test_what_get_token_raises_ends_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    def get_token() -> str:
        raise KeyError("no refresh token")

    server = ScriptedServer(nursery, [])
    async with server.client(get_token=get_token) as client:
        with pytest.raises(KeyError, match="no refresh token"):
            await next_event(client)
        with pytest.raises(KeyError, match="no refresh token"):
            await client.wait_ready()


@pytest.mark.parametrize("token", [None, b"bytes", 5])
async def test_a_token_is_a_string(autojump_clock: MockClock, nursery: trio.Nursery, token: object) -> None:
    server = ScriptedServer(nursery, [])
    async with server.client(get_token=lambda: token) as client:
        with pytest.raises(TypeError, match="get_token must give a string"):
            await next_event(client)


async def test_it_asks_again_for_a_token_that_is_not_there_yet(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    calls: list[float] = []

    async def get_token() -> str:
        calls.append(trio.current_time())
        if len(calls) == 1:
            raise TokenUnavailableError("Offline.")
        if len(calls) == 2:
            await trio.sleep_forever()
        return "token"

    server = ScriptedServer(nursery, [stay])
    async with server.client(get_token=get_token) as client:
        await client.wait_ready()
    # A pause of 1 s; 30 s of waiting and a pause of 2 s.
    assert calls == [0, 1, 33]
    assert server.statuses[:2] == [
        Disconnected(None, "", "Offline.", 1.0),
        Disconnected(None, "", "There is no token: get_token took too long.", 2.0),
    ]
