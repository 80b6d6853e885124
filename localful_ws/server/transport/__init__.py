"""WebSockets behind one small interface: trio-websocket, and a lean one of our own."""

from localful_ws.server.transport.base import Accepter
from localful_ws.server.transport.lean import accept_lean
from localful_ws.server.transport.trio_ws import accept_trio_websocket

ACCEPTERS: dict[str, Accepter] = {"lean": accept_lean, "trio-websocket": accept_trio_websocket}
"""By the value of the setting ``transport``."""
