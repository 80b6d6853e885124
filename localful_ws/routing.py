"""Which open connections to ask about an event: those of its user, and no others.

Whether a device gets it is not decided here but by its connection (`localful_ws.protocol.Connection.wants`).
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

D = TypeVar("D")


class Router(Generic[D]):
    """The authenticated devices by user, in the order in which they came."""

    __slots__ = ("_devices",)

    def __init__(self) -> None:
        # A list costs an idle device less than a set, and few users have more than a handful of devices.
        self._devices: dict[str, list[D]] = {}

    def add(self, user: str, device: D) -> None:
        """Let ``device`` be asked about the events of ``user``."""
        devices = self._devices.get(user)
        if devices is None:
            self._devices[user] = [device]
        else:
            devices.append(device)

    def remove(self, user: str, device: D) -> bool:
        """Forget a device; says whether it was there."""
        devices = self._devices.get(user)
        if devices is None or device not in devices:
            return False
        devices.remove(device)
        if not devices:
            del self._devices[user]
        return True

    def devices_of(self, user: str) -> Sequence[D]:
        """The devices of ``user`` as they are now; later changes do not show in it."""
        return tuple(self._devices.get(user, ()))

    def count(self, user: str) -> int:
        """How many devices ``user`` has."""
        return len(self._devices.get(user, ()))

    def users(self) -> int:
        """How many users have a device here."""
        return len(self._devices)

    def names(self) -> Sequence[str]:
        """The users who have a device here, as they are now; later changes do not show in it."""
        return list(self._devices)

    def __iter__(self) -> Iterator[D]:
        """All devices, as they are now."""
        return iter([device for devices in self._devices.values() for device in devices])
