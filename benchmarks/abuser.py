"""Sockets that misbehave, in a process of their own: they send rubbish, or resume and never read."""

import select
import socket
import time
from collections.abc import Iterable
from enum import Enum
from typing import Any

import attrs

from benchmarks.device import IP_BIND_ADDRESS_NO_PORT, RESET_ON_CLOSE
from benchmarks.helper import QUICK_ANSWER, Helper, HelperProcess, serve
from benchmarks.model import BenchmarkError, DeviceSpec, Target, access_token, to_json, vaults_of
from benchmarks.rubbish import RUBBISH, Rubbish
from benchmarks.wire import CLOSE, TEXT, client_frame, read_frames, upgrade_request

SOURCE = "127.0.0.8"
RECEIVE = 1 << 16
SMALL_BUFFER = 4096
CONNECT_SECONDS = 30.0
GONE = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP


class Abuser(Helper):
    """The harness's handle on the process.

    Args:
        target: The server.
    """

    def __init__(self, target: Target) -> None:
        super().__init__("benchmarks.abuser", target, 0)

    def begin(self, kind: str, count: int, seconds: float) -> None:
        """Have `count` sockets send rubbish until the server has closed them, or `seconds` are over.

        `poll` gives the answer: in `sockets` what `Socket.outcome` says of each, and in `mib` what all sent
        together.
        """
        self.send({"do": "rubbish", "kind": kind, "count": count, "seconds": seconds})

    def resume_silently(self, since: dict[str, str], count: int) -> None:
        """Have `count` devices resume that never read again; `poll` tells when all have asked to.

        Args:
            since: The cursor from which a user's devices resume, by user.
            count: Devices, spread over the users.
        """
        self.send({"do": "resume", "since": since, "count": count})

    def silent_left(self) -> int:
        """How many of them the server has not closed yet."""
        left: int = self.ask({"do": "left"}, QUICK_ANSWER)["left"]
        return left


class Stage(Enum):
    """How far a socket has come."""

    CONNECTING = "connecting"
    UPGRADING = "upgrading"
    SENDING = "sending"
    SILENT = "silent"
    GONE = "gone"


@attrs.define(eq=False)
class Socket:
    """One of them.

    Attributes:
        request: The handshake, if one goes before what it sends.
        rubbish: What it sends.
        reads: Whether it looks at what the server says, once it sends.
        told: When it was told why it is closed, by `time.monotonic`.
        gone: When its connection was gone.
        how: The close code or HTTP status that it was told; else how the connection ended.
    """

    sock: socket.socket
    request: bytes
    rubbish: Rubbish
    reads: bool
    stage: Stage = Stage.CONNECTING
    began: float = 0.0
    told: float | None = None
    gone: float | None = None
    how: str = "open"
    sent: int = 0
    _unsent: bytes = b""
    _received: bytes = b""

    def on_ready(self, mask: int) -> None:
        """Go on."""
        if self.stage is Stage.CONNECTING:
            self._connected()
            return
        if mask & ~select.EPOLLOUT and not self._receive():
            return
        if mask & select.EPOLLOUT and self.stage is Stage.SENDING:
            self._send()

    def mask(self) -> int:
        """What it waits for."""
        if self.stage is Stage.SILENT:
            return select.EPOLLIN if self.reads else select.EPOLLRDHUP
        return select.EPOLLIN | (select.EPOLLOUT if self.stage is not Stage.UPGRADING else 0)

    def vanish(self) -> None:
        """Close without a goodbye."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()

    def _connected(self) -> None:
        if error := self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise BenchmarkError(f"connect: error {error}")
        self.began = time.monotonic()
        if self.request:
            self.sock.send(self.request)
            self.stage = Stage.UPGRADING
        else:
            self._begin()

    def _begin(self) -> None:
        self.began = time.monotonic()
        self.stage = Stage.SENDING
        self._unsent = self.rubbish.first
        self._send()

    def _send(self) -> None:
        if not self._unsent:
            self._unsent = self.rubbish.again
        try:
            sent = self.sock.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            return
        except OSError:
            self._receive()  # what the server said before it cut the connection
            return
        self.sent += sent
        self._unsent = self._unsent[sent:]
        if not self._unsent and not self.rubbish.again:
            self.stage = Stage.SILENT

    def _receive(self) -> bool:
        """Read what there is; False if the connection is gone."""
        try:
            chunk = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return True
        except OSError:
            chunk, ending = b"", "reset"
        else:
            ending = "ended"
        if not chunk:
            self.stage, self.gone = Stage.GONE, time.monotonic()
            self.how = ending if self.told is None else self.how
            return False
        self._received += chunk
        self._look()
        return True

    def _look(self) -> None:
        if self.stage is Stage.UPGRADING:
            head, separator, rest = self._received.partition(b"\r\n\r\n")
            if not separator:
                return
            if head.startswith(b"HTTP/1.1 101 "):
                self._received = rest
                self._begin()
        if self.stage is not Stage.UPGRADING and self.rubbish.upgrade:
            frames, self._received = read_frames(self._received)
            for opcode, payload in frames:
                if opcode == CLOSE and self.told is None:
                    self.told, self.how = time.monotonic(), str(int.from_bytes(payload[:2], "big") or 1005)
        elif self.told is None and self._received.startswith(b"HTTP/1."):
            self.told, self.how = time.monotonic(), f"HTTP {self._received[9:12].decode(errors='replace')}"

    def outcome(self) -> tuple[float | None, float | None, str]:
        """When it was told and gone, in seconds since it began, None if it wasn't; and how."""
        told, gone = (
            None if moment is None else round(moment - self.began, 3) for moment in (self.told, self.gone)
        )
        return told, gone, self.how


