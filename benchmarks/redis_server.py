"""A Redis of a run's own: started on a free port, measured apart from the daemon, stopped at the end."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.model import BenchmarkError
from benchmarks.processes import free_port, spawn, stop, tail
from benchmarks.procstat import cpu_nanoseconds

IN_MEMORY = ("--save", "", "--appendonly", "no")
"""Nothing is written to disk."""
APPEND_ONLY = ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec")
"""What is written to Redis is appended to a file, which reaches the disk once a second."""
START_SECONDS = 10.0
ATTEMPTS = 5


@attrs.frozen
class RedisServer:
    """A Redis while it runs."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """As the setting `engine` names it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cpu(self) -> int:
        """Nanoseconds of CPU time so far, of all its threads."""
        return cpu_nanoseconds([self.pid])


def find_redis() -> str | None:
    """The program, Redis' or Valkey's."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def running_redis(options: Sequence[str]) -> Iterator[RedisServer]:
    """Start one in an empty directory, wait until it is ready, stop it at the end.

    Raises:
        BenchmarkError: It doesn't start, or ended before the end.
    """
    with tempfile.TemporaryDirectory(prefix="localful-bench-redis-") as directory:
        log = Path(directory) / "log"
        process, port = start(options, directory, log)
        try:
            yield RedisServer(port=port, pid=process.pid)
            if process.poll() is not None:
                raise BenchmarkError(f"Redis ended with status {process.returncode}: {last_words(log)}")
        finally:
            stop(process)


def start(options: Sequence[str], directory: str, log: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """Start it on a port that is free; on another one if somebody was faster."""
    for _attempt in range(ATTEMPTS):
        port = free_port()
        with log.open("wb") as out:
            process = spawn(
                [find_redis() or "redis-server", *address(port, directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        if is_ready(process, log):
            return process, port
        stop(process)
    raise BenchmarkError(f"Redis does not start: {last_words(log)}")


def address(port: int, directory: str) -> list[str]:
    """The options that say where it listens and what it may touch."""
    return ["--bind", "127.0.0.1", "--port", str(port), "--dir", directory, "--daemonize", "no"]


def is_ready(process: "subprocess.Popen[bytes]", log: Path) -> bool:
    """Wait until it says that it has its port; False if it ended, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if re.search(r"ready to accept connections", log.read_text(errors="replace"), re.IGNORECASE):
            return True
        time.sleep(0.02)
    return False


def last_words(log: Path) -> str:
    """The end of its log."""
    with log.open("rb") as file:
        return tail(file.fileno(), min(2000, os.fstat(file.fileno()).st_size))
