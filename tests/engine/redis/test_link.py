"""A connection to a server: what goes out, what comes in, and how its end is noticed."""

import logging
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trio
import trustme
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.link import Ended, Link, Message, Server, open_link
from localful_ws.wakeup import Future
from tests.redis_server import RedisServer, free_port

from .links import HERE, OK, Remote, bulk, confirm, in_memory, introduce, linked, open_url, push

PING = [b"PING"]
TIMEOUT = HERE.timeout
# For real servers.
LONG = 10.0
PASSWORD = "pa/ss:w@rd #%?"
QUOTED = quote(PASSWORD, safe="")


async def outcome(future: Future[Any]) -> Any:
    """What came of a command: what it is, or the error."""
    try:
        return await future.wait()
    except REDIS_ERRORS as error:
        return error


# --- commands and replies ---


async def test_commands_that_come_together_are_one_write(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        sent = [link.send("SET", f"key-{number}", b"\xff", number, 0.5) for number in range(3)]
        data = await remote.stream.receive_some()
        assert data == b"".join(
            b"*5\r\n" + bulk("SET", f"key-{number}", b"\xff", str(number), "0.5") for number in range(3)
        )
        await remote.send(b"+one\r\n:2\r\n$-1\r\n", 1)
        assert [await outcome(each) for each in sent] == [b"one", 2, None]


async def test_an_error_is_that_of_one_command(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        sent = [link.send("GET", name) for name in "abc"]
        await remote.send(b"$1\r\na\r\n-WRONGTYPE Operation against \xff\r\n+c\r\n")
        one, refused, three = [await outcome(each) for each in sent]
        assert (one, three) == (b"a", b"c")
        assert isinstance(refused, RedisRefusedError)
        assert (refused.code, str(refused)) == (
            "WRONGTYPE",
            "WRONGTYPE Operation against \N{REPLACEMENT CHARACTER}",
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(remote.send, OK)
            assert await link.call("PING") == b"OK"


async def test_an_error_within_a_reply_is_no_error_of_the_command(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        sent = link.send("EXEC")
        await remote.send(b"*2\r\n+a\r\n-ERR no\r\n")
        [one, other] = await outcome(sent)
        assert (one, str(other)) == (b"a", "ERR no")


async def test_whoever_is_cancelled_leaves_the_others_their_replies(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        before = link.send("GET", "before")
        with trio.move_on_after(1) as scope:
            await link.call("GET", "cancelled")
        assert scope.cancelled_caught
        after = link.send("GET", "after")
        assert [await remote.next() for _ in range(3)] == [
            [b"GET", name] for name in (b"before", b"cancelled", b"after")
        ]
        await remote.send(bulk("1", "2", "3"))
        assert [await outcome(before), await outcome(after)] == [b"1", b"3"]


async def test_whoever_is_cancelled_at_once_has_sent_it(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        with trio.CancelScope() as scope:
            scope.cancel()
            await link.call("INCR", "a")
        assert scope.cancelled_caught
        sent = link.send("GET", "a")
        assert [(await remote.next())[0] for _ in range(2)] == [b"INCR", b"GET"]
        await remote.send(b":1\r\n+1\r\n")
        assert await outcome(sent) == b"1"


PIECES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
    st.none(),
    st.just(RedisRefusedError),
    st.binary(max_size=40).map(lambda data: Message(b"c", data)),
)


@given(st.lists(PIECES, max_size=12), st.integers(1, 20))
def test_what_comes_is_taken_in_whatever_pieces(pieces: list[Any], size: int) -> None:
    heard: list[Message | Ended] = []

    async def main() -> None:
        async with linked(heard.extend) as (link, remote):
            asked = [piece for piece in pieces if not isinstance(piece, Message)]
            sent = [link.send("GET", "a") for _ in asked]
            await remote.send(b"".join(map(write, pieces)), size)
            got = [await outcome(each) for each in sent]
            assert [type(each) if isinstance(each, Exception) else each for each in got] == asked
            await wait_all_tasks_blocked()
        assert heard == [piece for piece in pieces if isinstance(piece, Message)]

    trio.run(main, clock=MockClock(autojump_threshold=0))


def write(piece: Any) -> bytes:
    """How a server writes it."""
    match piece:
        case Message():
            return push("message", piece.channel, piece.data)
        case bytes():
            return bulk(piece)
        case int():
            return b":%d\r\n" % piece
        case None:
            return b"_\r\n"
        case _:
            return b"-ERR no\r\n"


# --- subscriptions ---


async def test_channels_are_confirmed_one_by_one(autojump_clock: MockClock) -> None:
    heard: list[Message | Ended] = []
    async with linked(heard.extend) as (link, remote):
        order = link.send_order("SUBSCRIBE", [b"a", b"b", b"a"])
        ping = link.send("PING")
        assert [await remote.next() for _ in range(2)] == [[b"SUBSCRIBE", b"a", b"b"], PING]
        await remote.send(confirm("subscribe", "a") + push("message", "a", "1"))
        await wait_all_tasks_blocked()
        assert heard == [Message(b"a", b"1")]
        with trio.move_on_after(1) as scope:
            await order.wait()
        assert scope.cancelled_caught
        await remote.send(confirm("subscribe", "b") + b"+PONG\r\n")
        assert await outcome(ping) == b"PONG"


async def test_orders_and_commands_keep_their_order(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        with trio.move_on_after(1) as scope:
            await link.send_order("SUBSCRIBE", [b"a"]).wait()
        assert scope.cancelled_caught
        orders = [
            link.send_order("SUBSCRIBE", [b"b", b"c"]),
            link.send("PING"),
            link.send_order("UNSUBSCRIBE", [b"a"]),
        ]
        await remote.send(
            confirm("subscribe", "a", "c", "b") + b"+PONG\r\n" + confirm("unsubscribe", "a"),
        )
        assert [await outcome(order) for order in orders] == [None, b"PONG", None]


async def test_an_order_may_be_refused(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        refused = link.send_order("SSUBSCRIBE", [b"a", b"b"])
        taken = link.send_order("SSUBSCRIBE", [b"c"])
        await remote.send(b"-MOVED 5 10.0.0.1:6379\r\n" + confirm("ssubscribe", "c"))
        error = await outcome(refused)
        assert (type(error), str(error)) == (RedisRefusedError, "MOVED 5 10.0.0.1:6379")
        assert await outcome(taken) is None


async def test_a_server_may_end_a_subscription(autojump_clock: MockClock) -> None:
    heard: list[Message | Ended] = []
    async with linked(heard.extend) as (link, remote):
        order = link.send_order("SSUBSCRIBE", [b"a", b"b"])
        await remote.send(
            confirm("ssubscribe", "a")
            + push("smessage", "a", "1")
            + confirm("sunsubscribe", "a")
            + push("invalidate", "x")
            + confirm("ssubscribe", "b")
        )
        assert await outcome(order) is None
        assert heard == [Message(b"a", b"1"), Ended(b"a")]


# --- its end ---


@asynccontextmanager
async def losing() -> AsyncIterator[tuple[Link, Remote]]:
    """A connection that is lost when the block has ended."""
    sentence = ""
    try:
        async with linked() as (link, remote):
            yield link, remote
            await trio.sleep(100)
    except RedisUnavailableError as error:
        sentence = str(error)
    with pytest.raises(RedisUnavailableError) as again:
        link.send("GET", "b")
    assert str(again.value) == sentence
    with pytest.raises(RedisUnavailableError):
        link.send_order("SUBSCRIBE", [b"b"])


async def lose(after: bytes, *, close: bool = False) -> tuple[Any, Any]:
    """Have a connection come to its end; what came of a command and of an order."""
    async with losing() as (link, remote):
        caught: list[Future[Any]] = [link.send("GET", "a"), link.send_order("SUBSCRIBE", [b"a"])]
        assert [(await remote.next())[0] for _ in caught] == [b"GET", b"SUBSCRIBE"]
        await remote.send(after)
        if close:
            await remote.stream.aclose()
    assert trio.current_time() == 0
    return await outcome(caught[0]), await outcome(caught[1])


@pytest.mark.parametrize("came", [b"+", b"$5\r\nab", b"*2\r\n+a\r\n"])
async def test_a_server_that_closes_in_the_middle(autojump_clock: MockClock, came: bytes) -> None:
    for error in await lose(came, close=True):
        assert isinstance(error, RedisUnavailableError)
        assert str(error) == "The connection to Redis at redis:6379 is lost: Redis closed the connection."


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "is lost: "),
        (b"$x\r\n", "is lost: "),
        (b"+a\r\n+b\r\n", "is lost: Redis did not answer what it was asked."),
    ],
)
async def test_what_no_server_of_redis_says(autojump_clock: MockClock, came: bytes, said: str) -> None:
    assert said in str((await lose(came))[1])


async def test_nothing_was_asked_but_it_is_answered(autojump_clock: MockClock) -> None:
    async with losing() as (link, remote):
        sent = link.send("GET", "a")
        await remote.send(b"+a\r\n+b\r\n")
    assert trio.current_time() == 0
    assert await outcome(sent) == b"a"
    with pytest.raises(RedisUnavailableError, match="is lost: Redis answered what it was not asked"):
        link.send("GET", "b")


async def test_replies_that_came_before_the_end_are_replies(autojump_clock: MockClock) -> None:
    reply, order = await lose(b"+a\r\n", close=True)
    assert reply == b"a"
    assert isinstance(order, RedisUnavailableError)


async def test_after_the_block_nothing_is_sent(autojump_clock: MockClock) -> None:
    async with linked() as (link, _):
        waiting = link.send("GET", "a")
    assert str(await outcome(waiting)) == "The connection to Redis at redis:6379 is closed."
    with pytest.raises(RedisUnavailableError):
        await link.call("GET", "a")


async def test_what_the_block_raises_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    with pytest.raises(ZeroDivisionError):
        async with linked():
            raise ZeroDivisionError
    with pytest.raises(RedisRefusedError, match="ERR mine"):
        async with linked():
            raise RedisRefusedError("ERR mine")
    with trio.move_on_after(1) as scope:
        async with linked():
            await trio.sleep_forever()
    assert scope.cancelled_caught


# --- silence ---


async def test_a_server_that_answers_is_pinged_when_nothing_is_heard(autojump_clock: MockClock) -> None:
    pings: list[float] = []
    async with linked() as (_, remote):
        with trio.move_on_after(3.5):
            while True:
                assert await remote.next() == PING
                pings.append(trio.current_time())
                await remote.send(b"+PONG\r\n")
    assert pings == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.99, 1.0, 1.01, 1.5, 1.99])
async def test_silence_is_noticed(autojump_clock: MockClock, moment: float) -> None:
    async with losing() as (link, remote):
        await trio.sleep(moment)
        # From now on it says nothing more.
        await remote.send(push("message", "c", "x"))
    assert TIMEOUT <= trio.current_time() - moment <= 1.75 * TIMEOUT
    with pytest.raises(RedisUnavailableError, match="Redis at redis:6379 does not answer any more"):
        link.send("GET", "a")


@pytest.mark.parametrize("busy", [0.9, 1.0, 5.9])
async def test_silence_is_noticed_by_whoever_waits(autojump_clock: MockClock, busy: float) -> None:
    async with losing() as (link, remote):
        for number in range(10):
            await trio.sleep(busy / 10)
            answered = link.send("GET", number)
            await remote.send(OK)
            assert await answered.wait() == b"OK"
        sent = link.send("GET", "a")
    assert isinstance(await outcome(sent), RedisUnavailableError)
    assert TIMEOUT <= trio.current_time() - busy <= 1.25 * TIMEOUT + 0.001


async def test_what_is_heard_is_as_good_as_an_answer(autojump_clock: MockClock) -> None:
    async with linked() as (link, remote):
        sent = link.send("WAIT", 1, 0)
        for _ in range(10):
            await trio.sleep(0.9 * TIMEOUT)
            await remote.send(push("message", "c", "x"))
        await remote.send(b":1\r\n")
        assert await outcome(sent) == 1


# --- how it begins ---


async def refuse(server: Server, serve: Any) -> tuple[str, float]:
    """Not get in; what is said, and after how long."""
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        with in_memory({("redis", 6379): serve}, nursery), pytest.raises(RedisUnavailableError) as caught:
            async with open_link(server):
                pytest.fail("it was let in")
        nursery.cancel_scope.cancel()
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    return str(caught.value), trio.current_time() - began


async def test_how_it_introduces_itself(autojump_clock: MockClock) -> None:
    asked: list[list[bytes]] = []

    async def serve(remote: Remote) -> None:
        while True:
            asked.append(await remote.next())
            await remote.send(introduce() if asked[-1][0] == b"HELLO" else OK)

    for server, expected in (
        (HERE, [[b"HELLO", b"3"]]),
        (Server("redis", 6379, 1, password="pw"), [[b"HELLO", b"3", b"AUTH", b"default", b"pw"]]),
        (
            Server("redis", 6379, 1, username="ada", db=3),
            [[b"HELLO", b"3", b"AUTH", b"ada", b""], [b"SELECT", b"3"]],
        ),
    ):
        asked.clear()
        async with trio.open_nursery() as nursery:
            with in_memory({("redis", 6379): serve}, nursery):
                async with open_link(server) as link:
                    assert link.hello["version"] == "7.2.4"
        assert asked == expected


async def test_a_server_that_is_not_let_in_by(autojump_clock: MockClock) -> None:
    server = Server("redis", 6379, TIMEOUT, password=PASSWORD)
    answers = {
        b"-WRONGPASS invalid username-password pair or user is disabled.\r\n": (
            "Redis at redis:6379 refuses the connection: "
            "WRONGPASS invalid username-password pair or user is disabled."
        ),
        b"-ERR unknown command\r\n": "Redis at redis:6379 refuses the connection: ERR unknown command.",
        b"+OK\r\n": "Redis at redis:6379 does not speak RESP3.",
        b"HTTP/1.1 400 Bad Request\r\n": "",
    }
    for answer, said in answers.items():

        async def serve(remote: Remote, answer: bytes = answer) -> None:
            await remote.next()
            await remote.send(answer)

        sentence, _ = await refuse(server, serve)
        assert sentence == said or not said


async def test_a_server_that_says_nothing(autojump_clock: MockClock) -> None:
    async def serve(remote: Remote) -> None:
        await trio.sleep_forever()

    assert await refuse(HERE, serve) == (
        "Redis at redis:6379 can't be reached: there was no answer in time.",
        TIMEOUT,
    )


async def test_nobody_listens(autojump_clock: MockClock) -> None:
    assert await refuse(Server("redis", 6380, 1.0), None) == (
        "Redis at redis:6380 can't be reached: nobody listens.",
        0.0,
    )


# --- real servers, with all their locks ---


async def use(url: str, prefix: str = "test") -> None:
    """Write, read and hear something."""
    heard: list[Message | Ended] = []
    came = trio.Event()

    def hear(messages: Sequence[Message | Ended]) -> None:
        heard.extend(messages)
        came.set()

    key = f"{prefix}:key"
    async with open_url(url, hear, LONG) as listener, open_url(url, timeout=LONG) as link:
        await listener.send_order("SUBSCRIBE", [key.encode()]).wait()
        await link.call("SET", key, b"\xff")
        assert await link.call("GET", key) == b"\xff"
        assert await link.call("PUBLISH", key, b"\xfe") == 1
        with trio.fail_after(LONG):
            await came.wait()
        assert heard == [Message(key.encode(), b"\xfe")]


async def fail_at(url: str, seconds: float = LONG) -> str:
    """Be refused; returns what is said."""
    with pytest.raises(RedisUnavailableError) as caught:
        async with open_url(url, timeout=seconds):
            pytest.fail("it was let in")
    told = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in told
    assert QUOTED not in told
    return str(caught.value)


@pytest.mark.sockets
async def test_a_database_of_its_own() -> None:
    with RedisServer() as server:
        at = f"redis://127.0.0.1:{server.port}"
        await use(f"{at}/3")
        assert (server.cli("dbsize"), server.cli("-n", "3", "dbsize")) == ("0", "1")
        assert "refuses the connection: ERR DB index is out of range" in await fail_at(f"{at}/99")


@pytest.mark.sockets
async def test_a_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer("--requirepass", PASSWORD) as server, capture_logs() as log:
        at = f"127.0.0.1:{server.port}"
        await use(f"redis://:{QUOTED}@{at}")
        assert "refuses the connection: NOAUTH" in await fail_at(f"redis://{at}")
        assert "refuses the connection: WRONGPASS" in await fail_at(f"redis://:{QUOTED}x@{at}")
        async with open_url(f"redis://:{QUOTED}@{at}") as link:
            assert PASSWORD not in f"{link.server!r} {link.server}"
    assert PASSWORD not in f"{caplog.text}{log}"
    assert QUOTED not in f"{caplog.text}{log}"


@pytest.mark.sockets
async def test_a_user_who_may_do_little(redis_prefix: str) -> None:
    may = ["-@all", "+hello", "+set", "+get", "+publish", "+subscribe", "+ping"]
    user = ["on", f">{PASSWORD}", f"~{redis_prefix}:*", f"&{redis_prefix}:*", *may]
    with RedisServer("--user", "ada", *user, "--user", "default", "off") as server:
        url = f"redis://ada:{QUOTED}@127.0.0.1:{server.port}"
        await use(url, redis_prefix)
        assert "WRONGPASS" in await fail_at(f"redis://ada:wrong@127.0.0.1:{server.port}")
        async with open_url(url) as link:
            for sent in (link.send("GET", "other"), link.send_order("SUBSCRIBE", [b"other"])):
                refused = await outcome(sent)
                assert (type(refused), refused.code) == (RedisRefusedError, "NOPERM")
            assert await link.call("PING") == b"PONG"


@pytest.mark.sockets
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "a socket"
    with RedisServer("--unixsocket", str(path), "--requirepass", PASSWORD):
        await use(f"unix://:{QUOTED}@{quote(str(path))}?db=1")
    assert "No such file" in await fail_at(f"unix://{tmp_path}/none")


class Certificates:
    """An authority, and what it has certified."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.authority, self.server, self.client = (directory / name for name in ("ca", "server", "client"))
        authority.cert_pem.write_to_path(self.authority)
        for path, names in ((self.server, ["localhost", "127.0.0.1"]), (self.client, ["a-node"])):
            authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(path)

    def options(self, port: int, clients: str = "no") -> list[str]:
        """How a server is told to speak TLS."""
        return [
            *("--tls-port", str(port), "--tls-ca-cert-file", str(self.authority)),
            *("--tls-cert-file", str(self.server), "--tls-key-file", str(self.server)),
            *("--tls-auth-clients", clients),
        ]


@pytest.mark.sockets
async def test_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ca = f"ssl_ca_certs={certificates.authority}"
    port = free_port()
    with RedisServer(*certificates.options(port), "--bind", "127.0.0.1 127.0.0.2", "--requirepass", PASSWORD):
        at = f":{QUOTED}@localhost:{port}"
        await use(f"rediss://{at}/1?{ca}")
        await use(f"rediss://:{QUOTED}@127.0.0.2:{port}?{ca}&ssl_check_hostname=false")
        await use(f"rediss://{at}?ssl_cert_reqs=none")
        assert "certificate verify failed" in await fail_at(f"rediss://{at}")
        assert "IP address mismatch" in await fail_at(f"rediss://:{QUOTED}@127.0.0.2:{port}?{ca}")
        await fail_at(f"redis://{at}")


@pytest.mark.sockets
async def test_tls_with_a_certificate_of_the_client(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    ca = f"ssl_ca_certs={certificates.authority}"
    port = free_port()
    with RedisServer(*certificates.options(port, clients="yes")):
        await use(f"rediss://localhost:{port}?{ca}&ssl_certfile={certificates.client}")
        await fail_at(f"rediss://localhost:{port}?{ca}")


@pytest.mark.sockets
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_server_that_hangs(scheme: str) -> None:
    with RedisServer() as server:
        server.pause()
        began = trio.current_time()
        said = await fail_at(f"{scheme}://:{QUOTED}@127.0.0.1:{server.port}", 0.2)
        assert said == f"Redis at 127.0.0.1:{server.port} can't be reached: there was no answer in time."
        assert trio.current_time() - began < 1
        with trio.move_on_after(0.05) as scope:
            async with open_url(server.url, timeout=LONG):
                pass
        assert scope.cancelled_caught


@pytest.mark.sockets
async def test_a_command_is_not_sent_again_when_the_connection_is_lost(redis_prefix: str) -> None:
    with RedisServer(appendonly=True, appendfsync="always") as server:

        async def lose_it() -> None:
            async with open_url(server.url) as link:
                await link.call("INCR", redis_prefix)
                server.pause()
                link.send("INCR", redis_prefix)
                await wait_all_tasks_blocked()
                server.kill()
                await trio.sleep(LONG)

        with pytest.raises(RedisUnavailableError, match="is lost: "):
            await lose_it()
        server.start()
        assert server.cli("get", redis_prefix) == "1"


@pytest.mark.sockets
async def test_very_many_channels_and_messages(redis_server: RedisServer, redis_prefix: str) -> None:
    names = [f"{redis_prefix}:{number}".encode() for number in range(5000)]
    heard: list[Message | Ended] = []
    async with open_url(redis_server.url, heard.extend) as listener, open_url(redis_server.url) as link:
        await listener.send_order("SUBSCRIBE", names).wait()
        sent = [link.send("PUBLISH", name, b"\r\n\xff" + name) for name in names]
        assert [await each.wait() for each in sent] == [1] * len(names)
        # Its answer comes after all that was published before.
        await listener.call("PING")
        assert heard == [Message(name, b"\r\n\xff" + name) for name in names]
        await listener.send_order("UNSUBSCRIBE", names).wait()
        assert await link.call("PUBLISH", names[0], b"") == 0


@pytest.mark.parametrize(
    "said",
    [
        b">0\r\n",
        b">1\r\n:5\r\n",
        push("message", "a"),
        push("subscribe", "a"),
        b">3\r\n" + bulk("message", "a") + b":1\r\n",
        b">3\r\n" + bulk("subscribe") + b"*0\r\n:1\r\n",
    ],
)
async def test_what_is_pushed_and_is_nothing_that_is_known(autojump_clock: MockClock, said: bytes) -> None:
    heard: list[Message | Ended] = []
    async with linked(heard.extend) as (link, remote):
        sent = link.send("GET", "a")
        await remote.send(said + OK)
        assert await sent.wait() == b"OK"
    assert heard == []
