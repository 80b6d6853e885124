"""Where a client is in its user's stream, and what it hands over (spec/protocol.md, "Resuming")."""

from attrs import define, field, frozen

from localful_ws.client.codec import ReceivedEvent
from localful_ws.protocol import Authenticated


@frozen
class SnapshotNeeded:
    """What happened before this point can't be told: fetch a snapshot from the HTTP API.

    It comes in its place among the events. Those handed over before it are older than the snapshot that is
    fetched now. Those handed over after it were accepted after ``cursor``, all of them and in order; the
    first of them may be in the snapshot already, so it must do no harm to apply an event twice.

    Attributes:
        cursor: The position from which events are told again; None if the server keeps no history.
        vaults: The subscription in force: the vaults whose content the snapshot has to hold.
    """

    cursor: str | None
    vaults: tuple[str, ...] = ()


@frozen
class Arrival:
    """Something for whoever iterates over the client.

    Attributes:
        content: What is handed over; None if nothing but the cursor moves.
        cursor: The cursor to resume from once it has been handed over.
    """

    content: ReceivedEvent | SnapshotNeeded | None
    cursor: str | None


@define
class Resumption:
    """What of its user's stream a client has received.

    Cursors are the server's own: they are kept and given back, never compared to see which is the later.

    Attributes:
        cursor: The position up to which everything has been received: where the next connection resumes.
            None if there is nowhere to resume from.
    """

    cursor: str | None
    # Whether no event has come since the last `authenticated`.
    _quiet: bool = field(default=True, init=False)

    def begin(self, answer: Authenticated) -> Arrival | None:
        """Take note of a new connection's ``authenticated``; ``cursor`` was its ``since``."""
        self._quiet = True
        if self.cursor is not None and answer.resumed:
            # What was missed follows, and the answer's cursor lies behind all of it: should the connection
            # break before, the next one resumes from what had come by then.
            return None
        self.cursor = answer.cursor
        return Arrival(SnapshotNeeded(answer.cursor, answer.vaults), answer.cursor)

    def renew(self, answer: Authenticated) -> Arrival | None:
        """Take note of a renewal's ``authenticated``: all up to its cursor was sent before it.

        While an event is on its way to the user's other devices, a renewal names the position before it. So
        the cursor counts only if no event has come since the answer before.
        """
        quiet, self._quiet = self._quiet, True
        if not quiet or answer.cursor is None or answer.cursor == self.cursor:
            return None
        self.cursor = answer.cursor
        return Arrival(None, self.cursor)

    def receive(self, event: ReceivedEvent) -> Arrival:
        """Take note of an event. One without a cursor has no place in the stream, and moves nothing."""
        if event.cursor is not None:
            self.cursor = event.cursor
            self._quiet = False
        return Arrival(event, self.cursor)
