"""Thousands of devices in one epoll loop: quick enough not to be in the way, strict enough to be believed."""

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import cycle

from benchmarks.device import Device
from benchmarks.ledger import Ledger
from benchmarks.model import BenchmarkError, DeviceSpec, Speaks, Target

MOST_RETRIES = 10

Handler = Callable[[int], None]


class Client:
    """Devices of one server, all in this process and in one epoll set.

    Args:
        target: The server.
        sources: The loopback addresses that the devices connect from in turn. Each has some 28,000 ports, and
            a free one is found soon while less than half of them are taken.
    """

    def __init__(self, target: Target, *sources: str) -> None:
        self.target = target
        self.sources = cycle(sources)
        self.ledger = Ledger(target.routes, has_cursors=target.speaks is Speaks.CONTRACT)
        self.devices: list[Device] = []
        self.arrivals: list[tuple[int, int]] | None = None
        """With a list here, event number and `time.monotonic_ns()` of each delivery are noted."""
        self.retries = 0
        self.retry = False
        self.pings = 0
        """Pings that came, and were answered."""
        self.lost: list[str] | None = None
        """With a list here, a device that loses its connection is noted, and the run goes on without it."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._waiting: deque[Device] = deque()
        self._connecting = 0
        self._leaving = 0

    # The loop

    def fileno(self) -> int:
        """Readable when `pump` has something to do."""
        return self._epoll.fileno()

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

    def start(self, device: Device) -> None:
        """Connect and authenticate one more, without waiting for it."""
        self._connecting += 1
        device.connect()

    def device_opened(self, device: Device) -> None:
        """A device is authenticated."""
        self._connecting -= 1
        self.devices.append(device)
        if not device.is_away:
            self.ledger.add(device)
        device.is_away = False

    def device_failed(self, device: Device, why: str, *, was_open: bool) -> None:
        """A device lost its connection, or never had one."""
        why = f"{device.spec.user}/{device.spec.group}: {why}"
        if was_open and self.lost is not None:
            self.lost.append(why)
            self._forget(device)
            return
        if was_open or not self.retry or device.attempts > MOST_RETRIES:
            raise BenchmarkError(why)
        self.retries += 1
        device.connect()

    def leave(self, device: Device) -> None:
        """Say goodbye for a device, without waiting for the answer; it wants nothing any more."""
        self._forget(device)
        self._leaving += 1
        device.leave()

    def device_left(self) -> None:
        """A goodbye was answered, and the connection is gone."""
        self._leaving -= 1

    def vanish(self, device: Device) -> None:
        """A device vanishes without a goodbye; it wants nothing any more."""
        self._forget(device)
        device.drop()

    def is_settled(self) -> bool:
        """Whether no device is on its way in or out."""
        return not (self._connecting or self._leaving or self._waiting)

    def _forget(self, device: Device) -> None:
        self.devices.remove(device)
        self.ledger.remove(device)
        device.expected, device.received = [], []

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
