"""The map of a Cluster: which server has which slots."""

from typing import TYPE_CHECKING, Any, Final

import trio

from localful_ws.engine.redis.errors import REDIS_ERRORS
from localful_ws.engine.redis.link import Server, open_link
from localful_ws.engine.redis.servers import read_slots

if TYPE_CHECKING:
    from localful_ws.engine.redis.shard import Shard
    from localful_ws.engine.redis.shards import Shards

_LOOK_EVERY: Final = 0.25


class ClusterMap:
    """Looks who has the slots of servers that are not there.

    Slots that move between servers that are there need no map: those tell where they went.

    Args:
        shards: What it gives the slots to.
    """

    def __init__(self, shards: "Shards") -> None:
        self._shards = shards

    async def keep(self) -> None:
        """Look who has the slots that nobody has who is there."""
        while True:
            if any(shard.link is None for shard in set(self._shards.of_slot)):
                await self._look()
                if self._shards.first in self._shards.of_slot:
                    # Slots that nobody is known to have. Where somebody is, it is still to be tried.
                    self._shards.tried = True
                    self._shards.owner.changed()
                await trio.sleep(_LOOK_EVERY)
            else:
                await self._shards.wait_change()

    async def _look(self) -> None:
        for shard in list(self._shards.by_place.values()):
            if shard.link is not None:
                try:
                    self._take_map(await shard.link.call("CLUSTER", "SLOTS"), shard.link.server)
                except REDIS_ERRORS:
                    continue
                return
        servers = self._shards.servers
        for server in (*servers.first, *map(servers.at, list(self._shards.by_place))):
            try:
                async with open_link(server) as link:
                    servers.check_mode(link)
                    self._take_map(await link.call("CLUSTER", "SLOTS"), server)
            except REDIS_ERRORS as error:
                self._shards.first.note_problem(str(error))
                continue
            return

    def _take_map(self, reply: Any, asked: Server) -> None:
        found: dict[int, Shard] = {}
        for first, last, place in read_slots(reply, (asked.host, asked.port or 0)):
            shard = self._shards.shard_at(place)
            # Who has a slot and is there knows better than the map.
            found |= {
                slot: shard for slot in range(first, last + 1) if self._shards.of_slot[slot].link is None
            }
        self._shards.give(found)
        there = set(self._shards.of_slot)
        for place, shard in list(self._shards.by_place.items()):
            if shard not in there and shard.link is None and not shard.is_expected:
                del self._shards.by_place[place]
                shard.scope.cancel()
