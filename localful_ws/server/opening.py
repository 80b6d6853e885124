"""How a connection becomes a device: read the request, judge it, open or refuse; then authenticate.

This is a task in the nursery of the connections. At its end the device is parked, or goes on in this task.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from localful_ws.protocol import CloseCode, HandshakeError, Session, State
from localful_ws.server.device import Device
from localful_ws.server.pump import BROKEN, RECEIVE_BYTES, StreamPump, receive
from localful_ws.server.send_buffer import piece_of
from localful_ws.server.tcp import TcpStream, shut_down_sending
from localful_ws.server.trio_websocket_pump import TrioWebSocketPump
from localful_ws.server.upgrade import (
    UpgradeRequest,
    accept_response,
    head_length,
    is_http,
    parse_upgrade,
    refusal_response,
)

if TYPE_CHECKING:
    from localful_ws.server.node import Node


async def serve_connection(node: "Node", stream: trio.abc.Stream) -> None:
    """Serve one connection, until it is parked or over.

    Args:
        node: The node that it comes to.
        stream: The connection; it is closed when it is over.
    """
    opened = None
    try:
        with trio.move_on_after(node.handshake_timeout) as handshake, node.half_open(handshake):
            opened = await _open(node, stream)
        if opened is None:
            return
        ...
