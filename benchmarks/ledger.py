"""Who must have got what: every event exactly once, in order, at the right devices and at no other."""

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from benchmarks.model import BenchmarkError, DeviceSpec, Event, Routes
from benchmarks.wire import TEXT, read_frames

MOST_CACHED = 4096
FEW = 5
ALLOWED_KEYS = frozenset({"event", "vault", "data", "cursor"})


class Recipient(Protocol):
    """What the ledger writes on: a device's account."""

    spec: DeviceSpec
    expected: list[int]
    received: list[int]


class Ledger:
    """Expected and received events of one client's devices.

    The same bytes come to many devices, so what a received chunk of whole frames contains is looked up first;
    a chunk not seen before is parsed and compared with what was published, content included.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.outstanding = 0
        """Deliveries that are still to come."""
        self.chunks: dict[bytes, tuple[int, ...]] = {}
        self._events: dict[int, Event] = {}
        self._by_user: dict[str, list[Recipient]] = {}
        self._everybody: list[Recipient] = []

    def add(self, recipient: Recipient) -> None:
        """This device is connected."""
        self._by_user.setdefault(recipient.spec.user, []).append(recipient)
        self._everybody.append(recipient)

    def clear(self) -> None:
        """No device is connected."""
        self._by_user.clear()
        self._everybody.clear()
        self._events.clear()
        self.chunks.clear()
        self.outstanding = 0

    def publish(self, events: Iterable[Event]) -> int:
        """These are about to be published.

        Returns:
            To how many devices they must go, together.
        """
        deliveries = 0
        for event in events:
            self._events[event.number] = event
            if self.routes is Routes.EVERYBODY:
                candidates = self._everybody
            else:
                candidates = self._by_user.get(event.user, [])
            for recipient in candidates:
                if event.is_for(recipient.spec, self.routes):
                    recipient.expected.append(event.number)
                    deliveries += 1
        self.outstanding += deliveries
        return deliveries

    def identify(self, payload: bytes) -> int:
        """The number of the event that this message is.

        Raises:
            BenchmarkError: It is no event that was published, or not as it was published.
        """
        try:
            message: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
            number: int = message["data"]["number"]
            event = self._events[number]
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError):
            raise BenchmarkError(f"a message that was not published: {payload[:200]!r}") from None
        wanted = event.delivered()
        if {key: message.get(key) for key in wanted} != wanted:
            raise BenchmarkError(f"an event that was altered: {payload[:400]!r}")
        if not message.keys() <= ALLOWED_KEYS:
            raise BenchmarkError(f"an event that says too much: {payload[:400]!r}")
        return number

    def remember(self, chunk: bytes) -> tuple[int, ...] | None:
        """Parse a chunk that is made of whole event messages; None if it is made of anything else."""
        frames, rest = read_frames(chunk)
        if rest or any(opcode != TEXT for opcode, _payload in frames):
            return None
        numbers = tuple(self.identify(payload) for _opcode, payload in frames)
        if len(self.chunks) >= MOST_CACHED:
            self.chunks.clear()
        self.chunks[chunk] = numbers
        return numbers

    def verify(self, *, ordered: bool = True) -> int:
        """Compare what every device got with what it had to get.

        Args:
            ordered: Whether events were published one request after the other, so that their order is known.

        Returns:
            How many deliveries were checked.

        Raises:
            BenchmarkError: Something was lost, repeated, misdirected or out of order.
        """
        wrong = []
        checked = 0
        for recipient in self._everybody:
            expected, received = recipient.expected, recipient.received
            if not ordered:
                expected, received = sorted(expected), sorted(received)
            if expected != received:
                wrong.append(describe(recipient))
            checked += len(received)
        if wrong:
            raise BenchmarkError(
                f"{len(wrong)} devices got other events than they had to: " + "; ".join(wrong[:FEW])
            )
        return checked


def describe(recipient: Recipient) -> str:
    """What is wrong with what this device got."""
    expected, received = recipient.expected, recipient.received
    lost = sorted(set(expected) - set(received))
    foreign = sorted(set(received) - set(expected))
    repeated = (
        sorted({number for number in received if received.count(number) > 1}) if len(received) < 9999 else []
    )
    return (
        f"{recipient.spec.user}/{recipient.spec.group}: {len(expected)} expected, {len(received)} received, "
        f"lost {lost[:FEW]}, not for it {foreign[:FEW]}, repeated {repeated[:FEW]}"
        + ("" if lost or foreign or repeated else ", out of order")
    )
