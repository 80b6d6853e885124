"""The servers of a run: how each is found, started, measured and stopped."""

import json
import os
import re
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

import attrs
import httpx

from benchmarks.client import Client
from benchmarks.model import JWT_SECRET, PUBLISHER_KEY, ROOT, BenchmarkError, Routes, Speaks, Target
from benchmarks.procstat import cpu_nanoseconds, family, rss_bytes

PEERS = Path(__file__).resolve().parent / "peers"
START_SECONDS = 20.0
CALM_SECONDS = 15.0
CALM = 10_000_000
"""Nanoseconds of CPU time in a quarter of a second: less is calm."""
STOP_SECONDS = 5.0
PING_INTERVAL = 600
"""Longer than any run: keepalive is on everywhere, and no ping falls into a measured window."""

Check = Callable[[], str | None]
Start = Callable[[Path], "tuple[list[str], dict[str, str]]"]


@attrs.frozen
class Server:
    """A server that can be measured."""

    name: str
    label: str
    scenarios: frozenset[str]
    missing: Check
    """None, or the line that says what is missing and how to install it."""
    start: Start
    """The command and the extra environment; it may write files into the given directory."""
    speaks: Speaks = Speaks.CONTRACT
    routes: Routes = Routes.CONTRACT
    path: str = "/v1/sync"
    publish_path: str = "/v1/events"
    note: str = ""


@attrs.frozen
class Running:
    """A server while it runs."""

    server: Server
    target: Target
    pids: list[int]

    def cpu(self) -> int:
        """Nanoseconds of CPU time so far."""
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
def running(server: Server) -> Iterator[Running]:
    """Start a server, wait until it listens, stop it at the end.

    Raises:
        BenchmarkError: It doesn't start.
    """
    with tempfile.TemporaryDirectory(prefix="localful-bench-") as directory, tempfile.TemporaryFile() as log:
        command, environment = server.start(Path(directory))
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            ports = wait_for_ports(process, log.fileno(), environment)
            time.sleep(0.2)  # nginx listens before its worker works
            target = Target(
                port=ports["websocket"],
                internal_port=ports["internal"],
                speaks=server.speaks,
                routes=server.routes,
                path=server.path,
                publish_path=server.publish_path,
            )
            yield Running(server=server, target=target, pids=family(process.pid))
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


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def tail(log: int, size: int = 2000) -> str:
    """The end of a log."""
    end = os.fstat(log).st_size
    return os.pread(log, size, max(0, end - size)).decode(errors="replace")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End it, politely at first."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def open_files() -> int:
    """How many files a process may open."""
    return getrlimit(RLIMIT_NOFILE)[1]


def settings() -> dict[str, str]:
    """What every server that keeps the contract is told."""
    return {
        "LOCALFUL_WS_JWT_SECRET": JWT_SECRET,
        "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY,
        "LOCALFUL_WS_MAX_CONNECTIONS_PER_USER": "100000",
        "LOCALFUL_WS_PING_INTERVAL": str(PING_INTERVAL),
        "LOCALFUL_WS_LOG_FORMAT": "json",
        "LOCALFUL_WS_DRAIN_SECONDS": "1",
    }


def python_has(*modules: str) -> Check:
    """Whether this interpreter can import these."""

    def missing() -> str | None:
        code = "import " + ", ".join(modules)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return None
        last = done.stderr.strip().splitlines()[-1:]
        return f"{''.join(last)}; install with: pip install -e '.[bench]'"

    return missing


def node_missing() -> str | None:
    """Whether Node and the peer's packages are there."""
    if shutil.which("node") is None:
        return "Node is not installed; install with: apt-get install nodejs npm"
    if not (PEERS / "node" / "node_modules" / "ws").is_dir():
        return "ws and jsonwebtoken are not installed; install with: npm ci --prefix benchmarks/peers/node"
    return None


