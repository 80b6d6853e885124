"""How a connection becomes a device: read the request, judge it, open or refuse; then authenticate.

All of it is one task in the nursery of the connections. Then the device is parked and the task is over, or, where
it can't be parked, the task goes on as its pump.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio
from trio_websocket import ConnectionClosed

from localful_ws.protocol import CloseCode, HandshakeError, Session, State
from localful_ws.server.device import Device, Phase
from localful_ws.server.pump import BROKEN, RECEIVE_BYTES, StreamPump, receive
from localful_ws.server.send_buffer import piece_of
from localful_ws.server.tcp import TcpStream, shut_down_sending
from localful_ws.server.trio_websocket_pump import TrioWebSocketPump, take_request
from localful_ws.server.upgrade import (
    UpgradeRequest,
    accept_response,
    head_length,
    parse_upgrade,
    refusal,
    refusal_response,
)

if TYPE_CHECKING:
    from localful_ws.server.node import Node

_log = structlog.get_logger(__name__)


class Opening:
    """One connection from its first byte until it is a device that is authenticated, or closed.

    Args:
        node: The node that it comes to.
        stream: The connection, which is closed when it is over.
    """

    def __init__(self, node: "Node", stream: trio.abc.Stream) -> None:
        self._node = node
        self._stream = stream
        self._device: Device | None = None
        # A session that came with the handshake.
        self._session: Session | None = None
        self._receive: Callable[[], Awaitable[None]] = trio.sleep_forever

    async def run(self) -> None:
        """Serve the connection until it is parked or over. Nothing is raised here."""
        node, handed_on = self._node, False
        try:
            with node.half_open():
                with trio.move_on_after(node.handshake_timeout):
                    await self._open()
                if self._device is not None:
                    await self._authenticate(self._device)
                    handed_on = True
            if handed_on and self._device is not None:
                ...
        except Exception:
            _log.exception("a connection failed")
        finally:
            if self._device is None:
                await trio.aclose_forcefully(self._stream)
