"""The parent of several workers: it keeps the ports and the workers, and serves nobody itself."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog
import trio
from attrs import define, evolve

from localful_ws.server.listeners import (
    Addresses,
    ListenError,
    address,
    log_addresses,
    reserve,
    tls_context,
)
from localful_ws.server.notify import notify_ready, notify_stopping
from localful_ws.server.survey.questions import Answered, Ask
from localful_ws.server.survey.surveyor import Surveyor
from localful_ws.server.workers.messages import (
    BrokenChannelError,
    Channel,
    Drain,
    Failed,
    Ready,
    Start,
    ToParent,
    parent_end,
)
from localful_ws.settings import Settings, SettingsError
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

START_SECONDS: Final = 60.0
"""How long a worker may take until it is ready."""

MARGIN_SECONDS: Final = 5.0
"""How much longer a worker may take to end than its settings allow."""

STEADY_SECONDS: Final = 60.0
"""A worker that lived this long did not die of its start."""

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
# What is under way when the process ends: its last words.
_LAST_WORDS_SECONDS: Final = 1.0
_MODULE: Final = "localful_ws.server.workers.worker"
_VARIABLES: Final = "LOCALFUL_WS_"


class Process(Protocol):
    """What is used of `trio.Process`."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    @property
    def returncode(self) -> int | None:
        """Its exit status, or the negative number of the signal that ended it; None while it runs."""
        ...

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        ...

    async def wait(self) -> int:
        """Wait for its end."""
        ...


@define(eq=False)
class WorkerProcess:
    """One worker process.

    Attributes:
        process: The process.
        channel: What leads to it.
        failure: Why it can't start, if it said so.
    """

    process: Process
    channel: Channel[ToParent]
    failure: Failed | None = None


