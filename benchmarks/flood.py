"""Publishes batches at a steady rate for users who have no device anywhere, in a process of its own."""

import http.client
import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from benchmarks.model import PUBLISHER_KEY, BenchmarkError, EventSource, to_json, vaults_of
from benchmarks.processes import spawn, stop

USERS = 1000
HEADERS = {"Authorization": f"Bearer {PUBLISHER_KEY}", "Content-Type": "application/json"}
TIMEOUT = 10.0


class Flood:
    """The harness's handle on the process."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def finish(self) -> float:
        """Have it stop.

        Returns:
            How many events a second it published.

        Raises:
            BenchmarkError: It failed, because an event was not accepted for instance.
        """
        try:
            out, _err = self._process.communicate(b"\n", TIMEOUT)
        except subprocess.TimeoutExpired:
            raise BenchmarkError("the flood does not end") from None
        said: dict[str, Any] = json.loads(out or b"{}")
        if "rate" not in said:
            raise BenchmarkError(f"the flood failed: {said.get('failed')}")
        rate: float = said["rate"]
        return rate


@contextmanager
def flooding(port: int, rate: int, batch: int) -> Iterator[Flood]:
    """Publish `rate` events a second in batches at the node with this internal port until the end."""
    command = [sys.executable, "-m", "benchmarks.flood", str(port), str(rate), str(batch)]
    process = spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield Flood(process)
    finally:
        stop(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def requests(batch: int) -> Iterator[tuple[int, bytes]]:
    """Batches for one user after the other, over and over, and how many events are in each."""
    source = EventSource()
    events = [source.make(user, vaults_of(user)[0]) for user in (f"other-{n:06d}" for n in range(USERS))]
    batches = [events[start : start + batch] for start in range(0, USERS, batch)]
    return cycle([(len(some), to_json({"events": [each.published() for each in some]})) for some in batches])


def publish(port: int, rate: int, batch: int) -> float:
    """Publish until there is something to read; returns how many events a second it came to."""
    published = 0
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    started = due = time.monotonic()
    for count, body in requests(batch):
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            break
        connection.request("POST", "/v1/events", body, HEADERS)
        answer = connection.getresponse().read()
        if json.loads(answer) != {"accepted": count}:
            raise BenchmarkError(f"the other node answered {answer[:300]!r}")
        published += count
        due += count / rate
    return published / (time.monotonic() - started)


def main() -> None:
    """Publish until told to stop, and say how much it was."""
    try:
        said: dict[str, Any] = {"rate": publish(*map(int, sys.argv[1:]))}
    except (BenchmarkError, OSError, ValueError, http.client.HTTPException) as error:
        said = {"failed": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
