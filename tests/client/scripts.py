"""What a server does with a connection, from beginning to end."""

from typing import Any

from tests.client.scripted_server import Peer, Script


async def stay(peer: Peer) -> None:
    """Authenticate the device, and keep the connection until it closes."""
    await peer.authenticate()
    await peer.wait_closed()


async def vanish(peer: Peer) -> None:
    """Authenticate the device, and be gone without a word, the stream left open."""
    await peer.authenticate()


def closing(code: int, reason: str = "", **error: Any) -> Script:
    """Authenticate the device, send it an error if there is one, and close."""

    async def script(peer: Peer) -> None:
        await peer.authenticate()
        if error:
            await peer.send(event="error", **error)
        await peer.close(code, reason)

    return script


def sending(*texts: str | bytes) -> Script:
    """Authenticate the device, send it these and keep the connection."""

    async def script(peer: Peer) -> None:
        await peer.authenticate()
        for text in texts:
            await peer.send_text(text)
        await peer.wait_closed()

    return script


def rejecting(status: int, body: bytes = b"") -> Script:
    """Refuse the handshake."""

    async def script(peer: Peer) -> None:
        await peer.request.reject(status, body=body)

    return script
