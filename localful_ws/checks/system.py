"""What this machine gives the daemon: ports and open files."""

import errno
import pwd
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from localful_ws.checks.finding import Finding, failed, ok, warning
from localful_ws.server.http.access import ANY_HOST
from localful_ws.server.listeners import ListenError, reserve
from localful_ws.settings import Settings, connections_allowed, devices_allowed

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
# Our program, or our modules: python -P -m localful_ws.…
_OURS: Final = re.compile(rb"(?:.*/)?localful-ws|localful_ws(?:\.[a-z_.]+)?")
_FIRST_WORDS: Final = 4
# Fewer are not enough for much, and the usual default limit of 1024 leaves fewer.
_FEW_CONNECTIONS: Final = 1000


def check_ports(settings: Settings) -> Iterator[Finding]:
    """Look whether the ports can be listened on, or by whom they are taken."""
    for host, port, setting in (
        (settings.host, settings.port, "port"),
        (settings.internal_host, settings.internal_port, "internal-port"),
    ):
        yield _check_port(host, port, setting)
    if not _is_private(settings.internal_host):
        yield warning(
            "internal-host",
            f"The internal port listens on {settings.internal_host}: whoever reaches it sees metrics.",
            "Keep it on loopback or in a private network, behind a firewall, and let no proxy lead to it.",
        )
    if ANY_HOST in settings.allow_host:
        yield warning(
            "allow-host",
            "The internal port may be asked by any name: a web page in a browser that reaches it can read "
            "metrics (DNS rebinding).",
            "List the names by which it is asked.",
        )


def check_open_files(settings: Settings, *, given: bool) -> Iterator[Finding]:
    """Look whether the limits of this process, which a daemon started alike would have, are enough.

    Args:
        settings: The daemon's settings.
        given: Whether ``max-connections`` was set.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = devices_allowed(connections_allowed(hard), settings.max_internal_connections)
    limit = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    raise_it = (
        "Raise it: LimitNOFILE= in a systemd unit, --ulimit nofile= with Docker, ulimit -Hn in a shell."
    )
    if given and settings.max_connections > allowed:
        yield failed(
            "open files",
            f"max-connections is {settings.max_connections}, and the hard limit of {limit} allows {allowed}.",
            raise_it,
        )
    elif not given and allowed < _FEW_CONNECTIONS:
        judge = warning if allowed else failed
        yield judge("open files", f"The hard limit of {limit} allows {allowed} devices a process.", raise_it)
    else:
        connections = settings.max_connections if given else allowed
        yield ok("open files", f"The hard limit of {limit} is enough for {connections} devices a process.")
    with suppress(OSError, ValueError):
        most = int((_PROC / "sys/net/core/somaxconn").read_text())
        if most < settings.backlog:
            yield warning(
                "backlog",
                f"backlog is {settings.backlog}, and net.core.somaxconn cuts it to {most}.",
                f"sysctl net.core.somaxconn={settings.backlog}, if many devices reconnect at once.",
            )


def _check_port(host: str, port: int, setting: str) -> Finding:
    place = f"{host}:{port}"
    try:
        reserve(host, port, setting=setting).close()
    except ListenError as error:
        cause = error.__context__
        sentence, _, cure = str(error).partition(". ")
        if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
            return failed(setting, f"{sentence}.", cure)
        holder = find_holder(port)
        if holder is None:
            return failed(setting, f"{place} is taken; the system does not say by whom.", cure)
        if holder.is_daemon:
            return ok(setting, f"{place} is held by a localful-ws that runs: {holder}.")
        return failed(setting, f"{place} is held by {holder}.", cure)
    if port == 0:
        return ok(setting, f"Any free port of {host} will be taken.")
    return ok(setting, f"{place} is free.")


@frozen
class Holder:
    """Who listens on a port, as far as the system says.

    Attributes:
        user: Whose process it is.
        pid: The process, if we may know.
        program: What it runs, if we may know.
        is_daemon: Whether that is this program.
    """

    user: str
    pid: int | None = None
    program: str = ""
    is_daemon: bool = False

    def __str__(self) -> str:
        """Who it is, to go into a sentence."""
        who = f"user {self.user}"
        return f"a process of {who}" if self.pid is None else f"{self.program}, process {self.pid} of {who}"


def find_holder(port: int) -> Holder | None:
    """Find out who listens on a TCP port of this machine; None if the system does not say."""
    owners: dict[str, int] = {}
    for table in ("net/tcp", "net/tcp6"):
        with suppress(OSError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    owners[columns[9]] = int(columns[7])
    if not owners:
        return None
    user = _name_of(next(iter(owners.values())))
    sockets = {f"socket:[{inode}]" for inode in owners}
    for process in _PROC.glob("[0-9]*"):
        # Those of others we may not look into; some end meanwhile.
        with suppress(OSError):
            if any(str(file.readlink()) in sockets for file in (process / "fd").iterdir()):
                # Not the command line, which may hold secrets.
                program = (process / "comm").read_text().strip()
                words = (process / "cmdline").read_bytes().split(b"\0")[:_FIRST_WORDS]
                ours = any(map(_OURS.fullmatch, words))
                return Holder(user, int(process.name), program, ours)
    return Holder(user)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_private(host: str) -> bool:
    return host not in ("0.0.0.0", "::", "*", "")
