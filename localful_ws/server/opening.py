"""How a connection becomes a device: read the request, judge it, open or refuse; then authenticate.

All of it is one task in the nursery of the connections. Then the device is parked and the task is over; where
it can't be parked, the task goes on as its pump, and keeps nothing of the opening.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import trio
from trio_websocket import ConnectionClosed

from localful_ws.protocol import CloseCode, HandshakeError, Session, State
from localful_ws.server.device import Device
from localful_ws.server.pump import BROKEN, RECEIVE_BYTES, StreamPump, receive
from localful_ws.server.send_buffer import piece_of
from localful_ws.server.tls import TlsStream
from localful_ws.server.trio_websocket_pump import TrioWebSocketPump
from localful_ws.server.upgrade import (
    UpgradeRequest,
    accept_response,
    head_length,
    parse_upgrade,
    refusal,
    refusal_response,
)
from localful_ws.tcp import TcpStream, shut_down_sending

if TYPE_CHECKING:
    from localful_ws.server.node import Node

_log = structlog.get_logger(__name__)
_DISCARD_BYTES = 65536


class Opening:
    """One connection, from its first byte until its device is authenticated, or closed.

    Args:
        node: The node that it comes to.
        stream: The connection.

    Attributes:
        device: The device, from the moment at which the handshake is accepted.
    """

    __slots__ = ("_node", "_pump", "_scope", "_stream", "device")

    def __init__(self, node: "Node", stream: trio.abc.Stream) -> None:
        self.device: Device | None = None
        self._node = node
        self._stream = stream
        # Bounds each thing that is waited for in its turn: one scope, since scopes are dear.
        self._scope = trio.CancelScope(deadline=trio.current_time() + node.handshake_timeout)
        # Who pushes the device; None if it is to be parked.
        self._pump: StreamPump | None = None

    def give_way(self) -> None:
        """End this connection, so that another one can be let in."""
        self._scope.cancel()
        if self.device is not None:
            self.device.abort()

    def hurry(self, deadline: float) -> None:
        """Wait no longer for the request than until ``deadline``, on Trio's clock."""
        self._scope.deadline = min(self._scope.deadline, deadline)

    async def run(self) -> StreamPump | None:
        """Serve the connection until its device is let in or it is over. Nothing it does is raised here.

        Returns:
            The device's pump, which is to be run; None if there is nothing more to do.
        """
        node, handed_on = self._node, False
        node.begin_opening(self)
        try:
            session, received = None, b""
            with self._scope:
                session, received = await self._open()
                if self.device is not None and session is None:
                    await self._wait_for_token(self.device, received)
            device = self.device
            if device is not None:
                await self._authenticate(device, session, received)
                node.end_opening(self)
                if self._pump is None and node.parking is not None:
                    # Where all is being cancelled there is no parking any more.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    node.parking.park(device)
                handed_on = True
                return self._pump
        except Exception:
            if self.device is None:
                _log.exception("a connection failed")
            else:
                self.device.fail()
                handed_on = True  # to the time that a close has
        finally:
            node.end_opening(self)
            if self.device is None:
                await trio.aclose_forcefully(self._stream)
            elif not handed_on:
                self.device.abort()
        return None

    async def _open(self) -> tuple[Session | None, bytes]:
        """Read the request, judge it, open or refuse.

        Returns:
            The session of a token that came with the request, and what came after the request already.
        """
        if isinstance(self._stream, TlsStream):
            try:
                await self._stream.do_handshake()
            except trio.BrokenResourceError:
                return None, b""
        if self._node.transport == "trio-websocket":
            return await self._upgrade_with_library(), b""
        return await self._upgrade()

    async def _upgrade(self) -> tuple[Session | None, bytes]:
        received = bytearray()
        if isinstance(self._stream, TcpStream):
            received += self._stream.receive_now()
        try:
            while (length := head_length(received)) is None:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    return None, b""
                received += data
            await self._node.turn.wait()
            # It may have given way meanwhile.
            await trio.lowlevel.checkpoint_if_cancelled()
            request = parse_upgrade(bytes(received[:length]))
            accepted, session = await self._node.judge(self, request)
        except HandshakeError as error:
            await self._refuse(error)
            return None, b""
        except BROKEN:
            return None, b""
        # Without a checkpoint since the verdict: nobody took the place meanwhile.
        parking = self._node.parking
        if isinstance(self._stream, TcpStream) and parking is not None:
            self.device = Device(self._node, self._stream.socket, parking)
        else:
            pump = self._pump = StreamPump(self._stream, self._node.start_soon, self._node.close_timeout)
            self.device = pump.device = Device(self._node, pump.line, pump)
        self._node.opened(self, self.device)
        self.device.send(piece_of(accept_response(request, accepted.subprotocol)))
        return session, bytes(received[length:])

    async def _refuse(self, error: HandshakeError) -> None:
        self._node.metrics.handshake_refused(error.status)
        with suppress(*BROKEN):
            await self._stream.send_all(refusal_response(error))
            if isinstance(self._stream, TcpStream):
                shut_down_sending(self._stream.socket)
            # Were the socket closed with bytes unread, the kernel would reset the connection, and the peer
            # might never see the answer.
            with trio.move_on_after(self._node.close_timeout):
                while await self._stream.receive_some(_DISCARD_BYTES):
                    pass

    async def _upgrade_with_library(self) -> Session | None:
        pump = TrioWebSocketPump(
            self._stream, self._node.start_soon, self._node.close_timeout, self._node.max_message_bytes
        )
        with suppress(ConnectionClosed, *BROKEN):
            request = await pump.take_request()
            offers = tuple(request.proposed_subprotocols)
            upgrade = UpgradeRequest(request.path, tuple(request.headers), offers)
            try:
                accepted, session = await self._node.judge(self, upgrade)
            except HandshakeError as error:
                self._node.metrics.handshake_refused(error.status)
                headers, body = refusal(error)
                await request.reject(error.status, extra_headers=headers, body=body)
                return None
            await pump.accept(request, accepted.subprotocol)
            self._pump = pump
            self.device = pump.device = Device(self._node, pump.line, pump)
            self._node.opened(self, self.device)
            if self._node.draining:
                self.device.close(CloseCode.SERVER_SHUTDOWN)
            return session
        return None

    async def _wait_for_token(self, device: Device, received: bytes) -> None:
        """Wait for the first message, no longer than the protocol allows."""
        deadline = device.core.next_deadline()
        if deadline is not None:
            self._scope.deadline = self._node.clock.deadline(deadline)
        device.received(received)
        while device.state is State.AWAITING_AUTH and not device.verifying:
            await self._receive(device)

    async def _authenticate(self, device: Device, session: Session | None, received: bytes) -> None:
        """Begin the session of the token that came; without one the device is closed.

        A token came in time, be it in the last moment. Its answer must not be cut off.
        """
        if session is not None:
            await device.begin(session)
            device.received(received)
        await device.verify()
        deadline = device.core.next_deadline()
        if device.state is State.AWAITING_AUTH and deadline is not None:
            device.time_passed(max(deadline, self._node.clock.now()))

    async def _receive(self, device: Device) -> None:
        """Wait for what comes next. What waits to be sent leaves first: nobody else sees to that as yet."""
        if self._pump is not None:
            await self._pump.receive(device)
            return
        with suppress(*BROKEN):
            while device.buffer is not None and isinstance(self._stream, TcpStream):
                await self._stream.wait_writable()
                device.writable()
        await receive(self._stream, device)
