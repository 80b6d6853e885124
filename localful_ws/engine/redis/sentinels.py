"""The Sentinels: they say which server is the one to write to."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
import trio

from localful_ws.engine.redis.errors import REDIS_ERRORS, RedisUnavailableError
from localful_ws.engine.redis.link import Ended, Link, Message, Server, open_link
from localful_ws.engine.redis.servers import Place, Servers
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

SWITCHED: Final = b"+switch-master"
"""The channel on which they announce another server."""

_LOOK_EVERY: Final = 1.0
_TRY_AGAIN_AFTER: Final = 0.5
# Those that have not answered by then are not waited for, if others have.
_PATIENCE: Final = 0.25


class Sentinels:
    """Keeps a connection to each Sentinel, asks them, and hears what they announce.

    Args:
        servers: The Sentinels, and the name of what they watch.
        named: Called with the server to write to whenever they have been asked which it is.
    """

    def __init__(self, servers: Servers, named: Callable[[Place], None]) -> None:
        self._service = servers.address.service or ""
        self._first = servers.first
        self._named = named
        self._links: list[Link] = []
        self._connected = Signal()
        self._announced = Signal()

    async def run(self) -> None:
        """Stay connected, and look who is the one whenever they announce another one, until cancelled."""
        async with trio.open_nursery() as nursery:
            for server in self._first:
                nursery.start_soon(self._stay_connected, server)
            while True:
                # What is announced while a connection is made anew is not heard.
                with trio.move_on_after(_LOOK_EVERY):
                    await self._announced.wait()
                await self._ask()

    async def find(self) -> Place:
        """Ask which server is the one to write to.

        Raises:
            RedisUnavailableError: If no Sentinel knows.
        """
        with trio.move_on_after(self._first[0].timeout):
            while True:
                asked = list(self._links)
                place = await self._ask()
                if place is not None:
                    return place
                if self._links == asked:
                    await self._connected.wait()
        raise RedisUnavailableError(f"No Sentinel knows a server called {self._service}.")

    async def confirm(self, place: Place) -> None:
        """See that a server is still the one.

        Raises:
            RedisUnavailableError: If the Sentinels name another one, or none can be asked.
        """
        named = await self._ask()
        if named is None:
            raise RedisUnavailableError("No Sentinel can be asked.")
        if named != place:
            raise RedisUnavailableError("The Sentinels name another server.")

    async def _ask(self) -> Place | None:
        """Ask all; the one who knows of the latest failover is right."""
        said: list[tuple[int, Place]] = []
        if self._links:
            with trio.move_on_after(self._first[0].timeout):
                async with trio.open_nursery() as asking:
                    for link in self._links:
                        asking.start_soon(self._ask_one, link, said, asking.cancel_scope)
        if not said:
            return None
        _, place = max(said)
        self._named(place)
        return place

    async def _ask_one(self, link: Link, said: list[tuple[int, Place]], asking: trio.CancelScope) -> None:
        try:
            about = link.send("SENTINEL", "MASTER", self._service)
            # From the promotion on this is the new one, and MASTER names the old one until all has been done.
            named = link.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            answer: dict[bytes, Any] = await about.wait()
            host, port = await named.wait()
            said.append((int(answer[b"config-epoch"]), (host.decode(), int(port))))
        except (*REDIS_ERRORS, LookupError, TypeError, ValueError) as error:
            _log.debug("a Sentinel can't say who is to be written to", reason=str(error))
        else:
            asking.deadline = min(asking.deadline, trio.current_time() + _PATIENCE)

    async def _stay_connected(self, server: Server) -> None:
        while True:
            try:
                async with open_link(server, self._hear) as link:
                    await link.send_order("SUBSCRIBE", [SWITCHED]).wait()
                    self._links.append(link)
                    self._connected.set()
                    try:
                        await trio.sleep_forever()
                    finally:
                        self._links.remove(link)
            except REDIS_ERRORS as error:
                _log.debug("a Sentinel can't be reached", reason=str(error))
            await trio.sleep(_TRY_AGAIN_AFTER)

    def _hear(self, _: Sequence[Message | Ended]) -> None:
        self._announced.set()
