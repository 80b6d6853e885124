"""The backend with the demo's page in front: what a browser is served."""

import time
from typing import Final

import msgspec
from starlette.responses import Response

from localful_ws.demo import contents
from localful_ws.demo.backend import Backend, BackendSettings, build_backend
from localful_ws.demo.backend.database import transact
from localful_ws.demo.backend.errors import ApiError
from localful_ws.demo.backend.requests import Call, Handler, json_response, no_content
from localful_ws.web.files import SHARED, page_routes

_PAGE: Final = "localful_ws.demo.page"
FILES: Final = SHARED | {
    "/": f"{_PAGE}/index.html",
    "/demo.css": f"{_PAGE}/demo.css",
    "/demo.js": f"{_PAGE}/demo.js",
    "/api.js": f"{_PAGE}/api.js",
    "/content.js": f"{_PAGE}/content.js",
    "/device.js": f"{_PAGE}/device.js",
    "/dialogs.js": f"{_PAGE}/dialogs.js",
    "/dom.js": f"{_PAGE}/dom.js",
    "/frames.js": f"{_PAGE}/frames.js",
    "/journal.js": f"{_PAGE}/journal.js",
    "/lines.js": f"{_PAGE}/lines.js",
    "/panel.js": f"{_PAGE}/panel.js",
    "/socket.js": f"{_PAGE}/socket.js",
}
"""The files of the page by path."""


def build_site(settings: BackendSettings, websocket_url: str, renewal_window: float) -> Backend:
    """Build the backend with the page, and what the demo begins with.

    Args:
        settings: Those of the backend; the database must be a new one.
        websocket_url: Where the page's devices connect.
        renewal_window: So many seconds before its token expires a device is asked for a new one.

    Raises:
        sqlite3.Error: If the database can't be opened.
    """
    config = {
        "websocketUrl": websocket_url,
        "accessSeconds": settings.access_seconds,
        "renewalWindow": renewal_window,
        "users": contents.users(),
    }
    origin = "/".join(websocket_url.split("/")[:3])
    handlers: dict[str, dict[str, Handler]] = {
        "/config.json": {"GET": _show(config)},
        "/start-over": {"POST": _start_over},
    }
    backend = build_backend(settings, handlers=handlers, routes=page_routes(FILES, connect=(origin,)))
    transact(
        backend.database.connection,
        "BEGIN IMMEDIATE",
        lambda connection: contents.put_in(connection, settings, time.time()),
    )
    return backend


def _show(config: dict[str, object]) -> Handler:
    async def show(_: Call) -> Response:
        """``GET /config.json``: what the page has to know."""
        return json_response(config)

    return show


async def _start_over(call: Call) -> Response:
    """``POST /start-over``: as at the beginning. It takes no token, since all may have been deleted."""
    if call.request.headers.get("Content-Type") != "application/json" or _decode(call.body) != {}:
        # Another page can't send this type without asking first.
        raise ApiError(422, "invalid-body", "Send an empty object, as application/json.")
    await call.services.database.write(
        lambda connection: contents.start_over(connection, call.services.settings, call.now)
    )
    return no_content()


def _decode(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
