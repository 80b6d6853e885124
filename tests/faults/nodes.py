"""A node as a process of its own that can be killed, paused and started again where it was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import trio
from attrs import Factory, define, field

from localful_ws.tokens import mint_token
from tests.redis_server import free_port

SECRET = "a-secret-of-the-fault-tests-of-32-bytes"
PUBLISHER_KEY = "the-publisher-key-of-the-fault-tests"
_LISTENING_WITHIN = 30.0


def make_token(user: str, group: str) -> str:
    """Make an access token that outlasts every test."""
    return mint_token(SECRET.encode(), user, group, 3600, time.time())


@define(eq=False)
class Node:
    """A node; `start` it first, and `kill` it in the end.

    Attributes:
        name: Its name.
        settings: Settings as on the command line, without the ports.
        host: The address of its listeners.
        wrapper: What to put before its command line.
        port: Its port for devices.
        internal_port: Its port for publishers.
        output: All it has written, in all its lives.
        lives: How often it was started.
        ends: With what status it ended when nobody had killed it.
    """

    name: str
    settings: Mapping[str, str | int | float]
    host: str = "127.0.0.1"
    wrapper: Sequence[str] = ()
    port: int = field(factory=free_port)
    internal_port: int = field(factory=free_port)
    output: list[str] = Factory(list)
    lives: int = 0
    ends: list[int | None] = Factory(list)
    _process: trio.Process | None = None

    @property
    def internal_url(self) -> str:
        """Where publishers reach it."""
        return f"http://{self.host}:{self.internal_port}"

    async def start(self, nursery: trio.Nursery) -> None:
        """Start it and wait until it listens, or is killed; what it writes is read in ``nursery``.

        Raises:
            AssertionError: If it does not listen in time.
        """
        command = [*self.wrapper, sys.executable, "-m", "localful_ws", "serve", "--log-format", "json"]
        settings = {
            **self.settings,
            "host": self.host,
            "port": self.port,
            "internal-host": self.host,
            "internal-port": self.internal_port,
        }
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOCALFUL_WS_")},
            "LOCALFUL_WS_JWT_SECRET": SECRET,
            "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY,
        }
        self.lives += 1
        self._process = process = await trio.lowlevel.open_process(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            with trio.fail_after(_LISTENING_WITHIN):
                await nursery.start(self._read, process)
        except (trio.TooSlowError, RuntimeError):
            if self._process is not process:
                return  # it was killed meanwhile
            last = "\n".join(self.output[-20:])
            raise AssertionError(f"node {self.name} does not listen:\n{last}") from None

    async def _read(self, process: trio.Process, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep what it writes; started once both listeners have said where they are."""
        assert process.stderr is not None
        buffered = b""
        listeners = 0
        async with process.stderr as stderr:
            async for data in stderr:
                *lines, buffered = (buffered + data).split(b"\n")
                self.output += [line.decode() for line in lines]
                for line in lines:
                    listeners += _event_of(line) == "listening"
                    if _event_of(line) == "listening" and listeners == 2:
                        task_status.started()

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill it, if it runs, and wait until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            if process.poll() is not None:
                self.ends.append(process.returncode)
            process.send_signal(signal.SIGKILL)
            await process.wait()

    def complaints(self, *, errors: bool = True) -> list[str]:
        """What is wrong with it: ends that nobody caused, tracebacks and maybe errors in what it wrote."""
        ends = [f"node {self.name} ended by itself, with status {status}" for status in self.ends]
        return ends + [
            f"node {self.name} logged: {line[:2000]}"
            for line in self.output
            if "Traceback" in line or (errors and '"level": "error"' in line)
        ]


def _event_of(line: bytes) -> object:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry.get("event") if isinstance(entry, dict) else None
