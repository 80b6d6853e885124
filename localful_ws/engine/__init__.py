"""Where events travel between publisher and node, and where they are kept for devices that were away."""

from collections.abc import Callable, Sequence
from typing import Protocol

import trio
from attrs import field, frozen

from localful_ws.metrics import Figure
from localful_ws.protocol import Event, data_in, encode_event, text_frame
from localful_ws.publishing import Disconnect
from localful_ws.settings import Settings
from localful_ws.settings.together import ENVELOPE


class EngineUnavailableError(Exception):
    """The engine can't do it just now; nothing was accepted.

    Attributes:
        message: A sentence for whoever asked.
        retry_after: Seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


@frozen
class Entry:
    """An event at its place in its user's stream; see `entry_of`.

    Attributes:
        event: What decides who gets it. If it was kept, its ``id`` may be None and its ``data`` empty; the
            data is in the frame.
        cursor: Its position: opaque, 1 to 128 characters out of ``A-Z a-z 0-9 . _ -``.
        frame: What every device gets: a whole WebSocket text frame. A memoryview is a slice of what an engine
            keeps, and keeps all of that in memory.
    """

    event: Event
    cursor: str
    frame: bytes | memoryview = field(repr=False)

    @property
    def data(self) -> bytes:
        """The event's data, out of the frame."""
        return data_in(bytes(self.frame), self.cursor)


def entry_of(event: Event, cursor: str) -> Entry:
    """Give an event its place: it is encoded and framed here, once for all devices.

    Raises:
        UnicodeEncodeError: If the vault's id has half a surrogate pair.
    """
    return Entry(event, cursor, text_frame(encode_event(event, cursor)))


@frozen
class Receipt:
    """What became of a batch that was accepted.

    Attributes:
        accepted: Events that are new, and are delivered.
        duplicates: Events whose ``id`` was accepted before for the same user, and are not delivered again.
    """

    accepted: int
    duplicates: int = 0


@frozen
class Position:
    """Where in its user's stream a device begins.

    Attributes:
        cursor: The present end of the stream: what comes after it is routed from now on.
        missed: What came after the cursor that the device resumes from, up to the present; None if it named
            none, or if it can't be told what it missed.
    """

    cursor: str
    missed: Sequence[Entry] | None = None


@frozen
class ReplayLimits:
    """How much a device may be given at once that it missed; beyond, it can't resume.

    Attributes:
        max_events: Events.
        max_bytes: Their frames, in bytes.
    """

    max_events: int = 1024
    max_bytes: int = 4 * 1024 * 1024


def replay_limits(settings: Settings) -> ReplayLimits:
    """Make the limits that the settings ask for: what a device's send buffer holds."""
    # Something must be left for the answer that goes before it, which names the subscription.
    return ReplayLimits(
        max_events=settings.send_buffer_events - 1,
        max_bytes=max(0, settings.send_buffer_bytes - settings.max_message_bytes - ENVELOPE),
    )


@frozen
class Presence:
    """One device that is connected and authenticated.

    Attributes:
        group: The token group of its session.
        connected_at: Since when, in Unix seconds.
        subscribed: How many vaults it is subscribed to.
        vaults: The first of them.
    """

    group: str
    connected_at: float
    subscribed: int
    vaults: tuple[str, ...]


class Subscriber(Protocol):
    """What an engine hands its events to: the node."""

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        """Deliver ``entries``, accepted at that moment (`trio.current_time`), in order.

        Whoever joins while this runs is told nothing of ``entries``.
        """
        ...

    def refuse(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse the tokens that they are about, if there is room for that, and close nobody.

        Raises:
            localful_ws.revocations.TooManyRevocationsError: If not all can be remembered; nothing was done.
        """
        ...

    def remember(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse the tokens that they are about, and close nobody.

        However many they are: for engines that have made room for them elsewhere.
        """
        ...

    def close(self, disconnect: Disconnect) -> int:
        """Close the connections that came with tokens that it is about; says how many.

        Those tokens are refused already: `refuse` or `remember` goes before. Doing it again changes nothing.
        """
        ...

    def recall(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse from now on whom disconnects of the past name, as `remember` does, and close them."""
        ...

    def devices_of(self, user: str, vaults: int) -> list[Presence]:
        """A user's devices here, with at most so many vaults of each."""
        ...

    def lose(self, user: str) -> int:
        """Close a user's devices: some of their events were missed and can't be had any more; how many."""
        ...


class Engine(Protocol):
    """Takes events and disconnects from publishers and brings them to the nodes."""

    def unavailable(self) -> str | None:
        """A sentence that says why nothing can be accepted now; None if all is well."""
        ...

    def figures(self) -> Sequence[Figure]:
        """What an operator may want to know of this engine; the same names each time."""
        ...

    async def publish(self, events: Sequence[Event]) -> Receipt:
        """Accept a batch whole, or not at all. Where it deletes users, their tokens are refused from now on.

        Raises:
            EngineUnavailableError: If it can't be accepted now.
            localful_ws.revocations.TooManyRevocationsError: If no more revocations can be remembered.
        """
        ...

    async def disconnect(self, disconnect: Disconnect) -> int:
        """Refuse the tokens that it is about, and close the connections that came with them.

        Returns:
            How many connections were closed.

        Raises:
            EngineUnavailableError: If it can't be done now.
            localful_ws.revocations.TooManyRevocationsError: If no more can be remembered.
        """
        ...

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """A user's devices on all nodes, in no order.

        Args:
            user: The user.
            vaults: At most so many vaults of each are named.

        Raises:
            EngineUnavailableError: If it can't be told now, not even by a single node.
        """
        ...

    async def join(self, user: str, since: str | None, begin: Callable[[Position], None]) -> None:
        """Follow a user's stream for one more device, until `leave`. Takes bounded time.

        Args:
            user: Whose stream.
            since: The cursor after which the device wants to go on, if it resumes.
            begin: Called once, with the position, at a moment between two calls of `Subscriber.route`, or
                while one runs that does not concern the device any more: all up to that position has been
                routed, all after it will be. What it raises is raised here.

        Raises:
            EngineUnavailableError: If the stream can't be followed now.
        """
        ...

    def leave(self, user: str) -> None:
        """Follow a user's stream for one device fewer, of those for which ``begin`` has returned."""
        ...

    async def pause(self, user: str, act: Callable[[str], object]) -> None:
        """Do something in a pause between two calls of `Subscriber.route`, in bounded time.

        Args:
            user: Whose stream, one that is followed.
            act: Called once, with the end of the stream as far as it has been routed: all up to there has
                been told to whoever follows it, and nothing after it. What it raises is raised here.

        Raises:
            EngineUnavailableError: If it can't be done; then it isn't.
        """
        ...

    async def run(
        self, subscriber: Subscriber, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Hand over what arrives until the engine is closed."""
        ...

    async def aclose(self) -> None:
        """Accept nothing more. What was accepted is handed over before `run` returns."""
        ...
