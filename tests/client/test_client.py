"""The client on Trio, against a server that follows a script."""

from typing import Any

import pytest
import trio
import trio.testing
from scripted_server import Peer, Script, ScriptedServer
from trio.testing import MockClock

from localful_ws.client import (
    ClientClosedError,
    ClosedByServerError,
    Connected,
    Disconnected,
    NoAnswerError,
    ReceivedEvent,
    Refused,
    RefusedByServerError,
    RenewalFailed,
    RequestRefusedError,
    ServerMessageError,
    TokenUnavailableError,
    open_client,
)
from localful_ws.protocol import Session

SESSION = Session("ada", "phone", 1000)


async def stay(peer: Peer) -> None:
    """Authenticate the device, and keep the connection until it closes."""
    await peer.authenticate()
    await peer.wait_closed()


async def stall(peer: Peer) -> None:
    """Authenticate the device, and read no more."""
    await peer.authenticate()
    await trio.sleep_forever()


async def vanish(peer: Peer) -> None:
    """Authenticate the device, and be gone without a word, the stream left open."""
    await peer.authenticate()


def closing(code: int, reason: str = "", **error: Any) -> Script:
    """Authenticate the device, send it an error if there is one, and close."""

    async def script(peer: Peer) -> None:
        await peer.authenticate()
        if error:
            await peer.send(event="error", **error)
        await peer.close(code, reason)

    return script


def sending(*texts: str | bytes) -> Script:
    """Authenticate the device, send it these and keep the connection."""

    async def script(peer: Peer) -> None:
        await peer.authenticate()
        for text in texts:
            await peer.send_text(text)
        await peer.wait_closed()

    return script


def rejecting(status: int, body: bytes = b"") -> Script:
    """Refuse the handshake."""

    async def script(peer: Peer) -> None:
        await peer.request.reject(status, body=body)

    return script


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
        assert await anext(client) == ReceivedEvent("item-create", "v1", {"a": [1]})
        assert await anext(client) == ReceivedEvent("user-update", None, None, "7")
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
    with pytest.raises(StopAsyncIteration):
        await anext(client)
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
            await anext(client)
    assert trio.current_time() == 3


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
        assert (await anext(client)).data == "before"


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
        assert (await anext(client)).event == "user-update"
    assert tokens == ["token-2"]
    assert server.attempts == [0, delay]
    assert server.statuses == [
        Connected(SESSION, ()),
        Disconnected(code, reason, "The server closed the connection.", delay),
        Connected(SESSION, ()),
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
        assert (await anext(client)).event == "user-update"
        for _ in range(2):
            with pytest.raises(ClosedByServerError) as caught:
                await anext(client)
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert caught.value.message == "A sentence."
        with pytest.raises(ClosedByServerError):
            await client.wait_ready()
        with pytest.raises(ClosedByServerError):
            await client.subscribe([])
    assert server.attempts == [0]


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


async def test_a_token_that_was_refused_is_not_sent_twice(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    server = ScriptedServer(nursery, [closing(4410, "token-expired")])
    async with server.client(get_token=lambda: "the-only-one") as client:
        with pytest.raises(ClosedByServerError, match=r"4410 token-expired"):
            await anext(client)
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
    assert server.statuses[1] == Disconnected(1006, "", "The server closed the connection.", 1.0)


async def test_a_frame_that_is_none_ends_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def garble(peer: Peer) -> None:
        await peer.authenticate()
        await peer.stream.send_all(b"\xff" * 8)
        await peer.wait_closed()

    server = ScriptedServer(nursery, [garble])
    async with server.client() as client:
        with pytest.raises(ClosedByServerError) as caught:
            await anext(client)
    assert (caught.value.code, trio.current_time()) == (1002, 0)


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


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.test ESMTP\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"HTTP/1.1 101 Hi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
    ],
    ids=["hangs up", "mail", "tls", "wrong accept"],
)
async def test_what_is_no_websocket_server_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery, answer: bytes
) -> None:
    server = ScriptedServer(nursery, [stay])
    began = trio.current_time()

    async def open_stream() -> trio.abc.Stream:
        if server.statuses:
            return await server.open_stream()
        near, far = trio.testing.memory_stream_pair()
        if answer:
            await far.send_all(answer)
        else:
            await far.aclose()
        return near

    async with server.client(open_stream=open_stream) as client:
        assert await client.wait_ready() == SESSION
    no_server = "There is no connection: no WebSocket server answered."
    assert server.statuses[0] == Disconnected(None, "", no_server, 1.0)
    assert server.attempts == [began + 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refused_handshake_ends_it(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    server = ScriptedServer(nursery, [rejecting(status, b'{"message":"Not here."}')])
    async with server.client() as client:
        with pytest.raises(RefusedByServerError) as caught:
            await anext(client)
    assert (caught.value.status, caught.value.message) == (status, "Not here.")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_is_full_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    server = ScriptedServer(nursery, [rejecting(status), stay])
    async with server.client() as client:
        await client.wait_ready()
    assert server.attempts == [0, 5]


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[]", b"bytes", '{"event":"subscribed"}', '{"event":"item-create","vault":5,"data":1}'],
)
async def test_a_server_of_another_kind_is_left(
    autojump_clock: MockClock, nursery: trio.Nursery, text: str | bytes
) -> None:
    server = ScriptedServer(nursery, [sending(text)])
    async with server.client() as client:
        with pytest.raises(ServerMessageError, match=r"^The server sent "):
            await anext(client)
    closed = server.peers[0].closed
    assert closed is not None
    assert closed.code == 1002


async def test_a_message_that_is_too_large_ends_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = ScriptedServer(nursery, [sending('{"event":"item-create","data":"' + "x" * 1000 + '"}')])
    async with server.client(max_message_bytes=1000) as client:
        with pytest.raises(ClosedByServerError) as caught:
            await anext(client)
    assert caught.value.code == 1009


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
        # Three that wait, and a few in the hands of those who pass them on.
        assert 3 <= len(sent) <= 8
        assert [(await anext(client)).data for _ in range(50)] == list(range(50))


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
        await anext(client)
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
            await anext(client)
        with pytest.raises(KeyError, match="no refresh token"):
            await client.wait_ready()


@pytest.mark.parametrize("token", [None, b"bytes", 5])
async def test_a_token_is_a_string(autojump_clock: MockClock, nursery: trio.Nursery, token: object) -> None:
    server = ScriptedServer(nursery, [])
    async with server.client(get_token=lambda: token) as client:
        with pytest.raises(TypeError, match="get_token must give a string"):
            await anext(client)


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


def test_a_url_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must begin with ws:// or wss://"):
        open_client("http://server.test", lambda: "token")
