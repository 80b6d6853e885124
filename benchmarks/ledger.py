"""Who must have got what: every event exactly once, in order, at the right devices and at no other."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol, TypeGuard

import msgspec

from benchmarks.model import BenchmarkError, DeviceSpec, Event, Routes
from benchmarks.wire import TEXT, read_frames

MOST_CACHED = 4096
FEW = 5
CURSOR = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)


class Recipient(Protocol):
    """What the ledger writes on: a device's account."""

    spec: DeviceSpec
    expected: list[int]
    received: list[int]


class Ledger:
    """Expected and received events of one client's devices.

    The same bytes come to many devices, so what a received chunk of whole frames contains is looked up first;
    a chunk not seen before is parsed and compared with what was published, content included.

    Args:
        routes: Which devices the server tells.
        has_cursors: Whether each event must come with a cursor: one for all devices of its user, and for
            no other event of that user.
    """

    def __init__(self, routes: Routes, *, has_cursors: bool) -> None:
        self.routes = routes
        self.has_cursors = has_cursors
        self.outstanding = 0
        """Deliveries that are still to come."""
        self.chunks: dict[bytes, tuple[int, ...]] = {}
        self._events: dict[int, Event] = {}
        self._cursors: dict[int, str] = {}
        self._places: dict[tuple[str, str], int] = {}
        self._by_user: dict[str, list[Recipient]] = {}
        self._everybody: list[Recipient] = []

    def add(self, recipient: Recipient) -> None:
        """This device is connected."""
        self._by_user.setdefault(recipient.spec.user, []).append(recipient)
        self._everybody.append(recipient)

    def remove(self, recipient: Recipient) -> None:
        """This device is gone: what it still had to get it need not get.

        Raises:
            BenchmarkError: It got what it had not to get.
        """
        if Counter(recipient.received) - Counter(recipient.expected):
            raise BenchmarkError(describe(recipient))
        self.outstanding -= len(recipient.expected) - len(recipient.received)
        devices = self._by_user[recipient.spec.user]
        devices.remove(recipient)
        if not devices:
            del self._by_user[recipient.spec.user]
        self._everybody.remove(recipient)

    def clear(self) -> None:
        """No device is connected."""
        self._forget_events()
        self._by_user.clear()
        self._everybody.clear()
        self.outstanding = 0

    def forget(self) -> None:
        """All that was published is verified, and need not be kept: a run may last for hours."""
        self._forget_events()
        for recipient in self._everybody:
            recipient.expected.clear()
            recipient.received.clear()

    def _forget_events(self) -> None:
        self._events.clear()
        self._cursors.clear()
        self._places.clear()
        self.chunks.clear()

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
        if self.has_cursors:
            self._note_cursor(event, message.pop("cursor", None))
        if message.keys() != wanted.keys():
            raise BenchmarkError(f"an event that says too much: {payload[:400]!r}")
        return number

    def cursor_of(self, number: int) -> str:
        """The cursor that an event came with, at whichever device."""
        return self._cursors[number]

    def _note_cursor(self, event: Event, cursor: object) -> None:
        if not is_cursor(cursor):
            raise BenchmarkError(f"event {event.number} came with {cursor!r} as its cursor")
        known = self._cursors.setdefault(event.number, cursor)
        if known != cursor:
            raise BenchmarkError(f"event {event.number} came with two cursors, {known} and {cursor}")
        other = self._places.setdefault((event.user, cursor), event.number)
        if other != event.number:
            raise BenchmarkError(f"events {other} and {event.number} came with the same cursor, {cursor}")

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


def is_cursor(value: object) -> TypeGuard[str]:
    """Whether this may be a cursor."""
    return isinstance(value, str) and CURSOR.fullmatch(value) is not None


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
