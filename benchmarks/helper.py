"""Processes of the harness's own, which do what they are asked over a pipe: a line of JSON each way."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import msgspec

from benchmarks.client import Client
from benchmarks.model import ROOT, BenchmarkError, Target
from benchmarks.processes import stop

QUICK_ANSWER = 30.0
"""Seconds for what takes no time."""


class Helper:
    """The harness's handle on one such process.

    Args:
        module: What runs in it.
        target: The server it deals with.
        index: Which of its kind it is.
    """

    def __init__(self, module: str, target: Target, index: int) -> None:
        self._name = module.rpartition(".")[2]
        # It ends with its pipe, and so with the harness; a Ctrl-C is for the harness alone.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
        )
        self._buffer = b""
        self.ask({"do": "hello", "target": msgspec.to_builtins(target), "index": index}, QUICK_ANSWER)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def send(self, command: dict[str, Any]) -> None:
        """Give an order; `poll` tells when it's done."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(command).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise BenchmarkError(f"{self._name}: the process ended") from None

    def poll(self, timeout: float) -> dict[str, Any] | None:
        """The answer to the last order, if it comes within `timeout` seconds.

        Raises:
            BenchmarkError: The order failed, or the process ended.
        """
        pipe = self._process.stdout
        assert pipe is not None
        while b"\n" not in self._buffer:
            ready, _write, _other = select.select([pipe], [], [], timeout)
            if not ready:
                return None
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                raise BenchmarkError(f"{self._name}: the process ended")
            self._buffer += chunk
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise BenchmarkError(f"{self._name}: {answer['failed']}")
        return answer

    def answer(self, what: str, timeout: float) -> dict[str, Any]:
        """Wait for the answer to the last order.

        Args:
            what: The order, in case there is none.
            timeout: Seconds.

        Raises:
            BenchmarkError: It doesn't come, or the order failed.
        """
        answer = self.poll(timeout)
        if answer is None:
            raise BenchmarkError(f"{self._name}: no answer within {timeout:g} s: {what}")
        return answer

    def ask(self, command: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Give an order and wait until it's done."""
        self.send(command)
        return self.answer(command["do"], timeout)

    def close(self) -> None:
        """End it, and with it all its connections."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        stop(self._process)


def ask_all(helpers: Sequence[Helper], command: dict[str, Any], timeout: float) -> list[dict[str, Any]]:
    """Give the same order to all at the same time, and wait until the last one is done."""
    for helper in helpers:
        helper.send(command)
    return [helper.answer(command["do"], timeout) for helper in helpers]


class HelperProcess:
    """What runs in the process; an order `do` is the method `do_DO`."""

    client: Client | None = None
    """Devices that are served between orders."""

    def __init__(self) -> None:
        self._buffer = b""
        self._pipe: BinaryIO = sys.stdin.buffer
        first = self._next_command()
        self.target = msgspec.convert(first["target"], Target)
        self.index: int = first["index"]
        self.say({"ready": True})

    def say(self, answer: dict[str, Any]) -> None:
        """Answer the harness."""
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def _next_command(self) -> dict[str, Any]:
        """Wait for an order; devices are served meanwhile."""
        waiting: list[BinaryIO | Client] = [self._pipe]
        if self.client is not None:
            waiting.append(self.client)
        while b"\n" not in self._buffer:
            ready, _write, _other = select.select(waiting, [], [])
            if self.client in ready:
                assert self.client is not None
                self.client.pump(0)
            if self._pipe in ready:
                chunk = os.read(self._pipe.fileno(), 65536)
                if not chunk:
                    return {"do": "end"}
                self._buffer += chunk
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        command: dict[str, Any] = json.loads(line)
        return command

    def run(self) -> None:
        """Do what is asked until the pipe closes."""
        while (command := self._next_command())["do"] != "end":
            self.say(getattr(self, f"do_{command.pop('do')}")(**command))


def serve(process: Callable[[], HelperProcess]) -> None:
    """Do what is asked until the pipe closes; say so if it can't be done."""
    try:
        process().run()
    except BenchmarkError as error:
        sys.stdout.write(json.dumps({"failed": str(error)}) + "\n")
