"""A device in Python, for Trio and asyncio.

    async with open_client(url, get_token, vaults=["v1"], since=stored_cursor) as client:
        async for arrival in client:
            match arrival:
                case SnapshotNeeded(vaults=vaults):
                    await replace_everything(await fetch_snapshot(vaults))
                case ReceivedEvent(event=name, vault=vault, data=data):
                    await apply(name, vault, data)
            await store(client.cursor)

It authenticates, renews its token when asked to, and connects again when a connection ends, unless the close
code says not to. Each new connection resumes where the last one ended, so that every event is handed over
once and in order. Where the server can't tell what was missed, `SnapshotNeeded` comes instead, in its place
among the events.
"""

from localful_ws.client.client import Client, GetToken
from localful_ws.client.codec import ReceivedEvent
from localful_ws.client.errors import (
    ClientClosedError,
    ClientError,
    ClosedByServerError,
    NoAnswerError,
    RefusedByServerError,
    RequestRefusedError,
    ServerMessageError,
    TokenUnavailableError,
)
from localful_ws.client.opening import open_client
from localful_ws.client.resuming import SnapshotNeeded
from localful_ws.client.status import Connected, Disconnected, Refused, RenewalFailed, Status, Timeouts

__all__ = [
    "Client",
    "ClientClosedError",
    "ClientError",
    "ClosedByServerError",
    "Connected",
    "Disconnected",
    "GetToken",
    "NoAnswerError",
    "ReceivedEvent",
    "Refused",
    "RefusedByServerError",
    "RenewalFailed",
    "RequestRefusedError",
    "ServerMessageError",
    "SnapshotNeeded",
    "Status",
    "Timeouts",
    "TokenUnavailableError",
    "open_client",
]