async def start_worker() -> WorkerProcess:
    """Start a worker process; it waits for its settings.

    Raises:
        OSError: If the system can't.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                env=_environment(os.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is for the parent, which passes it on.
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
    return WorkerProcess(process, parent_end(ours))


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: none of our settings, and modules from where this process has them."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_VARIABLES)}
    return kept | {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}


class Supervisor:
    """Keeps workers running. The ports are taken when it is made.

    Args:
        settings: The daemon's settings.
        count: How many workers.
        start: Starts a process.

    Attributes:
        addresses: Where the workers listen.

    Raises:
        localful_ws.server.listeners.ListenError: If an address can't be listened on.
        localful_ws.settings.SettingsError: If the TLS files can't be used.
    """

    def __init__(
        self, settings: Settings, count: int, start: Callable[[], Awaitable[WorkerProcess]] = start_worker
    ) -> None:
        # Each worker loads them for itself; what is wrong with them is better said once.
        self._tls = tls_context(settings.tls_cert, settings.tls_key) is not None
        self._settings = settings
        self._count = count
        self._start = start
        self._websocket = reserve(settings.host, settings.port, setting="port")
        try:
            self._internal = reserve(settings.internal_host, settings.internal_port, setting="internal-port")
        except ListenError:
            self._websocket.close()
            raise
        self.addresses = Addresses(address(self._websocket), address(self._internal))
        self._shutdown = trio.Event()
        self._surveyor = Surveyor(count)
        self._ready: set[WorkerProcess] = set()
        self._changed = Signal()
        self._started = False

    def shut_down(self) -> None:
        """Have all workers drain; `serve` returns when they have."""
        notify_stopping("draining")
        self._shutdown.set()
        self._changed.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep workers until `shut_down`, let them drain, and return. Starts when all of them are ready.

        Cancelled, it kills them.

        Raises:
            ExceptionGroup: Of `localful_ws.server.listeners.ListenError` or
                `localful_ws.settings.SettingsError`, if no worker can start.
        """
        with self._websocket, self._internal:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._surveyor.run)
                async with trio.open_nursery() as workers:
                    for _ in range(self._count):
                        workers.start_soon(self._keep_one)
                    while len(self._ready) < self._count and not self._shutdown.is_set():
                        await self._changed.wait()
                    if not self._shutdown.is_set():
                        self._started = True
                        log_addresses(self.addresses, self._settings.path, tls=self._tls)
                        notify_ready(f"serving with {self._count} workers")
                    task_status.started()
                nursery.cancel_scope.cancel()
        _log.info("stopped")

    async def _keep_one(self) -> None:
        """Start a worker, and again whenever it has ended."""
        pause = _FIRST_PAUSE
        while not self._shutdown.is_set():
            began = trio.current_time()
            end = await self._run_worker()
            if self._shutdown.is_set():
                if end.get("status") != 0:
                    _log.warning("a worker ended", **end)
                return
            if trio.current_time() - began >= STEADY_SECONDS:
                pause = _FIRST_PAUSE
            _log.warning("a worker ended", **end, restart_in=pause)
            with trio.move_on_after(pause):
                await self._shutdown.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)
            self._surveyor.restarts += not self._shutdown.is_set()

    async def _run_worker(self) -> Mapping[str, object]:
        """Run one worker to its end; returns what is to be said of that."""
        try:
            worker = await self._start()
        except OSError as error:
            return {"error": error.strerror}
        try:
            async with trio.open_nursery() as nursery:
                heard = trio.Event()
                nursery.start_soon(worker.channel.send_posted)
                nursery.start_soon(self._listen_to, worker, heard)
                nursery.start_soon(self._expect_ready, worker)
                nursery.start_soon(self._drain, worker)
                worker.channel.post(Start(pickle.dumps(self._settings_of_worker())))
                await worker.process.wait()
                with trio.move_on_after(_LAST_WORDS_SECONDS):
                    await heard.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._ready.discard(worker)
            self._surveyor.leave(worker.channel)
            worker.channel.close()
            with trio.CancelScope(shield=True):
                worker.process.kill()
                await worker.process.wait()
        if worker.failure is not None and not self._started:
            error_type = ListenError if worker.failure.listening else SettingsError
            raise error_type(worker.failure.message)
        return _end_of(worker)

    def _settings_of_worker(self) -> Settings:
        host, port = self.addresses.websocket
        internal_host, internal_port = self.addresses.internal
        return evolve(
            self._settings,
            host=host,
            port=port,
            internal_host=internal_host,
            internal_port=internal_port,
            workers=1,
        )

    async def _listen_to(self, worker: WorkerProcess, heard: trio.Event) -> None:
        try:
            while (message := await worker.channel.receive()) is not None:
                self._take(worker, message)
        except BrokenChannelError:
            _log.warning("a worker says what can't be read, and is killed", worker=worker.process.pid)
            worker.process.kill()
        heard.set()

    def _take(self, worker: WorkerProcess, message: ToParent) -> None:
        match message:
            case Ready():
                self._ready.add(worker)
                self._surveyor.join(worker.channel)
                self._changed.set()
            case Failed():
                worker.failure = message
            case Ask():
                self._surveyor.ask(worker.channel, message)
            case Answered():
                self._surveyor.answered(worker.channel, message)

    async def _expect_ready(self, worker: WorkerProcess) -> None:
        await trio.sleep(START_SECONDS)
        if worker not in self._ready:
            _log.warning("a worker took too long to start, and is killed", worker=worker.process.pid)
            worker.process.kill()

    async def _drain(self, worker: WorkerProcess) -> None:
        await self._shutdown.wait()
        # Not with a signal: a worker may have had one already, as from systemd, and a second ends it at once.
        worker.channel.post(Drain())
        await trio.sleep(self._settings.drain_seconds + self._settings.publish_timeout + MARGIN_SECONDS)
        _log.warning("a worker took too long to end, and is killed", worker=worker.process.pid)
        worker.process.kill()


def _end_of(worker: WorkerProcess) -> dict[str, object]:
    status = worker.process.returncode
    said: dict[str, object] = {"worker": worker.process.pid}
    if status is not None and status < 0:
        said["signal"] = next((each.name for each in signal.Signals if each == -status), -status)
    else:
        said["status"] = status
    if worker.failure is not None:
        said["reason"] = worker.failure.message
    return said
