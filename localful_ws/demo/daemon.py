"""A real daemon for the demo: a child process with made-up secrets, on free ports."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
from attrs import Factory, define, field

from localful_ws.demo.errors import DemoError
from localful_ws.wakeup import Signal

JWT_SECRET = "made-up-secret-for-trying-localful-out"
PUBLISHER_KEY = "made-up-publisher-key"

SERVE = (sys.executable, "-m", "localful_ws", "serve")
"""The command that starts a daemon."""

_PREFIX = "LOCALFUL_WS_"
START_SECONDS = 20.0
"""How long a daemon may take to listen."""

_STOP_SECONDS = 10.0
_LISTENERS = ("websocket", "internal")


def environment(inherited: Mapping[str, str], settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make the demo daemon's environment: made-up secrets, and none of the operator's own settings.

    Args:
        inherited: Our own.
        settings: More settings, by their names as in ``LOCALFUL_WS_<NAME>``.
    """
    more = {f"{_PREFIX}{name}": value for name, value in (settings or {}).items()}
    kept = {name: value for name, value in inherited.items() if not name.startswith(_PREFIX)}
    return kept | {
        f"{_PREFIX}JWT_SECRET": JWT_SECRET,
        f"{_PREFIX}PUBLISHER_KEY": PUBLISHER_KEY,
        f"{_PREFIX}PORT": "0",
        f"{_PREFIX}INTERNAL_PORT": "0",
        f"{_PREFIX}LOG_FORMAT": "json",
        f"{_PREFIX}DRAIN_SECONDS": "1",
        **more,
    }


@define(eq=False)
class DaemonProcess:
    """A daemon that is a child of this process.

    Attributes:
        ports: Where it listens, by listener.
    """

    _process: trio.Process
    ports: dict[str, int] = Factory(dict)
    _log: deque[str] = field(factory=lambda: deque(maxlen=5))
    _changed: Signal = field(factory=Signal)
    # Set when the log has been read to its end as well, so that its last words are there.
    _ended: trio.Event = field(factory=trio.Event)

    @property
    def websocket_port(self) -> int:
        """The port that devices connect to."""
        return self.ports["websocket"]

    @property
    def internal_port(self) -> int:
        """The port that publishers post to."""
        return self.ports["internal"]

    @property
    def websocket_url(self) -> str:
        """The URL that devices connect to."""
        return f"ws://127.0.0.1:{self.websocket_port}/v1/sync"

    @property
    def internal_url(self) -> str:
        """Where publishers find ``/v1/events``."""
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def read_log(self) -> None:
        """Read its log until it ends: where it listens, and what to show should it fail."""
        rest = b""
        if self._process.stderr is not None:
            async for chunk in self._process.stderr:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._note(line.decode(errors="replace"))
        await self._process.wait()
        self._ended.set()
        self._changed.set()

    async def wait_listening(self) -> None:
        """Wait until it says where it listens.

        Raises:
            DemoError: If it ends instead, or takes too long.
        """
        with trio.move_on_after(START_SECONDS) as waiting:
            while len(self.ports) < len(_LISTENERS) and not self._ended.is_set():
                await self._changed.wait()
        if waiting.cancelled_caught:
            raise DemoError(f"The daemon does not listen after {START_SECONDS:g} s.{self._last_words()}")
        if len(self.ports) < len(_LISTENERS):
            raise DemoError(
                f"The daemon ended at once, with status {self._process.returncode}.{self._last_words()}"
            )

    async def wait_ended(self) -> str:
        """Wait until it ends, and say how: a sentence, and its last words."""
        await self._ended.wait()
        return f" Its status was {self._process.returncode}.{self._last_words()}"

    async def stop(self) -> int:
        """End it with SIGTERM, and by force if that takes too long.

        Returns:
            Its exit status; negative, the number of a signal, if that ended it.
        """
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        with trio.move_on_after(_STOP_SECONDS):
            return await self._process.wait()
        self._process.kill()
        return await self._process.wait()

    def _note(self, line: str) -> None:
        self._log.append(line)
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if isinstance(entry, dict) and entry.get("event") == "listening":
            self.ports[str(entry["listener"])] = int(entry["port"])
            self._changed.set()

    def _last_words(self) -> str:
        return "".join(f"\n  {line}" for line in self._log)


@asynccontextmanager
async def running_daemon(
    command: Sequence[str] = SERVE, settings: Mapping[str, str] | None = None
) -> AsyncIterator[DaemonProcess]:
    """Have a daemon for as long as the block lasts; however the block ends, the daemon ends with it.

    Args:
        command: What starts it.
        settings: More settings than it has; see `environment`.

    Raises:
        DemoError: If it does not start.
    """
    # In a session of its own: Ctrl-C is for us, and two signals would end it without a goodbye.
    process = await trio.lowlevel.open_process(
        command,
        env=environment(os.environ, settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    daemon = DaemonProcess(process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon.read_log)
        try:
            await daemon.wait_listening()
            yield daemon
        finally:
            with trio.CancelScope(shield=True):
                await daemon.stop()
