"""The console's page and its files."""

from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from localful_ws.web.files import page_routes

_FILES: Final = (
    "api.js",
    "chart.js",
    "console.css",
    "console.js",
    "dom.js",
    "overview.js",
    "samples.js",
    "send.js",
    "user.js",
    "users.js",
    "watch.js",
)


def console_pages() -> list[BaseRoute]:
    """The routes of the page; what all pages use is served beside it (`localful_ws.web.files.SHARED`)."""
    folder = "localful_ws.web/console"
    table = {"/console": f"{folder}/index.html"} | {f"/console/{name}": f"{folder}/{name}" for name in _FILES}
    return [*page_routes(table), Route("/console/", _redirect, methods=["GET"])]


async def _redirect(_: Request) -> Response:
    return RedirectResponse("../console")