def nchan_module() -> Path | None:
    """Where nginx has nchan."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        return None
    told = subprocess.run([nginx, "-V"], capture_output=True, text=True, check=False).stderr
    found = re.search(r"--modules-path=(\S+)", told)
    module = Path(found[1] if found else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    return module if module.exists() else None


def nchan_missing() -> str | None:
    """Whether nginx has nchan."""
    if nchan_module() is None:
        return "nginx with nchan is not installed; install with: apt-get install nginx libnginx-mod-nchan"
    return None


def free_port() -> int:
    """A port that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def start_nchan(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Write a configuration and start nginx with it."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or "nginx"
    port, internal_port = free_port(), free_port()
    template = string.Template((PEERS / "nginx-nchan.conf.template").read_text())
    configuration = directory / "nginx.conf"
    configuration.write_text(
        template.substitute(
            module=nchan_module(),
            open_files=open_files(),
            directory=directory,
            port=port,
            internal_port=internal_port,
            ping_interval=PING_INTERVAL,
        )
    )
    directory.chmod(0o755)
    environment = {"BENCH_WEBSOCKET_PORT": str(port), "BENCH_INTERNAL_PORT": str(internal_port)}
    return [nginx, "-p", str(directory), "-c", str(configuration)], environment


def start_python(module: str, **changes: str) -> Start:
    """Start a peer written in Python."""
    return lambda _directory: ([sys.executable, "-m", module], settings() | changes)


def start_node(_directory: Path) -> tuple[list[str], dict[str, str]]:
    """Start the peer written for Node."""
    return ["node", str(PEERS / "node" / "server.js")], settings()


def daemon_missing() -> str | None:
    """Whether the daemon starts at all."""
    command = [sys.executable, "-m", "localful_ws", "serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return f"{done.stderr.strip().splitlines()[-1]}; install with: pip install -e '.[bench]'"


def start_daemon(transport: str) -> Start:
    """Start what all this is about."""
    command = [sys.executable, "-m", "localful_ws", "serve", "--port", "0", "--internal-port", "0"]
    return lambda _directory: (command, settings() | {"LOCALFUL_WS_TRANSPORT": transport})


EVERYTHING = frozenset({"connections", "fanout", "users", "latency", "storm"})

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Server(
            name="localful-lean",
            label="localful_ws, lean",
            scenarios=EVERYTHING,
            missing=daemon_missing,
            start=start_daemon("lean"),
        ),
        Server(
            name="localful-trio-websocket",
            label="localful_ws, trio-websocket",
            scenarios=EVERYTHING,
            missing=daemon_missing,
            start=start_daemon("trio-websocket"),
        ),
        Server(
            name="node-ws",
            label="Node ws",
            scenarios=EVERYTHING,
            missing=node_missing,
            start=start_node,
        ),
        Server(
            name="websockets",
            label="websockets, uvloop",
            scenarios=EVERYTHING,
            missing=python_has("websockets", "uvloop", "aiohttp", "msgspec", "jwt"),
            start=start_python("benchmarks.peers.asyncio_websockets"),
        ),
        Server(
            name="websockets-no-ping",
            label="websockets, no keepalive",
            scenarios=frozenset({"connections"}),
            missing=python_has("websockets", "uvloop", "aiohttp", "msgspec", "jwt"),
            start=start_python("benchmarks.peers.asyncio_websockets", LOCALFUL_WS_PING_INTERVAL="0"),
            note="the same without the keepalive task that each connection has by default, so that a device "
            "that is gone may never be noticed",
        ),
        Server(
            name="nchan",
            label="nginx + nchan",
            scenarios=frozenset({"connections", "fanout"}),
            missing=nchan_missing,
            start=start_nchan,
            speaks=Speaks.OPEN_WEBSOCKET,
            routes=Routes.USER,
            path="/sub/{user}",
            publish_path="/pub/{user}",
            note="no token, no groups, no vaults: a channel per user, one POST an event",
        ),
        Server(
            name="floor-sends",
            label="floor: loop of sends",
            scenarios=frozenset({"fanout"}),
            missing=python_has("json"),
            start=start_python("benchmarks.peers.floor_sends"),
            speaks=Speaks.OPEN_WEBSOCKET,
            routes=Routes.EVERYBODY,
            note="no token, no routing, no buffering: a plain loop of non-blocking sends",
        ),
        Server(
            name="floor-trio",
            label="floor: bare Trio TCP",
            scenarios=frozenset({"connections"}),
            missing=python_has("trio"),
            start=start_python("benchmarks.peers.floor_trio"),
            speaks=Speaks.LINE,
            routes=Routes.EVERYBODY,
            note="no WebSocket and no token: a line is read and answered; tells no events",
        ),
    )
}
