"""One command to Redis over a connection of its own, which no fault outlives."""

from typing import Any

import trio

_TIMEOUT = 2.0


class RedisReplyError(Exception):
    """Redis answered with an error."""


async def command(address: tuple[str, int], *arguments: str | int) -> Any:
    """Send one command and wait for its reply, strings as text.

    Raises:
        OSError: If there is no answer.
        RedisReplyError: If the answer is an error.
    """
    parts = [str(argument).encode() for argument in arguments]
    request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    try:
        with trio.fail_after(_TIMEOUT):
            async with await trio.open_tcp_stream(*address) as stream:
                await stream.send_all(request)
                return await _Reply(stream).read()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        raise ConnectionError("Redis did not answer.") from error


class _Reply:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._data = b""

    async def read(self) -> Any:
        line = await self._line()
        kind, rest = line[:1], line[1:]
        match kind:
            case b"+":
                return rest.decode()
            case b"-":
                if rest.startswith(b"LOADING"):
                    raise ConnectionError("Redis still reads its append-only file.")
                raise RedisReplyError(rest.decode())
            case b":":
                return int(rest)
            case b"$":
                size = int(rest)
                return None if size < 0 else (await self._take(size + 2))[:-2].decode()
            case _:
                assert kind == b"*", line
                return [await self.read() for _ in range(int(rest))]

    async def _line(self) -> bytes:
        while b"\r\n" not in self._data:
            await self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    async def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            await self._more()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    async def _more(self) -> None:
        data = await self._stream.receive_some(1 << 20)
        if not data:
            raise ConnectionError("Redis closed the connection.")
        self._data += data
