"""Real Redis or Valkey servers for tests: processes of their own on free loopback ports."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn, Self

import pytest

TIMEOUT = 20.0
# Below the ports that the kernel gives to connections that go out: the port of a server that was killed stays
# free for its next life.
_PORTS = range(20000, 32000)
_BUS = "--cluster-port"
_TRIES = 10
_SLOTS = 16384
_REQUIRED = bool(os.environ.get("CI") or os.environ.get("LOCALFUL_WS_REQUIRE_REDIS"))
_ANSWERS = (b"+PONG", b"-NOAUTH", b"-DENIED")
# What it writes when it has its port and has read its file, as a server and as a sentinel. An answer alone
# might be another server's, started on the same port at the same moment.
_READY = ("Ready to accept connections", "Sentinel ID is")


def find_program() -> str:
    """Find the server's program: LOCALFUL_WS_REDIS_SERVER in the environment, or what is on the PATH.

    Without one the test that asks is skipped; if the environment says CI or LOCALFUL_WS_REQUIRE_REDIS, it
    fails.
    """
    program = os.environ.get("LOCALFUL_WS_REDIS_SERVER")
    program = program or shutil.which("redis-server") or shutil.which("valkey-server")
    return program or _missing("there is no redis-server on the PATH (.ci/services installs it)")


def _missing(sentence: str) -> NoReturn:
    if _REQUIRED:
        pytest.fail(sentence)
    pytest.skip(sentence)


def free_port() -> int:
    """Find a loopback port that nobody listens on now."""
    while True:
        port = random.choice(_PORTS)
        if _is_free(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class RedisServer:
    """A server in a directory of its own, for the length of a block.

    Everything blocks, for some 20 ms at the start and the end, and so works with and without Trio.

    Args:
        options: More of its command line, such as ``"--requirepass", "secret"``.
        config: What stands in its configuration file.
        appendonly: Whether it keeps what was written in a file, and so over `kill` and `start`.
        appendfsync: How often that file is synced: always, everysec or no.
        port: Its port; a free one if left out.

    Attributes:
        port: Its port on 127.0.0.1; the same in all its lives.
        directory: Its working directory; the same in all its lives, and removed at the end of the block.
    """

    def __init__(
        self,
        *options: str,
        config: str = "",
        appendonly: bool = False,
        appendfsync: str = "everysec",
        port: int | None = None,
    ) -> None:
        self._program = find_program()
        self._options = [
            *("--bind", "127.0.0.1", "--save", "", "--daemonize", "no"),
            *("--appendonly", "yes" if appendonly else "no", "--appendfsync", appendfsync),
            *options,
        ]
        self._any_port = port is None
        self.port = free_port() if port is None else port
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._config = self.directory / "redis.conf"
        self._config.write_text(config)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, as the setting ``engine`` names it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def bus_port(self) -> int | None:
        """On which it hears other servers of a Cluster; None outside one."""
        return int(self._options[self._options.index(_BUS) + 1]) if _BUS in self._options else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        process, tries = self._launch(), 1
        while not self._answers():
            if process.poll() is not None:
                if not (self._any_port and "in use" in self._log()) or tries == _TRIES:
                    raise AssertionError(f"redis-server ended:\n{self._log()}")
                # Somebody was faster. Nobody knows of these ports yet: others will do.
                self.port = free_port()
                if self.bus_port is not None:
                    self._options[self._options.index(_BUS) + 1] = str(free_port())
                process, tries = self._launch(), tries + 1
        self._any_port = False

    def kill(self) -> None:
        """End it at once (SIGKILL), if it runs: nothing is saved, no connection is closed properly."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order (SIGTERM), if it runs: what it keeps in a file is all there."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Keep it from doing anything (SIGSTOP) until `resume`; connections stay open, and silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        os.kill(self.pid, signal.SIGCONT)

    def cli(self, *arguments: str) -> str:
        """Run ``redis-cli`` against it; returns what it prints, without the line's end."""
        program = shutil.which("redis-cli") or shutil.which("valkey-cli")
        if program is None:
            _missing("there is no redis-cli on the PATH (.ci/services installs it)")
        command = [program, "-h", "127.0.0.1", "-p", str(self.port), *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=TIMEOUT)
        return done.stdout.decode().removesuffix("\n")

    def _launch(self) -> "subprocess.Popen[bytes]":
        with (self.directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(self._program, str(self._config), *self._options),
                    *("--port", str(self.port), "--dir", str(self.directory)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._process = process
        self._deadline = time.monotonic() + TIMEOUT
        return process

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def _answers(self) -> bool:
        """Whether it answers; waits a moment if not."""
        if any(sign in self._log() for sign in _READY):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as sock:
                    sock.sendall(b"PING\r\n")
                    if sock.recv(100).startswith(_ANSWERS):
                        return True
            except OSError:
                pass
        if time.monotonic() > self._deadline:
            raise AssertionError(f"redis-server does not answer:\n{self._log()}")
        time.sleep(0.005)
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        if number != signal.SIGKILL:
            # One that was paused hears nothing else.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)


@contextmanager
def redis_cluster(
    count: int = 3, replicas: int = 0, *options: str, appendonly: bool = False
) -> Iterator[list[RedisServer]]:
    """Run a cluster of so many masters; ready after some two seconds.

    Args:
        count: How many masters, among which the slots are divided in order.
        replicas: How many replicas each has; they come after the masters, those of the first one first.
        options: More of the servers' command line.
        appendonly: See `RedisServer`.
    """
    with ExitStack() as stack:
        total = count * (1 + replicas)
        servers = [
            stack.enter_context(
                RedisServer(
                    *("--cluster-enabled", "yes", _BUS, str(free_port())),
                    *("--cluster-node-timeout", "1000", "--cluster-config-file", "nodes.conf"),
                    *options,
                    appendonly=appendonly,
                )
            )
            for _ in range(total)
        ]
        for index, server in enumerate(servers):
            if index < count:
                first, end = _SLOTS * index // count, _SLOTS * (index + 1) // count
                server.cli("cluster", "addslotsrange", str(first), str(end - 1))
            server.cli("cluster", "set-config-epoch", str(index + 1))
            servers[0].cli("cluster", "meet", "127.0.0.1", str(server.port), str(server.bus_port))
        for server in servers:
            _wait_for(
                server,
                ("cluster", "info"),
                ("cluster_state:ok", f"cluster_known_nodes:{total}", f"cluster_slots_assigned:{_SLOTS}"),
            )
        for index, server in enumerate(servers[count:]):
            server.cli("cluster", "replicate", servers[index // replicas].cli("cluster", "myid"))
        for server in servers[count:]:
            _wait_for(server, ("info", "replication"), ("role:slave", "master_link_status:up"))
        for server in servers if replicas else ():
            # Who is not known to be a replica yet can't be asked to take over, nor elect another.
            _wait_for(server, ("cluster", "nodes"), lambda text: text.count("slave") == count * replicas)
        yield servers


@contextmanager
def redis_replicas(count: int, *options: str, appendonly: bool = False) -> Iterator[list[RedisServer]]:
    """Run a server and so many replicas of it, which are in step with it; it is the first."""
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", *options)
        servers = [
            stack.enter_context(RedisServer(*options, appendonly=appendonly)) for _ in range(1 + count)
        ]
        for server in servers[1:]:
            server.cli("replicaof", "127.0.0.1", str(servers[0].port))
        for server in servers[1:]:
            _wait_for(server, ("info", "replication"), ("role:slave", "master_link_status:up"))
        yield servers


@contextmanager
def redis_sentinel(primary: RedisServer, name: str, *config: str) -> Iterator[RedisServer]:
    """Run a sentinel that calls ``primary`` by this name; ``config`` is more of its configuration."""
    with redis_sentinels(primary, name, 1, *config) as (sentinel,):
        yield sentinel


@contextmanager
def redis_sentinels(
    primary: RedisServer, name: str, count: int, *config: str, replicas: int = 0
) -> Iterator[list[RedisServer]]:
    """Run so many sentinels that know each other, and the replicas of ``primary``.

    Args:
        primary: The master.
        name: What they call it.
        count: How many; more than half of them must agree that it is down.
        config: More of their configuration.
        replicas: How many replicas they have to find.
    """
    lines = [f"sentinel monitor {name} 127.0.0.1 {primary.port} {count // 2 + 1}", *config]
    signs = ("num-slaves", str(replicas)), ("num-other-sentinels", str(count - 1))
    with ExitStack() as stack:
        sentinels = [
            stack.enter_context(RedisServer("--sentinel", config="\n".join(lines))) for _ in range(count)
        ]
        for sentinel in sentinels if count > 1 or replicas else ():
            _wait_for(sentinel, ("sentinel", "master", name), ["\n".join(sign) for sign in signs])
        yield sentinels


def _wait_for(
    server: RedisServer, command: Sequence[str], signs: Sequence[str] | Callable[[str], bool]
) -> None:
    """Wait until the answer to a command has all of these in it, or is as it should be."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        answer = server.cli(*command).replace("\r", "")
        if signs(answer) if callable(signs) else all(sign in answer for sign in signs):
            return
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)
