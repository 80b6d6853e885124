"""A server while it runs: started, looked at from outside, stopped."""

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx

from benchmarks import tls
from benchmarks.client import Client
from benchmarks.model import BenchmarkError, Target
from benchmarks.processes import accepts, spawn, stop, tail
from benchmarks.procstat import cpu_nanoseconds, family, rss_bytes
from benchmarks.redis_server import RedisServer, running_redis
from benchmarks.servers import Server
from benchmarks.setup import Setup

START_SECONDS = 20.0
CALM_SECONDS = 15.0
CALM = 10_000_000
"""Nanoseconds of CPU time in a quarter of a second: less is calm."""


@attrs.frozen
class Running:
    """A server while it runs."""

    server: Server
    target: Target
    pids: list[int]
    setup: Setup
    redis: RedisServer | None = None

    def cpu(self) -> int:
        """Nanoseconds of CPU time so far, of the server and its children; Redis is not one of them."""
        return cpu_nanoseconds(self.pids)

    def rss(self) -> int:
        """Bytes of resident memory."""
        return rss_bytes(self.pids)

    def calm_down(self, client: Client, seconds: float) -> None:
        """Wait at least so long, and until the server has done what it had to do."""
        client.settle(seconds)
        deadline = time.monotonic() + CALM_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu()
            client.settle(0.25)
            if self.cpu() - before < CALM:
                return

    def metrics(self) -> dict[str, float]:
        """What `/metrics` says, by name and labels; empty where there is no such thing."""
        if not self.server.name.startswith("localful"):
            return {}
        response = httpx.get(f"http://127.0.0.1:{self.target.internal_port}/metrics", timeout=10)
        values = {}
        for line in response.raise_for_status().text.splitlines():
            name, _space, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                values[name] = float(value)
        return values


@contextmanager
def running(
    server: Server, setup: Setup | None = None, *, beside: Running | None = None
) -> Iterator[Running]:
    """Start a server, and a Redis for it if it wants one; wait until it listens, stop it at the end.

    Args:
        server: Which.
        setup: What it is told, if not the usual.
        beside: One that runs already, whose Redis it shares.

    Raises:
        BenchmarkError: It doesn't start.
    """
    with ExitStack() as stack:
        redis = None if beside is None else beside.redis
        if redis is None and server.redis is not None:
            redis = stack.enter_context(running_redis(server.redis))
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="localful-bench-"))
        log = stack.enter_context(tempfile.TemporaryFile())
        setup = setup or Setup()
        command, environment = server.start(Path(directory), setup)
        if redis is not None:
            environment = environment | {"LOCALFUL_WS_ENGINE": redis.url}
        if server.tls:
            environment = environment | tls.certificate(Path(directory))
        process = spawn(command, environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            ports = wait_for_ports(process, log.fileno(), environment)
            time.sleep(0.2)  # nginx listens before its worker works
            target = Target(
                port=ports["websocket"],
                internal_port=ports["internal"],
                speaks=server.speaks,
                routes=server.routes,
                path=server.path,
                tls=server.tls,
                publish_path=server.publish_path,
            )
            yield Running(server=server, target=target, pids=family(process.pid), setup=setup, redis=redis)
            if process.poll() is not None:
                raise BenchmarkError(
                    f"{server.name} ended with status {process.returncode}: {tail(log.fileno())}"
                )
        except BenchmarkError as error:
            error.add_note(f"{server.name} said: {tail(log.fileno())}")
            raise
        finally:
            stop(process)


def wait_for_ports(
    process: "subprocess.Popen[bytes]", log: int, environment: dict[str, str]
) -> dict[str, int]:
    """The ports as the server's log says, or as they were given to it."""
    given = {
        name: int(environment.get(f"BENCH_{name.upper()}_PORT", 0)) for name in ("websocket", "internal")
    }
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchmarkError(f"the server ended at once with status {process.returncode}: {tail(log)}")
        ports = given if all(given.values()) else ports_in(tail(log, 65536))
        if len(ports) == 2 and all(accepts(port) for port in ports.values()):
            return ports
        time.sleep(0.05)
    raise BenchmarkError(f"the server does not listen after {START_SECONDS:g} s: {tail(log)}")


def ports_in(log: str) -> dict[str, int]:
    """Read the lines that say where a server listens."""
    ports = {}
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("event") == "listening":
            ports[str(entry["listener"])] = int(entry["port"])
    return ports
