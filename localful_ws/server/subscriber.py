"""What an engine hands over to a node: events, disconnects, and questions about who is there."""

from collections.abc import Iterator, Sequence
from typing import Final

import trio

from localful_ws.clock import Clock
from localful_ws.engine import Entry, Presence
from localful_ws.metrics import Metrics
from localful_ws.protocol import CloseCode, State
from localful_ws.publishing import Disconnect
from localful_ws.revocations import Revocations
from localful_ws.routing import Router
from localful_ws.server.delivery import Delivery
from localful_ws.server.device import Device
from localful_ws.server.lately import Lately
from localful_ws.server.watching import Watching

_LATELY: Final = 300.0
_STEP: Final = 10.0


class NodeSubscriber:
    """Takes what concerns the devices of a node; see `localful_ws.engine.Subscriber`.

    Args:
        router: Knows the devices that are authenticated.
        revocations: What tokens are refused.
        watching: Tells of events those who watch.
        metrics: Where deliveries are counted.
        clock: The daemon's clock.

    Attributes:
        delivery: Takes events to the devices.
        lost: Devices that missed something and were closed, in the last five minutes.
    """

    def __init__(
        self,
        router: Router[Device],
        revocations: Revocations,
        watching: Watching,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._router = router
        self._revocations = revocations
        self._watching = watching
        self._metrics = metrics
        self._clock = clock
        self.lost = Lately(_LATELY, _STEP)
        self.delivery = Delivery(router, metrics, self.lose)

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        """Deliver events to the devices that want them; see `localful_ws.engine.Subscriber`."""
        self._watching.tell(entries)
        await self.delivery.deliver(entries)
        self._metrics.publish_to_write.observe(trio.current_time() - accepted_at, len(entries))

    def devices_of(self, user: str, vaults: int) -> list[Presence]:
        """A user's devices; see `localful_ws.engine.Subscriber`."""
        return [
            Presence(
                device.session.group,
                device.connected_at,
                len(device.subscription),
                device.subscription[:vaults],
            )
            for device in self._router.devices_of(user)
            if device.session is not None
        ]

    def lose(self, user: str) -> int:
        """Close a user's devices, which missed something; see `localful_ws.engine.Subscriber`."""
        self._watching.lose(user)
        devices = self._router.devices_of(user)
        for device in devices:
            device.close(CloseCode.MISSED_EVENTS)
        self.lost.add(len(devices))
        return len(devices)

    def refuse(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse, if there is room; see `localful_ws.engine.Subscriber`."""
        self._revocations.revoke(disconnects, self._clock.now())

    def remember(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse in any case; see `localful_ws.engine.Subscriber`."""
        self._revocations.remember(disconnects, self._clock.now())

    def close(self, disconnect: Disconnect) -> int:
        """Close whom it names; see `localful_ws.engine.Subscriber`."""
        user, closed = disconnect.user, 0
        for device in self._router if user is None else self._router.devices_of(user):
            session = device.session
            if session is not None and disconnect.refuses(session) and device.state is State.AUTHENTICATED:
                device.close(CloseCode.FORBIDDEN)
                closed += 1
        return closed

    def recall(self, disconnects: Sequence[Disconnect]) -> None:
        """Refuse and close whom past disconnects name; see `localful_ws.engine.Subscriber`."""
        self.remember(disconnects)
        now = self._clock.now()
        for device in self._named(disconnects):
            if device.session is not None and self._revocations.is_revoked(device.session, now):
                device.close(CloseCode.FORBIDDEN)

    def _named(self, disconnects: Sequence[Disconnect]) -> Iterator[Device]:
        """All devices that disconnects may be about, and others."""
        for user in {each.user for each in disconnects if each.user is not None}:
            yield from self._router.devices_of(user)
        groups = {each.group for each in disconnects if each.user is None}
        if groups:
            for device in self._router:
                if device.session is not None and device.session.group in groups:
                    yield device
