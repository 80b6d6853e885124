"""The servers of a run: how each is found and started."""

import re
import shutil
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit

import attrs

from benchmarks import revisions
from benchmarks.model import ROOT, Routes, Speaks
from benchmarks.processes import free_port
from benchmarks.redis_server import APPEND_ONLY, IN_MEMORY, find_redis
from benchmarks.setup import Setup

PEERS = Path(__file__).resolve().parent / "peers"
LEAN = "localful-lean"
AT = "@"
"""Between the name of a server and the revision at which it is measured."""

Check = Callable[[], str | None]
Start = Callable[[Path, Setup], "tuple[list[str], dict[str, str]]"]


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
    redis: tuple[str, ...] | None = None
    """The options of the Redis that is started beside it, if it wants one."""
    tls: bool = False
    """Whether devices connect by TLS, with a certificate that is made for the run."""


def open_files() -> int:
    """How many files a process may open."""
    return getrlimit(RLIMIT_NOFILE)[1]


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


def start_nchan(directory: Path, setup: Setup) -> tuple[list[str], dict[str, str]]:
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
            ping_interval=f"{setup.ping_interval:g}",
        )
    )
    directory.chmod(0o755)
    environment = {"BENCH_WEBSOCKET_PORT": str(port), "BENCH_INTERNAL_PORT": str(internal_port)}
    return [nginx, "-p", str(directory), "-c", str(configuration)], environment


def start_python(module: str, **changes: str) -> Start:
    """Start a peer written in Python."""
    return lambda _directory, setup: ([sys.executable, "-m", module], setup.environment() | changes)


def start_node(_directory: Path, setup: Setup) -> tuple[list[str], dict[str, str]]:
    """Start the peer written for Node."""
    return ["node", str(PEERS / "node" / "server.js")], setup.environment()


def daemon_missing() -> str | None:
    """Whether the daemon starts at all."""
    command = [sys.executable, "-m", "localful_ws", "serve", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return f"{done.stderr.strip().splitlines()[-1]}; install with: pip install -e '.[bench]'"


def redis_missing() -> str | None:
    """Whether the daemon starts, and Redis and its client are there."""
    if find_redis() is None:
        return "Redis is not installed; install with: apt-get install redis-server"
    return daemon_missing() or python_has("hiredis")()


@attrs.frozen
class Daemon:
    """Starts what all this is about, as it is here or as it was at a revision."""

    transport: str
    workers: int = 1
    revision: str | None = None

    def __call__(self, _directory: Path, setup: Setup) -> tuple[list[str], dict[str, str]]:
        """The command and the extra environment."""
        # Isolated, or the checkout that this runs in would be imported instead of the revision.
        revision = self.revision
        python = [sys.executable] if revision is None else [str(revisions.interpreter(revision)), "-I"]
        program = ["-m", "localful_ws"] if setup.collector else ["-c", WITHOUT_COLLECTOR]
        command = [*python, *program, "serve", "--port", "0", "--internal-port", "0"]
        changes = {"LOCALFUL_WS_TRANSPORT": self.transport, "LOCALFUL_WS_WORKERS": str(self.workers)}
        return command, setup.environment() | changes


WITHOUT_COLLECTOR = "import gc; gc.disable(); from localful_ws.cli import main; main()"
EVERYTHING = frozenset({"connections", "fanout", "users", "latency", "storm", "ping"})
ENGINES = frozenset({"users", "latency", "load", "others", "resume"})
"""The scenarios in which engines and workers are compared."""
OURS = EVERYTHING | {"single", "load", "resume", "abuse", "soak", "leak", "crowd"}
"""The scenarios of one process of the daemon with the memory engine."""
ENGINE_SERVERS = (LEAN, "localful-redis", "localful-redis-file", "localful-redis-workers")

SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Server(
            name=LEAN,
            label="localful_ws, lean",
            scenarios=OURS,
            missing=daemon_missing,
            start=Daemon("lean"),
        ),
        Server(
            name="localful-trio-websocket",
            label="localful_ws, trio-websocket",
            scenarios=EVERYTHING | {"abuse"},
            missing=daemon_missing,
            start=Daemon("trio-websocket"),
        ),
        Server(
            name="localful-tls",
            label="localful_ws, lean, TLS",
            scenarios=frozenset({"connections"}),
            missing=lambda: daemon_missing() or python_has("trustme")(),
            start=Daemon("lean"),
            tls=True,
        ),
        Server(
            name="localful-redis",
            label="localful_ws, lean, Redis",
            scenarios=ENGINES | {"single", "connections"},
            missing=redis_missing,
            start=Daemon("lean"),
            redis=IN_MEMORY,
        ),
        Server(
            name="localful-redis-file",
            label="localful_ws, lean, Redis with a file",
            scenarios=frozenset({"latency"}),
            missing=redis_missing,
            start=Daemon("lean"),
            redis=APPEND_ONLY,
            note="`appendonly yes`, `appendfsync everysec`",
        ),
        Server(
            name="localful-redis-workers",
            label="localful_ws, lean, Redis, 2 workers",
            scenarios=frozenset({"users", "load"}),
            missing=redis_missing,
            start=Daemon("lean", workers=2),
            redis=IN_MEMORY,
        ),
        Server(
            name="node-ws",
            label="Node ws",
            scenarios=EVERYTHING | {"single"},
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
            scenarios=frozenset({"connections", "fanout", "ping"}),
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


def server_named(name: str) -> Server:
    """One of `SERVERS`, or `NAME@REV`: one that is the daemon, as it was at a revision of this repository.

    `localful@REV` is `localful-lean@REV`.

    Raises:
        KeyError: There is no such server. Whether there is such a revision is not looked at.
    """
    which, at, revision = name.partition(AT)
    server = SERVERS[LEAN if at and which == "localful" else which]
    if not at:
        return server
    if not revision or not isinstance(server.start, Daemon):
        raise KeyError(name)
    return attrs.evolve(
        server,
        name=name,
        label=f"{server.label}, at {revision}",
        missing=lambda: revisions.missing(revision),
        start=attrs.evolve(server.start, revision=revision),
    )
