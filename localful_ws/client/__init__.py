"""A device in Python, for Trio.

    async with open_client("ws://127.0.0.1:42102/v1/sync", get_token, vaults=["v1"]) as client:
        async for event in client:
            print(event.event, event.vault, event.data)

It authenticates, renews its token when asked to, and connects again when a connection ends, unless the close
code says not to.
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
    "Status",
    "Timeouts",
    "TokenUnavailableError",
    "open_client",
]
