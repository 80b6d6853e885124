"""The parent of several workers that are tasks: what it tells them, and what it makes of their ends."""

import pickle
import signal
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import Factory, define, field
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.metrics import Metrics, expose
from localful_ws.server.listeners import ListenError
from localful_ws.server.survey.questions import Answered, Ask, MetricsAnswer, MetricsQuestion
from localful_ws.server.workers.messages import (
    Channel,
    Drain,
    Failed,
    Ready,
    Start,
    ToWorker,
    parent_end,
    worker_end,
)
from localful_ws.server.workers.supervisor import (
    MARGIN_SECONDS,
    START_SECONDS,
    STEADY_SECONDS,
    Supervisor,
    WorkerProcess,
)
from localful_ws.settings import Settings, SettingsError
from tests.world import SECRET, make_settings

pytestmark = pytest.mark.sockets

PATIENCE = 1000
METRICS = MetricsQuestion()

Log = list[MutableMapping[str, Any]]


@define(eq=False)
class FakeProcess:
    """A worker as a task.

    Attributes:
        pid: Its number, from 1.
        sock: Its end of the socketpair, which ends with it.
        channel: The same as a channel.
        began: When it was started.
        returncode: As of a process.
        heard: What it was told, but for the settings.
        settings: What it was told to be.
    """

    pid: int
    sock: socket.socket
    channel: Channel[ToWorker]
    began: float = Factory(trio.current_time)
    returncode: int | None = None
    heard: list[ToWorker] = Factory(list)
    settings: Settings | None = None
    _ended: trio.Event = field(factory=trio.Event, init=False)

    def kill(self) -> None:
        self.end(-signal.SIGKILL)

    def end(self, status: int = 0) -> None:
        """End it."""
        if self.returncode is None:
            self.returncode = status
            self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def run(self, life: "Life") -> None:
        """Live, until the life or the process is over."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.channel.send_posted)
                nursery.start_soon(self._live, life)
                await self._ended.wait()
                # A real one's last words are in the kernel's hands by now.
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        finally:
            self.channel.close()

    async def _live(self, life: "Life") -> None:
        start = await self.channel.receive()
        assert isinstance(start, Start)
        self.settings = pickle.loads(start.settings)
        await life(self)

    async def listen(self) -> None:
        """Hear until told to drain."""
        while (message := await self.channel.receive()) is not None:
            self.heard.append(message)
            if isinstance(message, Drain):
                break


Life = Callable[[FakeProcess], Awaitable[None]]


async def serve(process: FakeProcess) -> None:
    """The life of a good worker."""
    process.channel.post(Ready())
    await process.listen()
    process.end()


async def be_stuck(process: FakeProcess) -> None:
    process.channel.post(Ready())
    await trio.sleep_forever()


async def never_be_ready(process: FakeProcess) -> None:
    await process.listen()
    process.end()


async def die_at_once(process: FakeProcess) -> None:
    process.end(-signal.SIGSEGV)


async def speak_gibberish(process: FakeProcess) -> None:
    process.sock.send(b"gibberish")
    await trio.sleep_forever()


def fail_with(message: str, *, listening: bool) -> Life:
    async def life(process: FakeProcess) -> None:
        process.channel.post(Failed(message, listening))
        process.end(1)

    return life


def serve_for(seconds: float, status: int = 1) -> Life:
    async def life(process: FakeProcess) -> None:
        process.channel.post(Ready())
        with trio.move_on_after(seconds):
            await process.listen()
        process.end(status)

    return life


@define(eq=False)
class Family:
    """A parent, and the lives its workers are to have: at first those given, then good ones.

    Attributes:
        processes: All workers so far.
    """

    nursery: trio.Nursery
    lives: deque[Life]
    processes: list[FakeProcess] = Factory(list)
    failures: list[OSError] = Factory(list)
    supervisor: Supervisor = field(init=False)

    async def start(self) -> WorkerProcess:
        if self.failures:
            raise self.failures.pop()
        ours, theirs = socket.socketpair()
        process = FakeProcess(len(self.processes) + 1, theirs, worker_end(theirs))
        self.processes.append(process)
        self.nursery.start_soon(process.run, self.lives.popleft() if self.lives else serve)
        return WorkerProcess(process, parent_end(ours))

    def alive(self) -> list[int]:
        """The numbers of the workers that live."""
        return [process.pid for process in self.processes if process.returncode is None]


@pytest.fixture
def log() -> Iterator[Log]:
    with capture_logs() as log:
        yield log


@contextmanager
def family(nursery: trio.Nursery, count: int, *lives: Life, **changes: Any) -> Iterator[Family]:
    family = Family(nursery, deque(lives))
    several = {"port": 0, "internal_port": 0, "engine": "redis://cache", "workers": 3}
    family.supervisor = Supervisor(make_settings(**several | changes), count, family.start)
    with trio.fail_after(PATIENCE):
        yield family
    assert family.alive() == []


def events(log: Log) -> list[str]:
    return [entry["event"] for entry in log]


def endings(log: Log) -> list[MutableMapping[str, Any]]:
    """What was logged of workers that ended."""
    return [entry for entry in log if entry["event"] == "a worker ended"]


async def test_from_start_to_end(nursery: trio.Nursery, autojump_clock: MockClock, log: Log) -> None:
    with family(nursery, 3) as parents:
        supervisor = parents.supervisor
        async with trio.open_nursery() as serving:
            await serving.start(supervisor.serve)
            assert parents.alive() == [1, 2, 3]
            supervisor.shut_down()
    assert [(entry["event"], entry.get("port")) for entry in log] == [
        ("listening", supervisor.addresses.websocket[1]),
        ("listening", supervisor.addresses.internal[1]),
        ("stopped", None),
    ]
    for process in parents.processes:
        assert process.settings is not None
        assert process.heard == [Drain()]
        assert (process.settings.host, process.settings.port) == supervisor.addresses.websocket
        assert (
            process.settings.internal_host,
            process.settings.internal_port,
        ) == supervisor.addresses.internal
        assert (process.settings.workers, process.settings.jwt_secret) == (1, SECRET)


async def test_it_listens_when_the_last_worker_does(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    async def hesitate(process: FakeProcess) -> None:
        await trio.sleep(7)
        await serve(process)

    with family(nursery, 2, hesitate) as parents:
        async with trio.open_nursery() as serving:
            serving.start_soon(parents.supervisor.serve)
            await trio.sleep(6.9)
            assert events(log) == []
            await trio.sleep(0.2)
            assert events(log) == ["listening", "listening"]
            parents.supervisor.shut_down()


async def test_a_worker_that_dies_before_the_others_are_ready(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    async def hesitate(process: FakeProcess) -> None:
        await trio.sleep(1.5)
        await serve(process)

    with family(nursery, 2, serve_for(1), hesitate) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            assert trio.current_time() == 2
            parents.supervisor.shut_down()


async def test_a_worker_that_dies_is_started_again_after_a_while(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    async def serve_until_killed(process: FakeProcess) -> None:
        process.channel.post(Ready())
        await trio.sleep(10)
        process.kill()

    with family(nursery, 2, serve, serve_until_killed) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            await trio.sleep(10.9)
            assert parents.alive() == [1]
            await trio.sleep(0.2)
            assert parents.alive() == [1, 3]
            parents.supervisor.shut_down()
    assert endings(log) == [
        {
            "event": "a worker ended",
            "log_level": "warning",
            "worker": 2,
            "signal": "SIGKILL",
            "restart_in": 1.0,
        }
    ]
    assert parents.processes[0].heard == [Drain()]


async def test_the_pause_grows_with_each_death_and_starts_anew_after_a_steady_life(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    deaths = [serve_for(0)] * 7
    steady, short = serve_for(STEADY_SECONDS), serve_for(STEADY_SECONDS - 0.1)
    with family(nursery, 1, *deaths, short, steady, serve_for(0)) as parents:
        async with trio.open_nursery() as serving:
            serving.start_soon(parents.supervisor.serve)
            await trio.sleep(400)
            parents.supervisor.shut_down()
    assert [(entry["status"], entry["restart_in"]) for entry in endings(log)] == [
        (1, pause) for pause in (1, 2, 4, 8, 16, 30, 30, 30, 1, 2)
    ]
    assert [process.began for process in parents.processes][:4] == [0, 1, 3, 7]


async def test_a_process_that_cannot_be_started_is_tried_again(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 1) as parents:
        parents.failures.append(BlockingIOError(11, "Resource temporarily unavailable"))
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            parents.supervisor.shut_down()
    assert [entry["error"] for entry in endings(log)] == ["Resource temporarily unavailable"]


@pytest.mark.parametrize(("listening", "kind"), [(True, ListenError), (False, SettingsError)])
async def test_a_worker_that_says_it_cannot_start_ends_the_start(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log, *, listening: bool, kind: type[Exception]
) -> None:
    life = fail_with("A sentence.", listening=listening)
    with family(nursery, 3, serve, life, life) as parents, pytest.raises(ExceptionGroup) as failed:
        await parents.supervisor.serve()
    error: BaseException = failed.value
    while isinstance(error, BaseExceptionGroup):
        assert len({type(each) for each in error.exceptions}) == 1
        error = error.exceptions[0]
    assert (type(error), str(error)) == (kind, "A sentence.")
    assert "listening" not in events(log)


async def test_a_worker_that_says_so_later_is_started_again(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 1, serve_for(1), fail_with("A sentence.", listening=True)) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            await trio.sleep(10)
            assert parents.alive() == [3]
            parents.supervisor.shut_down()
    assert [entry.get("reason") for entry in endings(log)] == [None, "A sentence."]


async def test_a_worker_that_does_not_get_ready_is_killed(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 1, never_be_ready) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            assert trio.current_time() == START_SECONDS + 1
            parents.supervisor.shut_down()
    assert [entry["signal"] for entry in endings(log)] == ["SIGKILL"]


async def test_a_worker_that_says_what_cannot_be_read_is_killed(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 1, speak_gibberish) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            parents.supervisor.shut_down()
    assert [entry["signal"] for entry in endings(log)] == ["SIGKILL"]


async def test_at_the_end_a_stuck_worker_is_killed(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 2, be_stuck, drain_seconds=20, publish_timeout=7) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            parents.supervisor.shut_down()
            await wait_all_tasks_blocked()
            assert parents.alive() == [1]
        assert trio.current_time() == 20 + 7 + MARGIN_SECONDS
    assert len(parents.processes) == 2
    assert [entry["signal"] for entry in endings(log)] == ["SIGKILL"]
    assert events(log)[-1] == "stopped"


async def test_nobody_is_started_again_at_the_end(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 2, serve_for(1)) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            await trio.sleep(1.5)
            parents.supervisor.shut_down()
        assert trio.current_time() == 1.5
    assert len(parents.processes) == 2


async def test_an_end_during_the_start(nursery: trio.Nursery, autojump_clock: MockClock, log: Log) -> None:
    with family(nursery, 2, never_be_ready) as parents:
        async with trio.open_nursery() as serving:
            serving.start_soon(parents.supervisor.serve)
            await wait_all_tasks_blocked()
            parents.supervisor.shut_down()
    assert events(log) == ["stopped"]


async def test_cancelled_it_kills_them_all(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    with family(nursery, 3) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            serving.cancel_scope.cancel()
        assert [process.returncode for process in parents.processes] == [-signal.SIGKILL] * 3


def tell_of(opened: int, last_words: int | None = None) -> Life:
    """The life of a worker that opened so many connections; with last words it ends when it has told."""

    async def life(process: FakeProcess) -> None:
        metrics = Metrics()
        metrics.connections_opened = opened
        process.channel.post(Ready())
        while not isinstance(message := await process.channel.receive(), Drain):
            assert message is not None
            process.heard.append(message)
            if isinstance(message, Ask):
                process.channel.post(Answered(message.number, METRICS, MetricsAnswer(metrics.families())))
                if last_words is not None:
                    metrics.connections_opened = last_words
                    process.channel.post(Answered(0, METRICS, MetricsAnswer(metrics.families())))
                    break
        process.end()

    return life


async def test_a_worker_gets_the_metrics_of_all(
    nursery: trio.Nursery, autojump_clock: MockClock, log: Log
) -> None:
    lives = tell_of(10), tell_of(1, last_words=5), tell_of(100)
    with family(nursery, 2, *lives) as parents:
        async with trio.open_nursery() as serving:
            await serving.start(parents.supervisor.serve)
            answers = []
            for number in (1, 2):
                await trio.sleep(5)
                parents.processes[0].channel.post(Ask(number, METRICS))
                await wait_all_tasks_blocked()
                answer = parents.processes[0].heard[-1]
                assert isinstance(answer, Answered)
                assert isinstance(answer.answer, MetricsAnswer)
                assert answer.number == number
                answers.append(expose(answer.answer.families).decode().splitlines())
            parents.supervisor.shut_down()
    before, after = answers
    assert {"localful_ws_connections_opened_total 11.0", "localful_ws_workers 2.0"} <= set(before)
    assert {
        "localful_ws_connections_opened_total 115.0",
        "localful_ws_workers 2.0",
        "localful_ws_workers_missing 0.0",
        "localful_ws_worker_restarts_total 1.0",
    } <= set(after)


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for ports in ({"port": port, "internal_port": 0}, {"port": 0, "internal_port": port}):
            with pytest.raises(ListenError, match=str(port)):
                Supervisor(make_settings(**ports), 2)


def test_tls_files_that_cannot_be_used() -> None:
    here = Path(__file__)
    with pytest.raises(SettingsError, match="tls-cert"):
        Supervisor(make_settings(port=0, internal_port=0, tls_cert=here, tls_key=here), 2)