class AbuserProcess(HelperProcess):
    """What runs in the process."""

    def __init__(self) -> None:
        super().__init__()
        self.epoll = select.epoll()
        self.by_fd: dict[int, Socket] = {}

    def do_rubbish(self, kind: str, count: int, seconds: float) -> dict[str, Any]:
        rubbish = RUBBISH[kind](self.target.port)
        sockets = [self.connect(rubbish) for _index in range(count)]
        deadline = time.monotonic() + seconds
        while self.by_fd and time.monotonic() < deadline:
            self.pump()
        outcomes = [each.outcome() for each in sockets]
        self.close(sockets)
        return {"sockets": outcomes, "mib": sum(each.sent for each in sockets) / 2**20}

    def do_resume(self, since: dict[str, str], count: int) -> dict[str, Any]:
        users = sorted(since)
        hellos = []
        for index in range(count):
            user = users[index % len(users)]
            spec = DeviceSpec(user=user, group=f"silent-{index:06d}", vaults=vaults_of(user))
            message = {
                "event": "authenticate",
                "token": access_token(spec),
                "vaults": spec.vaults,
                "since": since[user],
            }
            hellos.append(client_frame(TEXT, to_json(message)))
        sockets = [
            self.connect(Rubbish(upgrade=True, first=hello), reads=False, buffer=SMALL_BUFFER)
            for hello in hellos
        ]
        deadline = time.monotonic() + CONNECT_SECONDS
        while any(each.stage not in {Stage.SILENT, Stage.GONE} for each in sockets):
            self.pump()
            if time.monotonic() > deadline:
                raise BenchmarkError("not all devices that never read could connect")
        return {"asked": count}

    def do_left(self) -> dict[str, Any]:
        gone = [fd for fd, mask in self.epoll.poll(0, len(self.by_fd) + 1) if mask & GONE]
        return {"left": len(self.by_fd) - len(gone)}

    def connect(self, rubbish: Rubbish, *, reads: bool = True, buffer: int = 0) -> Socket:
        """Start one."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((SOURCE, 0))
        port = self.target.port
        sock.connect_ex(("127.0.0.1", port))
        request = upgrade_request(port, self.target.path, subprotocol=True) if rubbish.upgrade else b""
        made = Socket(sock=sock, request=request, rubbish=rubbish, reads=reads)
        self.by_fd[sock.fileno()] = made
        self.epoll.register(sock, select.EPOLLOUT)
        return made

    def pump(self) -> None:
        """Let all go on that can."""
        for fd, mask in self.epoll.poll(0.05):
            each = self.by_fd[fd]
            stage = each.stage
            each.on_ready(mask)
            if each.stage is Stage.GONE:
                del self.by_fd[fd]
                self.epoll.unregister(fd)
                each.sock.close()
            elif each.stage is not stage:
                self.epoll.modify(fd, each.mask())

    def close(self, sockets: Iterable[Socket]) -> None:
        """Those that are still there vanish."""
        for each in sockets:
            fd = each.sock.fileno()
            if fd >= 0:
                del self.by_fd[fd]
                each.vanish()


if __name__ == "__main__":
    serve(AbuserProcess)
