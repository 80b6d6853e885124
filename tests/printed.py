"""Runs what the documentation prints, with this Python and the ports that a daemon took."""

import os
import re
import subprocess
import sys

import trio

from localful_ws.demo.daemon import DaemonProcess
from tests.spec_document import ROOT

PROGRAM = re.compile(r"\blocalful-ws (?=serve|token|listen|publish|check)")
PORTS = re.compile(r"\b(?:42102|42103)\b")


def with_ports(text: str, daemon: DaemonProcess) -> str:
    """Put the ports of a daemon where the default ones are."""
    return PORTS.sub(
        lambda port: str(daemon.websocket_port if port[0] == "42102" else daemon.internal_port), text
    )


def for_shell(text: str) -> list[str]:
    """Make a block of commands something to run: its virtual environment is the one we are in."""
    commands = text.replace(". .venv/bin/activate\n", "")
    return ["sh", "-e", "-c", PROGRAM.sub(f"exec {sys.executable} -m localful_ws ", commands)]


def for_python(text: str) -> list[str]:
    """Make a block of Python something to run."""
    return [sys.executable, "-c", text]


def clean_environment(**more: str) -> dict[str, str]:
    """Our environment without settings of the program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCALFUL_WS_")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


async def output_of(command: list[str], environment: dict[str, str]) -> str:
    """Run a command to its end, which must be a success, and say what it printed.

    Raises:
        AssertionError: If it failed.
    """
    done = await trio.run_process(
        command, env=environment, capture_stdout=True, capture_stderr=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


class LongRunning:
    """A command that goes on, and what it prints."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._send, self._lines = trio.open_memory_channel[str](100)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run it until cancelled."""
        process = await trio.lowlevel.open_process(
            self._command, env=self._environment, stdout=subprocess.PIPE
        )
        task_status.started()
        assert process.stdout is not None
        try:
            rest = b""
            async for chunk in process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    await self._send.send(line.decode())
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    async def next_line(self) -> str:
        """The next line it prints."""
        return await self._lines.receive()
