"""The words the harness is written in: where a server listens, what a device is, what an event is."""

import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
import jwt
import msgspec

ROOT = Path(__file__).resolve().parent.parent
JWT_SECRET = "a-benchmark-secret-of-more-than-32-bytes"
PUBLISHER_KEY = "a-benchmark-publisher-key"
TOKEN_SECONDS = 24 * 3600
"""Longer than any run."""
CONTENT = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ" * 2
"""What stands for encrypted content: with it, an event on the wire is about 300 bytes."""


class BenchmarkError(Exception):
    """The run is void: a server misbehaved, or an event was lost, repeated or misdirected."""


class Speaks(Enum):
    """How a device talks to a server."""

    CONTRACT = "contract"
    """WebSocket, then `authenticate` with the vaults, then `authenticated`."""
    OPEN_WEBSOCKET = "open-websocket"
    """WebSocket alone: whoever connects is in."""
    LINE = "line"
    """No WebSocket: a line, and its echo."""


class Routes(Enum):
    """Which devices a server tells of an event."""

    CONTRACT = "contract"
    """By user, origin group and vault."""
    USER = "user"
    """By user."""
    EVERYBODY = "everybody"


@attrs.frozen
class Target:
    """A running server, as its clients see it."""

    port: int
    internal_port: int
    speaks: Speaks
    routes: Routes
    path: str = "/v1/sync"
    """Where devices connect; `{user}` is replaced."""
    tls: bool = False
    """Whether devices connect by TLS."""
    publish_path: str = "/v1/events"
    """Where events are posted; with `{user}` in it, one event a request, as the device shall see it."""


@attrs.frozen
class DeviceSpec:
    """A device to be: who it is and what it wants."""

    user: str
    group: str
    vaults: tuple[str, ...]


@attrs.frozen
class Event:
    """One event, as the publisher tells it."""

    number: int
    event: str
    user: str
    vault: str
    group: str | None
    data: dict[str, Any]

    def published(self) -> dict[str, Any]:
        """The object that the publish API takes."""
        body = {"event": self.event, "user": self.user, "vault": self.vault, "data": self.data}
        if self.group is not None:
            body["group"] = self.group
        return body

    def delivered(self) -> dict[str, Any]:
        """The object that a device gets."""
        return {"event": self.event, "vault": self.vault, "data": self.data}

    def is_for(self, device: DeviceSpec, routes: Routes) -> bool:
        """Whether this device must get it, exactly once."""
        if routes is Routes.EVERYBODY:
            return True
        if device.user != self.user:
            return False
        return routes is Routes.USER or (device.group != self.group and self.vault in device.vaults)


class EventSource:
    """Makes events that can be told apart.

    Args:
        contents: Makes the content of each event.
    """

    def __init__(self, contents: Callable[[], str] = lambda: CONTENT) -> None:
        self._number = 0
        self._contents = contents

    def make(self, user: str, vault: str, group: str | None = None) -> Event:
        """The next event."""
        self._number += 1
        number = self._number
        data = {
            "id": f"5f0c6f0e-2d63-4a43-9d0f-{number:012d}",
            "number": number,
            "createdAt": "2025-01-01T00:00:00.000Z",
            "content": self._contents(),
        }
        return Event(number=number, event="item-create", user=user, vault=vault, group=group, data=data)


def vaults_of(user: str) -> tuple[str, ...]:
    """The three vaults that every device of a user subscribes to, ids as long as real ones."""
    return tuple(f"{user:->23.23}-{index:012d}" for index in range(3))


def devices_of(prefix: str, first: int, count: int, per_user: int = 2) -> Iterator[DeviceSpec]:
    """Devices number `first` to `first + count - 1` of a population in which each user has `per_user`."""
    for index in range(first, first + count):
        user = f"{prefix}-{index // per_user:06d}"
        yield DeviceSpec(user=user, group=f"group-{prefix}-{index:06d}", vaults=vaults_of(user))


def access_token(device: DeviceSpec) -> str:
    """A token as the HTTP API would issue it."""
    now = int(time.time())
    claims = {
        "sub": device.user,
        "gid": device.group,
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "type": "accessToken",
    }
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def to_json(value: Any) -> bytes:
    """Compact JSON."""
    return msgspec.json.encode(value)
