"""Subscriptions: what is heard, and when it can no longer be known that all is heard."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from attrs import frozen
from trio.testing import MockClock

from localful_ws.engine.redis.clients import RedisClient, open_client, open_pubsub
from localful_ws.engine.redis.errors import RedisUnavailableError, raise_single
from localful_ws.engine.redis.pubsub import Link, Message, PubSub, Server, hash_slot
from localful_ws.engine.redis.replies import ReplyReader
from tests.redis_server import RedisServer

TIMEOUT = 10.0


async def take(pubsub: PubSub, count: int) -> list[tuple[str, bytes]]:
    with trio.fail_after(TIMEOUT):
        messages = [await anext(pubsub) for _ in range(count)]
    return [(message.channel.decode(), message.data) for message in messages]


@pytest.mark.sockets
async def test_messages_arrive_in_order(redis_server: RedisServer, redis_prefix: str) -> None:
    one, two = f"{redis_prefix}:1", f"{redis_prefix}:2"
    async with open_client(redis_server.url, TIMEOUT) as client, open_pubsub(client, [one, two]) as pubsub:
        for number in range(300):
            await client.publish(one if number % 3 else two, b"\r\n\xff%d" % number)
        expected = [(one if number % 3 else two, b"\r\n\xff%d" % number) for number in range(300)]
        assert await take(pubsub, 300) == expected


@pytest.mark.sockets
async def test_channels_come_and_go_while_messages_arrive(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    names = [f"{redis_prefix}:{number}" for number in range(5000)]
    heard: list[str] = []
    all_heard = trio.Event()

    async def listen(pubsub: PubSub) -> None:
        async for message in pubsub:
            heard.append(message.channel.decode())
            if len(heard) == 12:
                all_heard.set()

    async def publish(channel: str) -> int:
        return await client.publish(channel, channel)

    async with (
        open_client(redis_server.url, TIMEOUT) as client,
        open_pubsub(client, [names[0]]) as pubsub,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(listen, pubsub)
        await pubsub.subscribe(*names, names[7])
        assert [await publish(name) for name in names[:10]] == [1] * 10
        async with trio.open_nursery() as ordering:
            ordering.start_soon(pubsub.unsubscribe, *names[:2500])
            ordering.start_soon(pubsub.unsubscribe, *names[2500:])
            ordering.start_soon(pubsub.subscribe, f"{redis_prefix}:new")
        await pubsub.subscribe(names[2])
        await pubsub.subscribe()
        assert [await publish(f"{redis_prefix}:{which}") for which in (0, 1, 2, "new")] == [0, 0, 1, 1]
        with trio.fail_after(TIMEOUT):
            await all_heard.wait()
        assert heard == [*names[:10], names[2], f"{redis_prefix}:new"]
        nursery.cancel_scope.cancel()


@pytest.mark.sockets
async def test_in_a_cluster_channels_are_heard_at_the_server_that_has_them(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    names = [f"{redis_prefix}:{{{number}}}:live" for number in range(30)]
    async with (
        open_client(f"redis+cluster://127.0.0.1:{redis_cluster[1].port}", TIMEOUT) as client,
        open_pubsub(client, names) as pubsub,
    ):
        for name in names:
            await client.spublish(name, name)
        assert sorted(await take(pubsub, 30)) == sorted((name, name.encode()) for name in names)
        subscribed = [server.cli("pubsub", "shardchannels", f"{redis_prefix}:*") for server in redis_cluster]
        assert all(subscribed), "each server has some of them"


@pytest.mark.sockets
async def test_when_a_slot_moves_to_another_server_all_is_in_doubt(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    channel = f"{redis_prefix}:live"
    slot = str(hash_slot(channel.encode()))
    assert redis_cluster[0].cli("cluster", "keyslot", channel) == slot
    ids = [server.cli("cluster", "myid") for server in redis_cluster]
    here = int(slot) * 3 // 16384
    there = (here + 1) % 3

    def move(source: int, target: int) -> None:
        redis_cluster[target].cli("cluster", "setslot", slot, "importing", ids[source])
        redis_cluster[source].cli("cluster", "setslot", slot, "migrating", ids[target])
        redis_cluster[target].cli("cluster", "setslot", slot, "node", ids[target])
        redis_cluster[source].cli("cluster", "setslot", slot, "node", ids[target])

    async def listen() -> None:
        url = f"redis+cluster://127.0.0.1:{redis_cluster[here].port}"
        async with open_client(url, TIMEOUT) as client, open_pubsub(client, [channel]) as pubsub:
            move(here, there)
            try:
                await anext(pubsub)
            finally:
                move(there, here)

    with pytest.raises(RedisUnavailableError, match="has ended a subscription"), trio.fail_after(TIMEOUT):
        await listen()


@pytest.mark.sockets
async def test_whoever_is_slow_to_take_messages_holds_up_redis_and_gets_them_all(redis_prefix: str) -> None:
    size, count = 100_000, 300
    with RedisServer("--client-output-buffer-limit", "pubsub 0 0 0") as server:
        async with (
            open_client(server.url, 0.4) as client,
            open_pubsub(client, [redis_prefix]) as pubsub,
        ):
            for number in range(count):
                await client.publish(redis_prefix, b"%d" % number * (size // len(str(number))))
            # Longer than the timeout: the connection isn't silent, nobody listens.
            await trio.sleep(1.0)
            # Of a client's buffers Valkey 9.1 doesn't count large messages.
            used = server.cli("info", "memory").partition("used_memory:")[2].split()[0]
            assert int(used) > size * count // 3, "what isn't taken stays with Redis"
            messages = await take(pubsub, count)
            assert [int(data[: len(str(number))]) for number, (_, data) in enumerate(messages)] == list(
                range(count)
            )


@pytest.mark.sockets
async def test_a_connection_that_is_lost_ends_the_block(redis_prefix: str) -> None:
    async def listen(client: RedisClient) -> None:
        async with open_pubsub(client, [redis_prefix]):
            server.kill()
            await trio.sleep(TIMEOUT)

    with RedisServer() as server:
        async with open_client(server.url, TIMEOUT) as client:
            with pytest.raises(RedisUnavailableError, match="is lost: Redis closed the connection"):
                await listen(client)


@pytest.mark.sockets
async def test_a_server_that_falls_silent_ends_the_block(redis_prefix: str) -> None:
    async def listen(client: RedisClient) -> None:
        async with open_pubsub(client, [redis_prefix]):
            # Meanwhile it is pinged and answers.
            await trio.sleep(1.0)
            server.pause()
            await trio.sleep(TIMEOUT)

    with RedisServer() as server:
        async with open_client(server.url, 0.3) as client:
            with pytest.raises(RedisUnavailableError, match="does not answer any more"):
                await listen(client)


@pytest.mark.sockets
async def test_what_the_block_raises_comes_out_as_it_is(redis_server: RedisServer, redis_prefix: str) -> None:
    async with open_client(redis_server.url, TIMEOUT) as client:
        with pytest.raises(ZeroDivisionError):
            async with open_pubsub(client, [redis_prefix]):
                raise ZeroDivisionError
        with trio.move_on_after(0) as scope:
            async with open_pubsub(client, [redis_prefix]):
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await client.get(redis_prefix) is None


@pytest.mark.sockets
async def test_a_channel_that_may_not_be_heard_is_refused(redis_prefix: str) -> None:
    user = ("--user", "ada", "on", ">secret", "~*", "+@all", "resetchannels", f"&{redis_prefix}:*")
    with RedisServer(*user) as server:
        async with open_client(f"redis://ada:secret@127.0.0.1:{server.port}", TIMEOUT) as client:
            async with open_pubsub(client, [f"{redis_prefix}:live"]):
                pass
            with pytest.raises(RedisUnavailableError, match="refuses a subscription: NOPERM"):
                async with open_pubsub(client, ["other"]):
                    pass


@pytest.mark.parametrize("channel", ["a", "{user}.a", "x{user}", "{}a", "a{}{b}", "{a", "a}b{c}", "é{ü}"])
@pytest.mark.sockets
async def test_slots_are_those_of_the_cluster(redis_cluster: Sequence[RedisServer], channel: str) -> None:
    assert redis_cluster[0].cli("cluster", "keyslot", channel) == str(hash_slot(channel.encode()))


@frozen
class Remote:
    """A server's end of a link, under a virtual clock, and where the link hands over messages."""

    stream: trio.abc.Stream
    link: Link
    receive: trio.MemoryReceiveChannel[Sequence[Message]]

    async def push(self, *items: str) -> None:
        """Send what a server sends without being asked."""
        parts = "".join(f"${len(item)}\r\n{item}\r\n" for item in items)
        await self.stream.send_all(f">{len(items)}\r\n{parts}".encode())


