"""What the server promises of one user's stream, in a few lines: its history, and one device of the user."""

from typing import Any

from attrs import Factory, define, frozen


@frozen
class Published:
    """An event: a data event if it is about an item, and ``own`` if the device's own group made it."""

    name: str = "user-update"
    vault: str | None = None
    own: bool = False

    @property
    def content_of(self) -> str | None:
        return self.vault if self.name.startswith("item") else None


@define(eq=False)
class ModelServer:
    """One user's stream, and the connection of one device.

    Cursors look like nothing that could be compared. What the device is sent piles up in ``under_way``.

    Attributes:
        stream: All that was published, ever.
        reach: How much of the stream's beginning is out of reach for a device that resumes.
        epoch: Another one means that the stream was lost.
        vaults: The device's subscription while it is authenticated, else None.
        under_way: What has been sent and not arrived.
        lag: With a renewal, the last so many events, of those since the answer before, are still being
            delivered to others: it names the position before them.
    """

    stream: list[Published] = Factory(list)
    reach: int = 0
    epoch: int = 0
    vaults: tuple[str, ...] | None = None
    under_way: list[dict[str, Any]] = Factory(list)
    lag: int = 0
    _answered: int = 0

    def cursor(self, position: int | None = None) -> str:
        """The cursor behind so many events; behind all if not said."""
        number = len(self.stream) if position is None else position
        return f"{(number * 7919 + 5000) % 10007:04x}-{self.epoch}"

    def position(self, cursor: str) -> int:
        """How many events are before a cursor of the present stream."""
        return [self.cursor(position) for position in range(len(self.stream) + 1)].index(cursor)

    def resumes(self, since: str) -> bool:
        reachable = range(self.reach, len(self.stream) + 1)
        return since in [self.cursor(position) for position in reachable]

    def lose_stream(self) -> None:
        self.epoch += 1
        self.reach = len(self.stream)

    def publish(self, *published: Published) -> None:
        for event in published:
            self.stream.append(event)
            self._tell(len(self.stream))

    def cut(self) -> None:
        """End the connection; what has not arrived won't."""
        self.under_way.clear()
        self.vaults = None

    def take(self, message: dict[str, Any]) -> None:
        """Answer a message from the device."""
        if message["event"] == "subscribe":
            self.vaults = tuple(message["vaults"])
            self.under_way.append(
                {"event": "subscribed", "vaults": list(self.vaults), "id": message["id"]},
            )
            return
        renewal = self.vaults is not None
        self.vaults = tuple(message.get("vaults", self.vaults or ()))
        end = len(self.stream)
        position = max(self._answered, end - self.lag) if renewal else end
        self._answered = end
        answer = {
            "event": "authenticated",
            "user": "ada",
            "group": "phone",
            "expiresAt": 1000,
            "vaults": list(self.vaults),
            "cursor": self.cursor(position),
            "id": message["id"],
        }
        self.under_way.append(answer)
        since = message.get("since")
        if renewal or since is None:
            return
        answer["resumed"] = self.resumes(since)
        if answer["resumed"]:
            for position in range(self.position(since), len(self.stream)):
                self._tell(position + 1)

    def _tell(self, position: int) -> None:
        event = self.stream[position - 1]
        if self.vaults is None:
            return
        if not event.own and (event.content_of is None or event.content_of in self.vaults):
            vault = {} if event.vault is None else {"vault": event.vault}
            self.under_way.append(
                {"event": event.name, **vault, "data": position, "cursor": self.cursor(position)}
            )
        if event.name == "vault-delete":
            self.vaults = tuple(vault for vault in self.vaults if vault != event.vault)
