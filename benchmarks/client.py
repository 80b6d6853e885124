"""Thousands of devices in one epoll loop: quick enough not to be in the way, strict enough to be believed."""

import gc
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from benchmarks.ledger import Ledger, is_cursor
from benchmarks.model import BenchmarkError, DeviceSpec, Speaks, Target, access_token, to_json
from benchmarks.wire import CLOSE, PING, PONG, TEXT, check_upgrade, client_frame, read_frames, upgrade_request

RECEIVE = 1 << 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
IP_BIND_ADDRESS_NO_PORT = 24
MOST_RETRIES = 10

Handler = Callable[[int], None]


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
        sock = self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((self.client.source, 0))
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

    def on_connected(self, _mask: int) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self.failed(f"connect: error {error}")
            return
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


class Client:
    """Devices of one server, all in this process and in one epoll set.

    Args:
        target: The server.
        source: The loopback address that the devices connect from; each has some 28,000 ports.
    """

    def __init__(self, target: Target, source: str) -> None:
        self.target = target
        self.source = source
        self.ledger = Ledger(target.routes, has_cursors=target.speaks is Speaks.CONTRACT)
        self.devices: list[Device] = []
        self.arrivals: list[tuple[int, int]] | None = None
        """With a list here, event number and `time.monotonic_ns()` of each delivery are noted."""
        self.retries = 0
        self.retry = False
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._waiting: deque[Device] = deque()
        self._connecting = 0

    # The loop

    def watch(self, sock: socket.socket, handler: Handler, mask: int) -> None:
        """Call `handler` when `sock` is ready."""
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock, mask)

    def change(self, sock: socket.socket, handler: Handler, mask: int) -> None:
        """Call another handler from now on."""
        self._handlers[sock.fileno()] = handler
        self._epoll.modify(sock, mask)

    def unwatch(self, sock: socket.socket) -> None:
        """Forget about `sock`."""
        self._handlers.pop(sock.fileno(), None)
        self._epoll.unregister(sock)

    def pump(self, timeout: float) -> None:
        """Wait up to `timeout` seconds and handle what came."""
        handlers = self._handlers
        for fd, mask in self._epoll.poll(timeout):
            handler = handlers.get(fd)
            if handler is not None:
                handler(mask)

    def pump_precisely(self, timeout: float) -> None:
        """The same, waking up within microseconds where `pump` wakes up within milliseconds."""
        select.select([self._epoll], [], [], timeout)
        self.pump(0)

    def run_until(self, done: Callable[[], bool], timeout: float, what: str) -> None:
        """Pump until `done()`.

        Raises:
            BenchmarkError: It isn't after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not done():
            self.pump(0.05)
            if time.monotonic() > deadline:
                raise BenchmarkError(
                    f"not done after {timeout:g} s: {what}; {self.ledger.outstanding} outstanding"
                )

    def settle(self, seconds: float) -> None:
        """Pump for so long, to see what comes that shouldn't."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.pump(left)

    # Devices

    def prepare(self, specs: Iterable[DeviceSpec]) -> list[Device]:
        """Make devices, tokens included, before anything is measured."""
        devices = [Device(self, spec) for spec in specs]
        gc.freeze()  # the client's own garbage collector shall not wander through them
        return devices

    def connect(
        self, devices: Iterable[Device], *, window: int, timeout: float, retry: bool = False
    ) -> float:
        """Connect and authenticate.

        Args:
            devices: As `prepare` made them.
            window: How many may be on their way at the same time.
            timeout: Seconds after which the run fails.
            retry: Whether a device that is refused or cut off tries again.

        Returns:
            Seconds until the last one was authenticated.
        """
        started = time.monotonic()
        self.retry = retry
        self._waiting.extend(devices)
        while self._waiting or self._connecting:
            while self._waiting and self._connecting < window:
                self._connecting += 1
                self._waiting.popleft().connect()
            self.pump(0.05)
            if time.monotonic() - started > timeout:
                left = len(self._waiting) + self._connecting
                raise BenchmarkError(f"{left} devices are not connected after {timeout:g} s")
        self.retry = False
        return time.monotonic() - started

    def device_opened(self, device: Device) -> None:
        """A device is authenticated."""
        self._connecting -= 1
        self.devices.append(device)
        if not device.is_away:
            self.ledger.add(device)
        device.is_away = False

    def device_failed(self, device: Device, why: str, *, was_open: bool) -> None:
        """A device lost its connection, or never had one."""
        if was_open or not self.retry or device.attempts > MOST_RETRIES:
            raise BenchmarkError(f"{device.spec.user}/{device.spec.group}: {why}")
        self.retries += 1
        device.connect()

    def drop(self, keep: int = 0) -> list[Device]:
        """All devices but the first `keep` vanish; the same may connect again, to a clean account."""
        dropped, self.devices = self.devices[keep:], self.devices[:keep]
        for device in dropped:
            device.drop()
            device.attempts = 0
            device.expected, device.received = [], []
        self.ledger.clear()
        for device in self.devices:
            self.ledger.add(device)
        return dropped

    def send_away(self) -> list[Device]:
        """All devices vanish, and want what comes meanwhile: their accounts stay open."""
        away, self.devices = self.devices, []
        for device in away:
            device.drop()
            device.attempts = 0
            device.is_away = True
        return away

    def close(self) -> None:
        """Give everything back."""
        self.drop()
        self._epoll.close()
        gc.unfreeze()