@asynccontextmanager
async def linked(*, sharded: bool = False) -> AsyncIterator[Remote]:
    """A link that is read and watched, until it fails."""
    near, far = trio.testing.memory_stream_pair()
    link = Link(Server("redis", 6379, 5.0), near, ReplyReader(), sharded=sharded)
    send, receive = trio.open_memory_channel[Sequence[Message]](0)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(link.read, send)
            nursery.start_soon(link.watch)
            yield Remote(far, link, receive)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise_single(group)
        raise


async def test_it_is_pinged_when_silent_and_given_up_when_it_does_not_answer(
    autojump_clock: MockClock,
) -> None:
    pings: list[float] = []

    async def answer_once() -> None:
        async with linked() as remote:
            while True:
                assert await remote.stream.receive_some() == b"*1\r\n$4\r\nPING\r\n"
                if not pings:
                    await remote.stream.send_all(b"+PONG\r\n")
                pings.append(trio.current_time())

    with pytest.raises(RedisUnavailableError, match="does not answer any more"):
        await answer_once()
    assert (pings, trio.current_time()) == ([2.5, 5.0], 7.5)


async def test_a_message_is_as_good_as_an_answer(autojump_clock: MockClock) -> None:
    async with linked(sharded=True) as remote:
        for _ in range(10):
            await trio.sleep(2.0)
            await remote.push("smessage", "c", "x")
            assert await remote.receive.receive() == [Message(b"c", b"x")]
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.1):
            await remote.stream.receive_some()


