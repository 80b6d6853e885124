"""``localful-ws``, broken on purpose: ``python broken_server.py echo serve …``.

What is broken is named first: ``echo`` (the origin group is told too), ``subscribe`` (it adds to the
subscription), ``auth-timer`` (whatever the device sends starts the three seconds again).
"""

import json
import sys
from typing import Any

import attrs
import trio

from localful_ws.cli import main
from localful_ws.protocol import Action, Connection, Event, State, Verdict
from localful_ws.server import device, node
from localful_ws.server.device import Device
from localful_ws.server.opening import Opening


class EchoingConnection(Connection):
    """Tells the origin group as well."""

    def wants(self, event: Event) -> Verdict:
        return super().wants(attrs.evolve(event, group=None))


class AddingConnection(Connection):
    """Adds to the subscription what should replace it."""

    def receive_text(self, text: str, now: float) -> tuple[Action, ...]:
        return super().receive_text(self._with_former_vaults(text), now)

    def _with_former_vaults(self, text: str) -> str:
        try:
            message: Any = json.loads(text)
        except (ValueError, RecursionError):
            return text
        is_subscribe = isinstance(message, dict) and message.get("event", "subscribe") == "subscribe"
        if self.state is not State.AUTHENTICATED or not is_subscribe:
            return text
        vaults = message.get("vaults")
        if isinstance(vaults, list) and vaults:
            message["vaults"] = [*vaults, *self.subscription]
        return json.dumps(message)


class PatientOpening(Opening):
    """Waits for authentication anew whenever something has come."""

    async def _receive(self, device: Device) -> None:
        await super()._receive(device)
        self._scope.deadline = trio.current_time() + self._node.limits.auth_timeout


def break_it(what: str) -> None:
    """Break this process's server."""
    match what:
        case "echo":
            vars(device)["Connection"] = EchoingConnection
        case "subscribe":
            vars(device)["Connection"] = AddingConnection
        case "auth-timer":
            vars(node)["Opening"] = PatientOpening


if __name__ == "__main__":
    break_it(sys.argv.pop(1))
    main()
