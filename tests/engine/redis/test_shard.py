"""One server: it is connected to again and again, and what begins then."""

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError

from .links import confirm, push
from .owners import FakeRedis, Owner, open_shards

URL, A = "redis://a:1", ("a", 1)


async def test_what_is_published_is_heard_and_channels_are_heard_again(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    async with open_shards(URL, {A: fake}, lambda shards: shards.first.subscriptions.want(b"c")) as (
        shards,
        owner,
    ):
        await wait_all_tasks_blocked()
        for _ in range(2):
            assert owner.channels == [b"c"]
            await fake.remotes[0].send(push("message", "c", "x"))
            await wait_all_tasks_blocked()
            assert [message.data for message in owner.heard] == [b"x"]
            owner.channels.clear()
            owner.heard.clear()
            await fake.cut()
            await trio.sleep(1)
        assert shards.losses == 2


async def test_it_is_used_when_what_must_be_done_before_is_done(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    async with open_shards(URL, {A: fake}) as (shards, owner):
        owner.refuses.extend([RedisRefusedError("LOADING not yet"), RedisUnavailableError("lost")])
        shards.first.subscriptions.want(b"c")
        await wait_all_tasks_blocked()
        assert owner.channels == [b"c"]
        with capture_logs() as log:
            shards.first.restart()
            await trio.sleep(5)
        assert shards.first.link is not None
        assert len(owner.begun) == 4
        assert owner.channels == [b"c"] * 2
        assert [entry.get("reason") for entry in log if entry["log_level"] == "warning"] == [
            *("Another server than a:1 is to be used.", "LOADING not yet", "lost"),
        ]
        # The other times it was not there at all.
        assert shards.losses == 1


async def test_why_it_is_away_is_told_once(autojump_clock: MockClock) -> None:
    fake = FakeRedis(is_there=False)
    with capture_logs() as log:
        async with open_shards(URL, {}) as (shards, owner):
            await trio.sleep(60)
            assert (shards.tried, owner.begun, shards.losses) == (True, [], 0)
    assert [(entry["event"], entry["reason"]) for entry in log] == [
        ("Redis is lost; trying again", "Redis at a:1 can't be reached: nobody listens."),
    ]
    assert fake.asked == []


async def test_it_is_tried_more_and_more_seldom(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localful_ws.engine.redis.shard.random.random", lambda: 1.0)
    fake = FakeRedis({"role": "replica"})
    async with open_shards(URL, {A: fake}) as (shards, _):
        await trio.sleep(100)
        # Pauses of 0.2 s, 0.4, and so on, and of five seconds at last.
        assert len(fake.remotes) == 6 + 18
        assert not shards.first.is_expected
        fake.said["role"] = "master"
        began = trio.current_time()
        await shards.wait_for("k")
        assert trio.current_time() - began <= 5


async def test_another_one_is_connected_to_at_once(autojump_clock: MockClock) -> None:
    fake = FakeRedis({"role": "replica"})
    async with open_shards(URL, {A: fake}) as (shards, _):
        await trio.sleep(50)
        fake.said["role"] = "master"
        began = trio.current_time()
        shards.first.restart()
        await shards.wait_for("k")
        assert trio.current_time() == began


async def test_it_may_be_expected(autojump_clock: MockClock) -> None:
    async with open_shards(URL, {}) as (shards, _):
        shards.first.expect(3.0)
        shards.first.expect(1.0)
        await trio.sleep(2.9)
        assert shards.first.is_expected
        await trio.sleep(0.1)
        assert not shards.first.is_expected


async def test_that_the_server_has_ended_a_subscription_is_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bool] = []
    fakes = {("a", 1): FakeRedis()}
    async with open_shards("redis://a:1", fakes, lambda shards: shards.first.subscriptions.want(b"c")) as (
        shards,
        _,
    ):
        await wait_all_tasks_blocked()
        assert shards.first.subscriptions.hears(b"c")
        monkeypatch.setattr(Owner, "changed", lambda _: heard.append(shards.first.subscriptions.hears(b"c")))
        await fakes["a", 1].remotes[0].send(confirm("unsubscribe", "c"))
        await wait_all_tasks_blocked()
        assert heard == [False]
        assert shards.first.subscriptions.hears(b"c"), "it is subscribed to again"