async def test_time_is_not_counted_while_nobody_takes_messages(autojump_clock: MockClock) -> None:
    async with linked() as remote:
        await remote.push("message", "c", "x")
        await trio.sleep(100)
        assert await remote.receive.receive() == [Message(b"c", b"x")]


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (b">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", "has ended a subscription"),
        (b">3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n", "has ended a subscription"),
        (b"-MOVED 5 10.0.0.1:6379\r\n", "refuses a subscription: MOVED 5 10.0.0.1:6379"),
        (b"nonsense\r\n", "is lost: Redis sent something that is not RESP3"),
    ],
)
async def test_what_was_not_asked_for_is_an_error(
    autojump_clock: MockClock, sent: bytes, complaint: str
) -> None:
    async def listen() -> None:
        async with linked(sharded=True) as remote:
            await remote.stream.send_all(sent)
            await trio.sleep(100)

    with pytest.raises(RedisUnavailableError, match=complaint):
        await listen()
    assert trio.current_time() == 0


async def test_a_subscription_that_is_not_confirmed_in_time_is_an_error(autojump_clock: MockClock) -> None:
    async def confirm_half() -> None:
        async with linked() as remote, trio.open_nursery() as nursery:
            nursery.start_soon(partial(remote.link.order, [b"a", b"b"], subscribe=True))
            await remote.push("subscribe", "a", "1")
            while True:
                await trio.sleep(1)
                await remote.stream.send_all(b"+PONG\r\n")

    with pytest.raises(RedisUnavailableError, match="has not confirmed a subscription in time"):
        await confirm_half()
    assert trio.current_time() == 5.0


async def test_an_order_that_is_cancelled_leaves_the_others_in_order(autojump_clock: MockClock) -> None:
    confirmed: list[bytes] = []

    async with linked() as remote, trio.open_nursery() as nursery:

        async def order(channel: bytes, *, subscribe: bool) -> None:
            await remote.link.order([channel], subscribe=subscribe)
            confirmed.append(channel)

        with trio.move_on_after(1):
            await order(b"a", subscribe=True)
        for channel, subscribe in ((b"b", True), (b"a", False)):
            nursery.start_soon(partial(order, channel, subscribe=subscribe))
            await trio.testing.wait_all_tasks_blocked()
        for kind, name, known in (
            ("subscribe", "a", []),
            ("subscribe", "b", [b"b"]),
            ("unsubscribe", "a", [b"b", b"a"]),
        ):
            await remote.push(kind, name, "1")
            await trio.testing.wait_all_tasks_blocked()
            assert confirmed == known
