"""The demo's devices, on the project's own client."""

import time
from typing import Any

import trio
from attrs import Factory, define, field
from trio.testing import wait_all_tasks_blocked

from localful_ws.client import (
    Client,
    ClientError,
    ClosedByServerError,
    Disconnected,
    ReceivedEvent,
    Status,
    open_client,
)
from localful_ws.client.reconnect import LOST
from localful_ws.demo.daemon import JWT_SECRET
from localful_ws.demo.errors import DemoError
from localful_ws.demo.story import Actor
from localful_ws.tokens import mint_token

_PATIENCE = 10.0
_TOKEN_SECONDS = 3600


@define(eq=False)
class DemoDevice:
    """One device of the demo: connects once, and keeps what it gets.

    Attributes:
        actor: Who it is.
        received: The events it got, as on the wire.
        ended: The close code and reason, once the server has closed its connection.
    """

    actor: Actor
    received: list[dict[str, Any]] = Factory(list)
    ended: tuple[int, str] | None = None
    _client: Client | None = None
    _trouble: str = ""
    _over: trio.Event = field(factory=trio.Event)
    _attention: trio.CancelScope = field(factory=trio.CancelScope)

    async def run(self, url: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Be this device until its connection ends. Started once it is authenticated and subscribed.

        Raises:
            DemoError: If it can't connect.
        """
        try:
            async with open_client(
                url, self._mint, vaults=self.actor.vaults, on_status=self._note_status
            ) as client:
                with self._attention:
                    with trio.fail_after(_PATIENCE):
                        await client.wait_ready()
                    self._client = client
                    task_status.started()
                    async for arrival in client:
                        if isinstance(arrival, ReceivedEvent):  # there is nothing to fetch a snapshot of
                            self.received.append(_as_on_the_wire(arrival))
        except ClosedByServerError as error:
            self._note_end(error.code, error.reason, str(error))
        except ClientError as error:
            raise DemoError(f"{self.actor.name} gave up: {error}") from None
        except trio.TooSlowError:
            self._trouble = "there is no answer."
        if self._client is None:
            raise DemoError(f"{self.actor.name} can't connect: {self._trouble}")
        self._over.set()

    async def wait_ended(self) -> tuple[int, str]:
        """Wait until the server has closed its connection; says how.

        Raises:
            DemoError: If it doesn't.
        """
        with trio.move_on_after(_PATIENCE):
            await self._over.wait()
        if self.ended is None:
            raise DemoError(f"The connection of {self.actor.name} is still open, and should be closed.")
        return self.ended

    async def catch_up(self) -> None:
        """Ask the server something: the answer comes behind every event that was on its way.

        Raises:
            DemoError: If there is no answer.
        """
        if self._client is None:
            raise DemoError(f"{self.actor.name} is not connected.")
        try:
            await self._client.subscribe(self.actor.vaults)
        except ClientError as error:
            raise DemoError(f"{self.actor.name} lost its connection: {error}") from None
        # The answer and the last event may have come at once: let `run` take note of the event.
        await wait_all_tasks_blocked()

    def _mint(self) -> str:
        return mint_token(
            JWT_SECRET.encode(), self.actor.user, self.actor.group, _TOKEN_SECONDS, int(time.time())
        )

    def _note_status(self, status: Status) -> None:
        if isinstance(status, Disconnected):
            self._note_end(status.code or LOST, status.reason, status.message)
            # The demo looks at one connection a device: it does not come back.
            self._attention.cancel()

    def _note_end(self, code: int, reason: str, message: str) -> None:
        self.ended = (code, reason)
        self._trouble = message


def _as_on_the_wire(event: ReceivedEvent) -> dict[str, Any]:
    vault = {} if event.vault is None else {"vault": event.vault}
    return {"event": event.event, **vault, "data": event.data}
