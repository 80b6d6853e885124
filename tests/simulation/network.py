"""Connections in memory that delay, stall, fragment, reset, half-close, and lose without a word.

A node has its end as a non-blocking socket; see `simulation.kernel`.
"""

import math
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Protocol

import trio
from attrs import Factory, define, frozen

from .agenda import Agenda

_NEVER_FULL = 1 << 30
# Of a connection, so many reads are kept small. What is long would take for ever.
_FRAGMENTS = 60


@frozen
class NetworkPlan:
    """What connections are like.

    Attributes:
        delay: The least and the most seconds that bytes are under way.
        tick: Bytes arrive at multiples of so many seconds; 0 for any moment.
        window: Bytes that a device's kernel takes before the device has read them.
        fragment: The most bytes that are received at once, drawn for each read; 0 for all there are.
        short_writes: How often a socket takes less than it could.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    tick: float = 0.0
    window: int = 65536
    fragment: int = 0
    short_writes: float = 0.0


class Peer(Protocol):
    """A device's side of a connection."""

    def heard(self, data: bytes, written: float) -> None:
        """Take bytes, the last of which the node wrote at that moment."""
        ...

    def hung_up(self, *, reset: bool) -> None:
        """Take note that nothing more will come."""
        ...


@define(eq=False)
class Pipe:
    """One direction of a connection.

    Attributes:
        waiting: What has arrived, with the moment when it was written.
        size: Bytes that are under way or wait.
        over: Whether nothing follows what is under way.
        ended: Whether that has arrived.
    """

    window: int
    flying: deque[tuple[float, bytes, float]] = Factory(deque)
    waiting: deque[tuple[bytes, float]] = Factory(deque)
    size: int = 0
    over: bool = False
    ended: bool = False
    scheduled: bool = False


def _nobody() -> None:
    """The node has not got its end yet."""


