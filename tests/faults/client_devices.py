"""A device on the client of this project, with the same log."""

import socket
from contextlib import suppress

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute
from attrs import define

from localful_ws.client import ClientError, ReceivedEvent, SnapshotNeeded, Timeouts, open_client

from .devices import Authenticated, Device, Received, Refused, reset_on_close

_TIMEOUTS = Timeouts(connect=4.0, answer=4.0, close=1.0)
# Below the range it is made for: all pauses are a hundredth of the longest they could be.
_IMPATIENT = -0.98


@define(eq=False)
class ClientDevice(Device):
    """A device that leaves everything to `localful_ws.client`; see `Device`.

    Where the client resumes it says nothing, and nothing is written into the log. A device that is to be away
    closes the client without a word, and goes on later with another from the cursor it had by then.
    """

    _cursor: str | None = None
    _socket: socket.socket | None = None

    async def run(self) -> None:
        """Be a client, and another one, until cancelled."""
        while True:
            await trio.sleep_until(self._away_until)
            with trio.CancelScope() as self._scope:
                await self._be_client()

    def reset(self, away: float = 0.0) -> None:
        """Break the connection; if it is to be for a while, reset it and end the client."""
        if away:
            if self._socket is not None:
                reset_on_close(self._socket)
            super().reset(away)
        elif self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    async def _be_client(self) -> None:
        url = "ws://a.node.of.the.tests/v1/sync"
        client = open_client(
            url,
            lambda: self.get_token(self.user, self.group),
            vaults=self.vaults,
            since=self._cursor,
            timeouts=_TIMEOUTS,
            open_stream=self._open_stream,
            on_status=lambda status: self.remarks.append((trio.current_time(), str(status))),
            draw=lambda: _IMPATIENT,
        )
        try:
            async with client as arrivals:
                async for arrival in arrivals:
                    self._arrive(arrival)
                    self._cursor = arrivals.cursor
        except ClientError as error:
            self.note(Refused(f"{type(error).__name__}: {error}"))
            await trio.sleep_forever()

    def _arrive(self, arrival: ReceivedEvent | SnapshotNeeded) -> None:
        assert arrival.cursor is not None
        if isinstance(arrival, ReceivedEvent):
            self.note(Received(arrival.event, arrival.vault, arrival.data, arrival.cursor))
        elif self._cursor is None:
            self.note(Authenticated("", arrival.cursor, None, None))
        else:
            self.note(Authenticated("", arrival.cursor, self._cursor, resumed=False))

    async def _open_stream(self) -> ByteStream:
        stream = await anyio.connect_tcp(*self.random.choice(list(self.nodes.values())))
        self._socket = stream.extra(SocketAttribute.raw_socket)
        return stream
