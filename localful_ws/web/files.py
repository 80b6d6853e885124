"""Serves pages: a fixed table of files of this package, with the headers that keep a page to itself."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Final

from attrs import field, frozen
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""By a file's suffix; there are no others."""

SHARED: Final = {
    "/client.js": "localful_ws.web/client.js",
    "/elements.js": "localful_ws.web/elements.js",
    "/icon.svg": "localful_ws.web/icon.svg",
    "/rows.js": "localful_ws.web/rows.js",
    "/style.css": "localful_ws.web/style.css",
}
"""What all pages use: file by path, as `page_routes` takes it."""


def content_security_policy(connect: Iterable[str] = ()) -> str:
    """Make a policy under which a page runs and fetches only what comes from where it came from itself.

    Args:
        connect: Where else it may connect to, such as ``ws://127.0.0.1:42102``.
    """
    directives = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": " ".join(("'self'", *connect)),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def page_headers(connect: Iterable[str] = ()) -> dict[str, str]:
    """Make the headers that go with every file of a page.

    Args:
        connect: See `content_security_policy`.
    """
    return {
        "Content-Security-Policy": content_security_policy(connect),
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


@frozen
class StaticFile:
    """A file that is served as it is.

    Attributes:
        content: What is in it.
        media_type: What it is.
        headers: What goes with it.
    """

    content: bytes = field(repr=False)
    media_type: str
    headers: Mapping[str, str]

    async def answer(self, request: Request) -> Response:
        """Answer with it, or that the browser has it already."""
        known = request.headers.get("If-None-Match", "")
        if self.headers["ETag"] in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=304, headers=self.headers)
        return Response(self.content, headers=self.headers, media_type=self.media_type)


def page_routes(table: Mapping[str, str], *, connect: Iterable[str] = ()) -> list[Route]:
    """Make the routes of a page: GET and HEAD of each path, and nothing else.

    The files are read once, now. A browser asks every time whether what it has is still right.

    Args:
        table: File by path: ``package/name``, such as ``localful_ws.web/client.js``.
        connect: Where the page may connect to besides; see `content_security_policy`.

    Raises:
        OSError: If there is no such file.
        KeyError: If it is none of `MEDIA_TYPES`.
    """
    headers = page_headers(connect)
    return [Route(path, _read(file, headers).answer, methods=["GET"]) for path, file in table.items()]


def _read(file: str, headers: Mapping[str, str]) -> StaticFile:
    package, _, name = file.partition("/")
    content = files(package).joinpath(name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return StaticFile(content, MEDIA_TYPES[PurePosixPath(name).suffix], {**headers, "ETag": tag})
