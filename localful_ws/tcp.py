"""TCP with as little as an idle connection needs: a small stream on a non-blocking socket, and a listener."""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
import trio

_log = structlog.get_logger(__name__)

_RECEIVE_BYTES = 4096
_NO_LINGER = struct.pack("ii", 1, 0)
# Each new connection is a task with work to do at once. So many are accepted at a time that a round of all
# tasks stays short, or whoever reconnects would keep those who are connected waiting for their events.
_MOST_AT_A_TIME = 100
_ROUND_SECONDS = 0.002
_TRY_AGAIN_SECONDS = 0.1
# The listening socket is fine; this one connection could not be had.
# Linux hands over what the network did to it (accept(2), "Error handling").
_LOST_BEFORE_ACCEPT = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNRESET", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN"),
        *("ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class TcpStream(trio.abc.Stream):
    """A stream on a non-blocking socket, which can also be written to without waiting.

    Lighter than `trio.SocketStream`, and waits fewer coroutines deep; one task may receive and one may send.

    Args:
        sock: A connected, non-blocking socket; the stream owns it from now on.

    Attributes:
        socket: For whoever wants to send without waiting, or takes it over.
    """

    __slots__ = ("socket",)

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock

    async def wait_readable(self) -> None:
        """Wait until there is something to receive."""
        await trio.lowlevel.wait_readable(self._fileno())

    async def wait_writable(self) -> None:
        """Wait until the kernel takes something.

        Raises:
            trio.ClosedResourceError: If the stream is closed meanwhile.
        """
        await trio.lowlevel.wait_writable(self._fileno())

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self.wait_writable()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        rest = memoryview(data)
        await trio.lowlevel.checkpoint()
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await self.wait_writable()
            except OSError as error:
                raise self._gone() from error

    def send_now(self, data: bytes) -> int:
        """Send what the kernel takes at once, and say how much that is.

        Raises:
            trio.BrokenResourceError: If the connection is broken.
            trio.ClosedResourceError: If the stream is closed.
        """
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone() from error

    def receive_now(self) -> bytes:
        """What has come already; nothing if that is nothing, or if there will be no more."""
        try:
            return self.socket.recv(_RECEIVE_BYTES)
        except OSError:
            return b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`. Waits first: there is seldom something to be had at once."""
        while True:
            await self.wait_readable()
            try:
                return self.socket.recv(max_bytes or _RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone() from error

    async def aclose(self) -> None:
        """Close the socket; whoever waits for it gets `trio.ClosedResourceError`."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self, *, at_once: bool = False) -> None:
        """The same; see `close_socket`."""
        close_socket(self.socket, at_once=at_once)

    def _fileno(self) -> int:
        number = self.socket.fileno()
        if number == -1:
            raise trio.ClosedResourceError("The stream is closed.")
        return number

    def _gone(self) -> Exception:
        if self.socket.fileno() == -1:
            return trio.ClosedResourceError("The stream is closed.")
        return trio.BrokenResourceError("The connection is broken.")


def close_socket(sock: socket.socket, *, at_once: bool = False) -> None:
    """Close a socket, and wake whoever waits for it.

    Args:
        sock: It may be closed already.
        at_once: Throw away what the kernel has still to send, rather than keep it until the peer takes it.
    """
    if sock.fileno() == -1:
        return
    if at_once:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    trio.lowlevel.notify_closing(sock)
    sock.close()


def shut_down_sending(sock: socket.socket) -> None:
    """Tell the peer that nothing more will come. If the connection is broken, whoever reads is told."""
    with suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


async def accept_connections(
    listening: socket.socket,
    serve: Callable[[TcpStream], Awaitable[None]],
    connections: trio.Nursery,
    wait_for_room: Callable[[], Awaitable[int]] | None = None,
) -> None:
    """Accept connections until cancelled, the fewer at a time the busier the others are.

    Args:
        listening: A bound, listening, non-blocking socket; its options pass on to the connections.
        serve: What to start for each connection.
        connections: Where to start it.
        wait_for_room: Says how many more there may be, having waited until that is not none.
    """
    at_a_time, more = 1, False
    while True:
        room = _MOST_AT_A_TIME if wait_for_room is None else await wait_for_room()
        began = trio.current_time()
        await trio.lowlevel.wait_readable(listening)
        if more:
            busy = trio.current_time() - began > _ROUND_SECONDS
            at_a_time = max(1, at_a_time // 2) if busy else min(at_a_time + 1, _MOST_AT_A_TIME)
        more = False
        try:
            for _ in range(min(at_a_time, room)):
                sock = _accept(listening)
                if sock is not None:
                    connections.start_soon(serve, TcpStream(sock))
            more = True
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            _log.warning("can't accept a connection", error=error.strerror)
            await trio.sleep(_TRY_AGAIN_SECONDS)


def _accept(listening: socket.socket) -> socket.socket | None:
    try:
        sock, _address = listening.accept()
    except OSError as error:
        if error.errno in _LOST_BEFORE_ACCEPT:
            return None
        raise
    sock.setblocking(False)
    return sock
