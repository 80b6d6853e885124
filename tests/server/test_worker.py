"""One worker, beside the parent of which only the socketpair is there."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, field
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.metrics import Family, Metrics
from localful_ws.routing import Router
from localful_ws.server.listeners import ListenError
from localful_ws.server.survey.questions import (
    Answer,
    Answered,
    Ask,
    MetricsAnswer,
    MetricsQuestion,
    Question,
    Survey,
    UsersAnswer,
    UsersQuestion,
)
from localful_ws.server.survey.respondent import Respondent
from localful_ws.server.workers import worker as worker_module
from localful_ws.server.workers.messages import (
    Channel,
    Drain,
    Failed,
    Ready,
    ToParent,
    parent_end,
    worker_end,
)
from localful_ws.server.workers.worker import Worker
from localful_ws.settings import Settings, SettingsError
from tests.world import make_settings

pytestmark = pytest.mark.sockets

PATIENCE = 1000
METRICS = MetricsQuestion()
USERS = UsersQuestion(prefix="a")


def opened(number: int) -> MetricsAnswer:
    """Metrics that can be told from others."""
    return MetricsAnswer([Family("opened", "A text.", "counter", {("", ""): number})])


def opened_of(told: object, number: int) -> float:
    """The connections that a worker tells with this number that it has opened."""
    assert isinstance(told, Answered)
    assert (told.number, told.question) == (number, METRICS)
    assert isinstance(told.answer, MetricsAnswer)
    samples = {family.name: family.samples for family in told.answer.families}
    return samples["localful_ws_connections_opened"]["", ""]


@define(eq=False)
class FakeDaemon:
    """A daemon that drains at once, unless it is stuck.

    Attributes:
        settings: Its settings.
        ask_all: Has all workers answer.
        metrics: Its own.
    """

    settings: Settings
    ask_all: Survey
    metrics: Metrics = field(factory=Metrics)
    stuck: bool = False
    fault: Exception | None = None
    _shutdown: trio.Event = field(factory=trio.Event, init=False)

    def shut_down(self) -> None:
        self._shutdown.set()

    async def serve(self, *, task_status: trio.TaskStatus[Respondent]) -> None:
        task_status.started(Respondent(Router(), self.metrics))
        await self._shutdown.wait()
        if self.fault is not None:
            raise self.fault
        if self.stuck:
            await trio.sleep_forever()


@define(eq=False)
class Parent:
    """The parent's side.

    Attributes:
        sock: Its end of the socketpair, to be closed for its death.
        channel: The same as a channel.
        daemon: The worker's daemon.
        status: The worker's exit status, once it has ended.
    """

    sock: socket.socket
    channel: Channel[ToParent]
    daemons: list[FakeDaemon]
    status: int | None = None

    @property
    def daemon(self) -> FakeDaemon:
        (daemon,) = self.daemons
        return daemon

    async def hear(self) -> ToParent | None:
        """The next message."""
        with trio.fail_after(5):
            return await self.channel.receive()

    def die(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def working(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> AsyncIterator[Parent]:
    """Have a worker with a fake daemon that ends by itself in the block, or soon after."""
    daemons: list[FakeDaemon] = []

    def make(settings: Settings, ask_all: Survey) -> FakeDaemon:
        daemons.append(FakeDaemon(settings, ask_all))
        return daemons[-1]

    monkeypatch.setattr(worker_module, "Daemon", make)
    ours, theirs = socket.socketpair()
    parent, channel = Parent(ours, parent_end(ours), daemons), worker_end(theirs)

    async def live() -> None:
        parent.status = await Worker(make_settings(**changes), channel).run()
        channel.finish()

    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(parent.channel.send_posted)
                async with trio.open_nursery() as ours_alone:
                    ours_alone.start_soon(channel.send_posted)
                    ours_alone.start_soon(live)
                    yield parent
                nursery.cancel_scope.cancel()
    finally:
        parent.channel.close()
        channel.close()


async def test_it_drains_when_told_to(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    async with working(monkeypatch) as parent:
        assert await parent.hear() == Ready()
        parent.channel.post(Drain())
        assert isinstance(await parent.hear(), Answered)
    assert parent.status == 0


async def test_it_drains_when_the_parent_is_gone(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    with capture_logs() as log:
        async with working(monkeypatch) as parent:
            assert await parent.hear() == Ready()
            parent.die()
    assert parent.status == 0
    assert [entry["event"] for entry in log] == ["the parent process is gone: draining"]


async def test_it_drains_when_the_parent_says_what_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with working(monkeypatch) as parent:
        assert await parent.hear() == Ready()
        parent.sock.send(b"gibberish")
        assert isinstance(await parent.hear(), Answered)
    assert parent.status == 0


async def test_it_drains_on_a_signal_and_a_second_ends_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with working(monkeypatch, drain_seconds=1e6) as parent:
        assert await parent.hear() == Ready()
        parent.daemon.stuck = True
        os.kill(os.getpid(), signal.SIGTERM)
        parent.channel.post(Drain())
        await wait_all_tasks_blocked()
        assert parent.status is None
        os.kill(os.getpid(), signal.SIGTERM)
        await parent.hear()
    assert parent.status == 128 + signal.SIGTERM


@pytest.mark.parametrize("orphaned", [True, False])
async def test_an_end_that_takes_too_long_is_cut_short(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, *, orphaned: bool
) -> None:
    with capture_logs() as log:
        async with working(monkeypatch, drain_seconds=20, publish_timeout=7) as parent:
            assert await parent.hear() == Ready()
            parent.daemon.stuck = True
            parent.die() if orphaned else parent.channel.post(Drain())
            await trio.sleep(27)
            assert parent.status is None
    assert 27 < trio.current_time() < 32
    assert log[-1]["event"] == "the end took too long: what was under way is dropped"


async def test_a_fault_is_logged(monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    with capture_logs() as log:
        async with working(monkeypatch) as parent:
            assert await parent.hear() == Ready()
            parent.daemon.fault = KeyError("oops")
            parent.channel.post(Drain())
    assert parent.status == 1
    assert [entry["event"] for entry in log] == ["a worker failed"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ListenError("A sentence."), 1, Failed("A sentence.", listening=True)),
        (SettingsError("A sentence."), 2, Failed("A sentence.", listening=False)),
    ],
)
async def test_what_cannot_be_is_told_to_the_parent(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
    error: Exception,
    status: int,
    message: Failed,
) -> None:
    async with working(monkeypatch) as parent:
        assert await parent.hear() == Ready()
        parent.daemon.fault = error
        parent.channel.post(Drain())
        assert await parent.hear() == message
    assert parent.status == status


async def test_it_tells_its_metrics_and_once_more_at_the_end(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with working(monkeypatch) as parent:
        assert await parent.hear() == Ready()
        for number, count in ((7, 3), (8, 4)):
            parent.daemon.metrics.connections_opened = count
            parent.channel.post(Ask(number, METRICS))
            assert opened_of(await parent.hear(), number) == count
        parent.daemon.metrics.connections_opened = 5
        parent.channel.post(Drain())
        assert opened_of(await parent.hear(), 0) == 5


async def test_it_gets_the_answer_of_all_from_the_parent(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    got: list[Answer | None] = []
    one, three = opened(1), opened(3)
    nobody = UsersAnswer([], more=False)

    async with working(monkeypatch) as parent, trio.open_nursery() as nursery:

        async def ask(question: MetricsQuestion | UsersQuestion = METRICS) -> None:
            got.append(await parent.daemon.ask_all(question))

        assert await parent.hear() == Ready()
        nursery.start_soon(ask)
        assert await parent.hear() == Ask(1, METRICS)
        nursery.start_soon(ask)
        assert await parent.hear() == Ask(2, METRICS)
        nursery.start_soon(ask, USERS)
        assert await parent.hear() == Ask(3, USERS)
        parent.channel.post(Answered(1, METRICS, one))
        await wait_all_tasks_blocked()
        assert got == [one]
        nursery.start_soon(ask)
        assert await parent.hear() == Ask(4, METRICS)
        # For all that wanted this up to that number, and nobody who wants something else.
        parent.channel.post(Answered(4, METRICS, three))
        await wait_all_tasks_blocked()
        assert got == [one, three, three]
        parent.channel.post(Answered(2, USERS, nobody))
        await wait_all_tasks_blocked()
        assert got == [one, three, three]
        parent.channel.post(Answered(3, USERS, nobody))
        await wait_all_tasks_blocked()
        assert got == [one, three, three, nobody]
        assert trio.current_time() == 0
        # One that the parent does not answer, and one in which it dies.
        await ask()
        assert 1 < trio.current_time() < 10
        began = trio.current_time()
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        parent.die()
        await wait_all_tasks_blocked()
        assert got[4:] == [None, None]
        await ask()
        assert got[6:] == [None]
        assert trio.current_time() == began


async def test_questions_that_are_too_many_are_left_unanswered(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    go_on = trio.Event()
    answer = Respondent.answer

    async def answer_later(respondent: Respondent, question: Question) -> Answer:
        if question == USERS:
            await go_on.wait()
        return await answer(respondent, question)

    monkeypatch.setattr(Respondent, "answer", answer_later)
    async with working(monkeypatch) as parent:
        assert await parent.hear() == Ready()
        # When that has its answer, all before it has arrived.
        async with trio.open_nursery() as asking:
            asking.start_soon(parent.daemon.ask_all, METRICS)
            assert await parent.hear() == Ask(1, METRICS)
            for number in range(1, 201):
                parent.channel.post(Ask(number, USERS))
            parent.channel.post(Answered(1, METRICS, opened(0)))
        go_on.set()
        answered = [await parent.hear() for _ in range(65)]
        assert [told.number for told in answered if isinstance(told, Answered)] == list(range(1, 66))
        parent.channel.post(Drain())
        last_word = await parent.hear()
        assert isinstance(last_word, Answered)
        assert last_word.number == 0
