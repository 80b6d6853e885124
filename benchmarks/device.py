"""One device in the client's epoll loop: as little as possible between the kernel and the count."""

import select
import socket
import ssl
import struct
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks.ledger import is_cursor
from benchmarks.model import BenchmarkError, DeviceSpec, Speaks, access_token, to_json
from benchmarks.tls import CONTEXT, TlsSocket
from benchmarks.wire import CLOSE, PING, PONG, TEXT, check_upgrade, client_frame, read_frames, upgrade_request

if TYPE_CHECKING:
    from benchmarks.client import Client

RECEIVE = 1 << 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24
NORMAL = (1000).to_bytes(2, "big")


class Device:
    """One device: connects, says who it is, and then counts what comes."""

    __slots__ = (
        "attempts",
        "client",
        "close_code",
        "cursor",
        "expected",
        "hello",
        "is_away",
        "is_open",
        "received",
        "request",
        "rest",
        "since",
        "sock",
        "spec",
    )

    def __init__(self, client: "Client", spec: DeviceSpec) -> None:
        self.client = client
        self.spec = spec
        self.expected: list[int] = []
        self.received: list[int] = []
        self.rest = b""
        self.attempts = 0
        self.is_open = False
        self.is_away = False
        self.close_code: int | None = None
        self.cursor = ""
        target = client.target
        self.request = upgrade_request(
            target.port, target.path.format(user=spec.user), subprotocol=target.speaks is Speaks.CONTRACT
        )
        self.resume_from(None)

    def resume_from(self, since: str | None) -> None:
        """Ask, when it connects next, for what came after this cursor."""
        self.since = since
        self.hello = b""
        speaks = self.client.target.speaks
        if speaks is not Speaks.OPEN_WEBSOCKET:
            spec = self.spec
            message = {"event": "authenticate", "token": access_token(spec), "vaults": spec.vaults}
            hello = to_json(message if since is None else message | {"since": since})
            self.hello = client_frame(TEXT, hello) if speaks is Speaks.CONTRACT else hello + b"\n"

    def connect(self) -> None:
        """Start; the client says when it is done."""
        self.attempts += 1
        self.rest = b""
        self.close_code = None
        sock = self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((next(self.client.sources), 0))
        sock.connect_ex(("127.0.0.1", self.client.target.port))
        self.client.watch(sock, self.on_connected, select.EPOLLOUT)

    def drop(self) -> None:
        """Vanish without a goodbye, and without leaving a port in TIME_WAIT."""
        if self.sock.fileno() < 0:
            return  # it had lost its connection before
        self.client.unwatch(self.sock)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()
        self.is_open = False

    def leave(self) -> None:
        """Say goodbye with 1000 and wait for the answer; what comes meanwhile is not looked at."""
        self.is_open = False
        self.client.change(self.sock, self.on_goodbye, select.EPOLLIN)
        self.send(client_frame(CLOSE, NORMAL))

    def on_goodbye(self, _mask: int) -> None:
        try:
            chunk = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        if chunk:
            frames, self.rest = read_frames(self.rest + chunk)
            for opcode, payload in frames:
                if opcode == CLOSE:
                    self.control(opcode, payload)
            return
        self.drop()
        if self.close_code != 1000:
            raise BenchmarkError(f"{self.spec.user}: its goodbye was answered with {self.close_code}")
        self.client.device_left()

    def on_connected(self, _mask: int) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.failed(f"connect: error {error}")
        elif self.client.target.tls:
            self.sock = CONTEXT.wrap_socket(self.sock, do_handshake_on_connect=False)
            self.client.change(self.sock, self.on_handshake, select.EPOLLIN)
            self.on_handshake(0)
        else:
            self.begin()

    def on_handshake(self, _mask: int) -> None:
        assert isinstance(self.sock, TlsSocket)
        try:
            self.sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except OSError as error:
            self.failed(f"TLS: {error}")
            return
        self.begin()

    def begin(self) -> None:
        speaks = self.client.target.speaks
        self.client.change(
            self.sock, self.on_line if speaks is Speaks.LINE else self.on_upgrade, select.EPOLLIN
        )
        self.send(self.hello if speaks is Speaks.LINE else self.request)

    def on_line(self, _mask: int) -> None:
        chunk = self.receive()
        if chunk is None:
            return
        self.rest += chunk
        if self.rest == self.hello:
            self.rest = b""
            self.opened()

    def on_upgrade(self, _mask: int) -> None:
        chunk = self.receive()
        if chunk is None:
            return
        head, separator, rest = (self.rest + chunk).partition(b"\r\n\r\n")
        if not separator:
            self.rest = head
            return
        check_upgrade(head)
        self.rest = rest
        if self.client.target.speaks is Speaks.OPEN_WEBSOCKET:
            self.opened()
            return
        self.client.change(self.sock, self.on_authenticated, select.EPOLLIN)
        self.send(self.hello)

    def on_authenticated(self, _mask: int) -> None:
        chunk = self.receive()
        if chunk is None:
            return
        frames, self.rest = read_frames(self.rest + chunk)
        for opcode, payload in frames:
            if opcode != TEXT:
                self.control(opcode, payload)
                continue
            if self.is_open:
                if self.since is None:
                    raise BenchmarkError(f"a message nobody waited for: {payload[:300]!r}")
                self.take(payload)
                continue
            answer = msgspec.json.decode(payload, type=dict)
            said = (
                answer.get("event"),
                answer.get("user"),
                answer.get("group"),
                sorted(answer.get("vaults", ())),
            )
            if said != ("authenticated", self.spec.user, self.spec.group, sorted(self.spec.vaults)):
                raise BenchmarkError(f"not the answer to authenticate: {payload[:300]!r}")
            if not is_cursor(answer.get("cursor")):
                raise BenchmarkError(f"authenticated without a cursor: {payload[:300]!r}")
            if answer.get("resumed") is not (None if self.since is None else True):
                raise BenchmarkError(f"not resumed, or without being asked: {payload[:300]!r}")
            self.cursor = answer["cursor"]
            self.opened()

    def opened(self) -> None:
        self.is_open = True
        self.client.change(self.sock, self.on_message, select.EPOLLIN)
        self.client.device_opened(self)

    def on_message(self, _mask: int) -> None:
        """What is measured: as little as possible between the kernel and the count."""
        try:
            chunk = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        client = self.client
        if not self.rest:
            numbers = client.ledger.chunks.get(chunk)
            if numbers is None and chunk:
                numbers = client.ledger.remember(chunk)
            if numbers is not None:
                self.received += numbers
                client.ledger.outstanding -= len(numbers)
                if client.arrivals is not None:
                    now = time.monotonic_ns()
                    client.arrivals.extend((number, now) for number in numbers)
                return
        self.on_anything(chunk)

    def on_anything(self, chunk: bytes) -> None:
        """The rare cases: the end, a frame in pieces, a control frame."""
        if not chunk:
            self.failed("the connection ended")
            return
        frames, self.rest = read_frames(self.rest + chunk)
        for opcode, payload in frames:
            if opcode != TEXT:
                self.control(opcode, payload)
                continue
            self.take(payload)

    def take(self, payload: bytes) -> None:
        """Count one event."""
        client = self.client
        number = client.ledger.identify(payload)
        self.received.append(number)
        client.ledger.outstanding -= 1
        if client.arrivals is not None:
            client.arrivals.append((number, time.monotonic_ns()))

    def control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.client.pings += 1
            self.send(client_frame(PONG, payload))
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big") or 1005
        elif opcode != PONG:
            raise BenchmarkError(f"a message that is not text (opcode {opcode})")

    def receive(self) -> bytes | None:
        """Bytes during the handshake; None if there are none, or no connection any more."""
        try:
            chunk = self.sock.recv(RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            chunk = b""
        if not chunk:
            self.failed("the connection ended in the handshake")
            return None
        return chunk

    def send(self, data: bytes) -> None:
        try:
            sent = self.sock.send(data)
        except OSError as error:
            self.failed(f"send: {error}")
            return
        if sent != len(data):
            raise BenchmarkError("the kernel took only a part of a small message")

    def failed(self, why: str) -> None:
        was_open = self.is_open
        self.drop()
        self.client.device_failed(self, f"{why} (close code {self.close_code})", was_open=was_open)
