"""A peer that does wrong on purpose, for `python -m benchmarks.check`: does the client notice?"""

import asyncio
import os
from typing import Any

import uvloop
from websockets.asyncio.server import broadcast

from benchmarks.peers.asyncio_websockets import Device, Peer, encode, main

EVERY = 7


class FaultyPeer(Peer):
    """Does wrong at every seventh event, or with each connection, in the way that BENCH_FAULT says."""

    def __init__(self, secret: str, publisher_key: str) -> None:
        super().__init__(secret, publisher_key)
        self.fault = getattr(self, os.environ["BENCH_FAULT"].replace("-", "_"))
        self.seen = 0
        if self.fault == self.keep:
            self.auth_timeout = None

    def tell_devices(self, event: dict[str, Any], cursor: str) -> None:
        """Right six times, and then not."""
        self.seen += 1
        if self.seen % EVERY == 0:
            self.fault(event, cursor)
        else:
            super().tell_devices(event, cursor)

    def told(self, event: dict[str, Any]) -> list[Device]:
        """The devices that must get it."""
        return [
            device
            for device in self.users[event["user"]]
            if device.group != event["group"] and event["vault"] in device.vaults
        ]

    def tell(self, device: Device, event: dict[str, Any], **changes: Any) -> None:
        """Send it to one device, asked for or not."""
        body = {"event": event["event"], "vault": event["vault"], "data": event["data"], **changes}
        broadcast([device.connection], encode(body), text=True)

    def nothing(self, event: dict[str, Any], cursor: str) -> None:
        """No fault: this must pass."""
        super().tell_devices(event, cursor)

    def lose(self, event: dict[str, Any], cursor: str) -> None:
        """One device isn't told."""
        for device in self.told(event)[1:]:
            self.tell(device, event, cursor=cursor)

    def repeat(self, event: dict[str, Any], cursor: str) -> None:
        """One device is told twice."""
        super().tell_devices(event, cursor)
        self.tell(self.told(event)[0], event, cursor=cursor)

    def lose_and_repeat(self, event: dict[str, Any], cursor: str) -> None:
        """One device is told twice, another isn't told: the sum is right."""
        for device in self.told(event)[1:]:
            self.tell(device, event, cursor=cursor)
        self.tell(self.told(event)[-1], event, cursor=cursor)

    def wrong_user(self, event: dict[str, Any], cursor: str) -> None:
        """Another user's device is told as well."""
        super().tell_devices(event, cursor)
        other = next(user for user in self.users if user != event["user"])
        self.tell(next(iter(self.users[other])), event, cursor=cursor)

    def echo(self, event: dict[str, Any], cursor: str) -> None:
        """The device that made the change is told as well."""
        super().tell_devices({key: value for key, value in event.items() if key != "group"}, cursor)

    def wrong_vault(self, event: dict[str, Any], cursor: str) -> None:
        """A device that doesn't want the vault is told as well."""
        super().tell_devices(event, cursor)
        for device in self.users[event["user"]]:
            if event["vault"] not in device.vaults:
                self.tell(device, event, cursor=cursor)

    def alter(self, event: dict[str, Any], cursor: str) -> None:
        """The contents change on the way."""
        super().tell_devices(event | {"data": event["data"] | {"content": "tampered"}}, cursor)

    def leak(self, event: dict[str, Any], cursor: str) -> None:
        """Devices learn the origin group."""
        for device in self.told(event):
            self.tell(device, event, cursor=cursor, group=event["group"])

    def swap(self, event: dict[str, Any], cursor: str) -> None:
        """It comes after all others of its batch."""
        asyncio.get_running_loop().call_soon(super().tell_devices, event, cursor)

    def no_cursor(self, event: dict[str, Any], _cursor: str) -> None:
        """It has no place in its user's stream."""
        for device in self.told(event):
            self.tell(device, event)

    def bad_cursor(self, event: dict[str, Any], _cursor: str) -> None:
        """What should be its cursor is a number."""
        for device in self.told(event):
            self.tell(device, event, cursor=self.position)

    def two_cursors(self, event: dict[str, Any], cursor: str) -> None:
        """Devices are told different places of it."""
        for index, device in enumerate(self.told(event)):
            self.tell(device, event, cursor=f"{cursor}.{index % 2}")

    def same_cursor(self, event: dict[str, Any], _cursor: str) -> None:
        """It has the place of the event before it."""
        super().tell_devices(event, f"{self.epoch}.{self.position - 1}")

    def close(self, event: dict[str, Any], cursor: str) -> None:
        """A device is closed once it has been told."""
        super().tell_devices(event, cursor)
        for device in self.told(event)[:1]:
            self.close_soon(device, 1011, "internal-error")

    def keep(self, event: dict[str, Any], cursor: str) -> None:
        """Whoever does not authenticate may stay."""
        super().tell_devices(event, cursor)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(FaultyPeer))
