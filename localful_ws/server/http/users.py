"""Who is there: the devices of a user, on all nodes (spec/protocol.md, "Devices of a user")."""

from collections.abc import Sequence
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp

from localful_ws.engine import Presence
from localful_ws.protocol import is_text
from localful_ws.server.http.access import PublisherKey
from localful_ws.server.http.answers import json_answer
from localful_ws.server.http.queries import QueryError, read_number

PATH: Final = "/v1/users/{user:any}/devices"
"""Where it is; see `AnyConvertor`."""

_BEFORE_USER, _AFTER_USER = b"/v1/users/", b"/devices"
_MOST: Final = 1000
_NO_STORE: Final = {"Cache-Control": "no-store"}


class AnyConvertor(Convertor[str]):
    """In a path of Starlette's: anything, line breaks included, as they may be in an id."""

    regex = "(?s:.+)"

    def convert(self, value: str) -> str:
        """Leave it as it is."""
        return value

    def to_string(self, value: str) -> str:
        """Leave it as it is."""
        return value


register_url_convertor("any", AnyConvertor())


class Presences(Protocol):
    """Who knows a user's devices."""

    async def who_is_there(self, user: str, vaults: int) -> list[Presence]:
        """See `localful_ws.engine.Engine.who_is_there`."""
        ...


class DevicesOfUser:
    """Answers which devices a user has, a page at a time, to whoever shows the publisher key.

    Args:
        presences: Who knows.
        key: The publisher key.
    """

    def __init__(self, presences: Presences, key: PublisherKey) -> None:
        self._presences = presences
        self._key = key

    async def answer(self, request: Request) -> ASGIApp:
        """Answer a request whose path has the user.

        Raises:
            QueryError: If path or query are wrong.
            EngineUnavailableError: If it can't be told now.
        """
        refusal = self._key.refuse(request.scope, dict(request.scope["headers"]))
        if refusal is not None:
            return refusal
        user = _read_user(request.scope["raw_path"])
        query = request.query_params
        after = read_number(query, "after", 0, at_least=0, at_most=999_999_999)
        limit = read_number(query, "limit", 100, at_least=1, at_most=_MOST)
        vaults = read_number(query, "vaults", 20, at_least=0, at_most=_MOST)
        found = await self._presences.who_is_there(user, vaults)
        return json_answer(200, _page(user, found, after, limit), _NO_STORE)


def _read_user(path: bytes) -> str:
    """Read the user's id out of a path as it was sent: decoded, it does not say what is a part of the id."""
    quoted = path.removeprefix(_BEFORE_USER).removesuffix(_AFTER_USER)
    try:
        user = unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        user = ""
    if b"/" in quoted or not is_text(user):
        raise QueryError("user", "user is 1 to 128 characters, percent-encoded UTF-8.")
    return user


def _page(user: str, found: Sequence[Presence], after: int, limit: int) -> dict[str, object]:
    # Those that came first come first: of new ones the earlier pages know nothing.
    devices = sorted(found, key=lambda presence: (presence.connected_at, presence.group))
    end = after + limit
    following = {"next": end} if end < len(devices) else {}
    return {
        "user": user,
        "total": len(devices),
        "devices": [_view(device) for device in devices[after:end]],
        **following,
    }


def _view(device: Presence) -> dict[str, object]:
    return {
        "group": device.group,
        "connectedAt": device.connected_at,
        "subscribed": device.subscribed,
        "vaults": device.vaults,
    }
