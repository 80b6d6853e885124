"""Idle devices in processes of their own: connected, silent, and checked to have been told nothing.

The measuring client stays small and quick beside them, and each process keeps within its open-file limit.
"""

import json
import os
import select
import subprocess
import sys
import time
from typing import Any, BinaryIO

import attrs

from benchmarks.client import Client, Device
from benchmarks.model import ROOT, BenchmarkError, Routes, Speaks, Target, devices_of

PREFIX = "idle"
PER_PROCESS = 10_000
QUICK_ANSWER = 30.0


class Crowd:
    """The harness's handle on one such process.

    Args:
        target: The server.
        index: Which crowd this is; it decides the source address and the users' names.
    """

    def __init__(self, target: Target, index: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.crowd"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._buffer = b""
        fields = {**attrs.asdict(target), "speaks": target.speaks.value, "routes": target.routes.value}
        self.ask({"do": "hello", "target": fields, "index": index}, QUICK_ANSWER)

    def send(self, command: dict[str, Any]) -> None:
        """Give an order; `poll` tells when it's done."""
        pipe = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(command).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise BenchmarkError("a process of idle devices ended") from None

    def poll(self, timeout: float) -> dict[str, Any] | None:
        """The answer to the last order, if it comes within `timeout` seconds.

        Raises:
            BenchmarkError: The order failed, or the process ended.
        """
        pipe = self.process.stdout
        assert pipe is not None
        while b"\n" not in self._buffer:
            ready, _write, _other = select.select([pipe], [], [], timeout)
            if not ready:
                return None
            chunk = os.read(pipe.fileno(), 65536)
            if not chunk:
                raise BenchmarkError("a process of idle devices ended")
            self._buffer += chunk
        line, _newline, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise BenchmarkError(f"idle devices: {answer['failed']}")
        return answer

    def ask(self, command: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Give an order and wait until it's done."""
        self.send(command)
        answer = self.poll(timeout)
        if answer is None:
            raise BenchmarkError(f"idle devices did not answer within {timeout:g} s: {command['do']}")
        return answer

    def prepare(self, count: int) -> None:
        """Make `count` more devices, tokens included, without connecting them."""
        self.ask({"do": "prepare", "count": count}, QUICK_ANSWER + count / 1000)

    def connect(self, *, window: int, timeout: float) -> None:
        """Connect all that are prepared or were dropped."""
        self.ask({"do": "connect", "window": window, "timeout": timeout}, timeout + QUICK_ANSWER)

    def drop(self, keep: int = 0) -> None:
        """All but the first `keep` vanish, to connect again when they're asked to."""
        self.ask({"do": "drop", "keep": keep}, QUICK_ANSWER)

    def check(self) -> int:
        """Let them look whether they are still connected and untold.

        Returns:
            How many are connected.
        """
        count: int = self.ask({"do": "check"}, QUICK_ANSWER)["open"]
        return count

    def close(self) -> None:
        """All of them vanish."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class CrowdProcess:
    """What runs in the process."""

    def __init__(self) -> None:
        self.buffer = b""
        self.pipe: BinaryIO = sys.stdin.buffer
        self.prepared: list[Device] = []
        self.made = 0
        first = self.next_command(None)
        fields = first["target"]
        target = Target(
            **{**fields, "speaks": Speaks(fields["speaks"]), "routes": Routes(fields["routes"])},
        )
        self.index = first["index"]
        self.client = Client(target, f"127.0.{1 + self.index // 200}.{10 + self.index % 200}")
        self.say({"ready": True})

    def say(self, answer: dict[str, Any]) -> None:
        """Answer the harness."""
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def next_command(self, pump: Client | None) -> dict[str, Any]:
        """Wait for an order; devices are served meanwhile."""
        while b"\n" not in self.buffer:
            if pump is not None:
                pump.pump(0)
            ready, _write, _other = select.select([self.pipe], [], [], None if pump is None else 0.2)
            if ready:
                chunk = os.read(self.pipe.fileno(), 65536)
                if not chunk:
                    return {"do": "end"}
                self.buffer += chunk
        line, _newline, self.buffer = self.buffer.partition(b"\n")
        command: dict[str, Any] = json.loads(line)
        return command

    def run(self) -> None:
        """Do what is asked until the pipe closes."""
        while (command := self.next_command(self.client))["do"] != "end":
            self.say(getattr(self, f"do_{command.pop('do')}")(**command))

    def do_prepare(self, count: int) -> dict[str, Any]:
        specs = devices_of(f"{PREFIX}{self.index}", self.made, count)
        self.prepared += self.client.prepare(specs)
        self.made += count
        return {"prepared": count}

    def do_connect(self, window: int, timeout: float) -> dict[str, Any]:
        devices, self.prepared = self.prepared, []
        seconds = self.client.connect(devices, window=window, timeout=timeout)
        return {"seconds": seconds}

    def do_storm(self, timeout: float) -> dict[str, Any]:
        started = time.monotonic()
        devices = self.client.drop()
        dropped = time.monotonic() - started
        self.client.retries = 0
        self.client.connect(devices, window=len(devices), timeout=timeout, retry=True)
        seconds = time.monotonic() - started
        return {"seconds": seconds, "drop_seconds": dropped, "retries": self.client.retries}

    def do_drop(self, keep: int) -> dict[str, Any]:
        self.client.ledger.verify()
        self.prepared += self.client.drop(keep)
        return {"dropped": len(self.prepared)}

    def do_check(self) -> dict[str, Any]:
        self.client.settle(0.05)
        self.client.ledger.verify()
        return {"open": len(self.client.devices)}


def main() -> None:
    """Hold devices until the pipe closes."""
    try:
        CrowdProcess().run()
    except BenchmarkError as error:
        sys.stdout.write(json.dumps({"failed": str(error)}) + "\n")


if __name__ == "__main__":
    main()