class Link:
    """A connection between a device and a node.

    Args:
        agenda: When things arrive.
        random: Draws delays and sizes.
        plan: What the network is like.

    Attributes:
        peer: The device; it is told what arrives.
        changed: Called when the node's end may be ready for something.
        reading: Whether the device reads.
        reset: Whether the connection is reset.
        error: Whether the node's end has yet to be told so.
        reset_by_kernel: Whether that is because the node closed it with bytes unread.
        dark: Whether all that is sent is lost.
        opened: When the node wrote its first bytes.
        closed: When the node closed its end.
        heard_by_node: When the node last got bytes.
    """

    def __init__(self, agenda: Agenda, random: Random, plan: NetworkPlan) -> None:
        self.peer: Peer | None = None
        self.changed: Callable[[], None] = _nobody
        self.reading = True
        self.reset = False
        self.error = False
        self.reset_by_kernel = False
        self.dark = False
        self.opened: float | None = None
        self.closed: float | None = None
        self.heard_by_node: float | None = None
        self.up = Pipe(_NEVER_FULL)
        self.down = Pipe(plan.window)
        self._agenda = agenda
        self._random = random
        self._plan = plan
        self._told_end = False
        self._fragments = _FRAGMENTS if plan.fragment else 0

    # --- the device's end ---

    def send(self, data: bytes) -> None:
        """Send from the device. What can't arrive is lost."""
        if not (self.reset or self.up.over or self.dark):
            self._launch(self.up, data, self._arrive_up)

    def send_eof(self) -> None:
        """Send nothing more from the device, which may go on reading."""
        if not self.up.over and not self.reset:
            self.up.over = True
            self._schedule(self.up, self._arrive_up)

    def read(self, size: int) -> None:
        """Read so many bytes of what waits."""
        self._consume(size)

    def go_on_reading(self) -> None:
        """Read from now on what arrives."""
        self.reading = True
        self._consume(_NEVER_FULL)

    def break_off(self) -> None:
        """Reset the connection: both ends are told, and what was under way is lost."""
        if self.reset:
            return
        self.reset = self.error = True
        self.up.flying.clear()
        self.up.waiting.clear()
        self.changed()
        self._tell_end()

    def go_dark(self) -> None:
        """Lose all that is sent from now on, without a word to either end."""
        self.dark = True
        self.up.flying.clear()
        self.down.flying.clear()

    # --- the node's end ---

    def take_from_node(self, data: bytes) -> int:
        """Take what fits, as a kernel does."""
        now = trio.current_time()
        if self.opened is None:
            self.opened = now
        room = self.down.window - self.down.size
        size = min(room, len(data))
        if size <= 0:
            raise BlockingIOError
        if size > 1 and self._plan.short_writes and self._random.random() < self._plan.short_writes:
            size = self._random.randint(1, size)
        if self.dark:
            # The kernel keeps what is not acknowledged.
            self.down.size += size
        else:
            self._launch(self.down, data[:size] if size < len(data) else data, self._arrive_down)
        return size

    def has_room(self) -> bool:
        """Whether the node is told that there is room: only when a third of all is free, as Linux has it."""
        return self.down.size * 3 <= self.down.window * 2

    def give_to_node(self, max_bytes: int) -> bytes:
        """Give what has arrived, or some of it."""
        waiting = self.up.waiting
        limit = max_bytes
        if self._fragments:
            self._fragments -= 1
            limit = min(limit, self._random.randint(1, self._plan.fragment))
        data, written = waiting.popleft()
        if len(data) > limit:
            waiting.appendleft((data[limit:], written))
            data = data[:limit]
        self.up.size -= len(data)
        self.heard_by_node = trio.current_time()
        return data

    def end_from_node(self) -> None:
        """The node says that it will send nothing more."""
        if not self.down.over:
            self.down.over = True
            if not (self.dark or self.reset):
                self._schedule(self.down, self._arrive_down)

    def close_from_node(self, *, at_once: bool) -> None:
        """The node closes its end; what it sent is thrown away if it says so."""
        self.closed = trio.current_time()
        if (self.up.waiting or at_once) and not self.reset:
            # A kernel also resets a connection that is closed with bytes unread.
            self.reset = True
            self.reset_by_kernel = not at_once
            if not self.dark:
                self._agenda.after(self._delay(), self._tell_end)
        else:
            self.end_from_node()

    # --- between them ---

    def _delay(self) -> float:
        low, high = self._plan.delay
        return low if low == high else self._random.uniform(low, high)

    def _launch(self, pipe: Pipe, data: bytes, arrive: Callable[[], None]) -> None:
        now = trio.current_time()
        arrival = now + self._delay()
        if self._plan.tick:
            arrival = self._plan.tick * math.ceil(arrival / self._plan.tick - 1e-6)
        if pipe.flying and pipe.flying[-1][0] > arrival:
            arrival = pipe.flying[-1][0]
        pipe.flying.append((arrival, data, now))
        pipe.size += len(data)
        self._schedule(pipe, arrive)

    def _schedule(self, pipe: Pipe, arrive: Callable[[], None]) -> None:
        if not pipe.scheduled:
            pipe.scheduled = True
            self._agenda.at(pipe.flying[0][0] if pipe.flying else trio.current_time() + self._delay(), arrive)

    def _land(self, pipe: Pipe, arrive: Callable[[], None]) -> bool:
        pipe.scheduled = False
        now = trio.current_time() + 1e-9
        landed = False
        while pipe.flying and pipe.flying[0][0] <= now:
            _, data, written = pipe.flying.popleft()
            pipe.waiting.append((data, written))
            landed = True
        if pipe.flying:
            self._schedule(pipe, arrive)
        elif pipe.over and not self.dark:
            pipe.ended = True
            landed = True
        return landed

    def _arrive_up(self) -> None:
        if self._land(self.up, self._arrive_up) and not self.reset:
            self.changed()

    def _arrive_down(self) -> None:
        if not self.reset and self._land(self.down, self._arrive_down) and self.reading:
            self._consume(_NEVER_FULL)

    def _consume(self, size: int) -> None:
        pipe = self.down
        had_room = self.has_room()
        while pipe.waiting and size > 0 and not self.reset:
            data, written = pipe.waiting.popleft()
            if len(data) > size:
                pipe.waiting.appendleft((data[size:], written))
                data = data[:size]
            size -= len(data)
            pipe.size -= len(data)
            if self.peer is not None:
                self.peer.heard(data, written)
        if not had_room and self.has_room():
            self.changed()
        if pipe.ended and not pipe.waiting:
            self._tell_end()

    def _tell_end(self) -> None:
        if not self._told_end and self.peer is not None:
            self._told_end = True
            self.peer.hung_up(reset=self.reset)
