"""Pages are served from a fixed table, with headers that keep them to themselves."""

import httpx
import pytest
from starlette.applications import Starlette

from localful_ws.web.files import MEDIA_TYPES, SHARED, page_routes


def client(connect: tuple[str, ...] = ()) -> httpx.AsyncClient:
    app = Starlette(routes=[*page_routes(SHARED, connect=connect)])
    app.router.redirect_slashes = False
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://page")


@pytest.mark.parametrize("path", SHARED)
async def test_each_file_has_its_type_and_headers(path: str) -> None:
    async with client(connect=("ws://127.0.0.1:1",)) as http:
        answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == MEDIA_TYPES[path[path.rindex(".") :]]
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self' ws://127.0.0.1:1",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


async def test_what_the_browser_has_is_not_sent_again() -> None:
    async with client() as http:
        first = await http.get("/client.js")
        assert b"export function openClient" in first.content
        for known in (first.headers["ETag"], f'"other", W/{first.headers["ETag"]}'):
            again = await http.get("/client.js", headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == first.headers["ETag"]
        assert (await http.get("/client.js", headers={"If-None-Match": '"other"'})).status_code == 200
        assert (await http.get("/style.css")).headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize(
    "path", ["/", "/files.py", "/__init__.py", "/client.d.ts", "/../web/client.js", "/client.js/"]
)
async def test_nothing_else_is_there(path: str) -> None:
    async with client() as http:
        assert (await http.get(path)).status_code == 404


async def test_pages_are_only_read() -> None:
    async with client() as http:
        assert (await http.head("/rows.js")).status_code == 200
        assert (await http.post("/rows.js")).status_code == 405


def test_a_file_that_is_not_there_or_of_no_known_type() -> None:
    with pytest.raises(OSError, match=r"nothing\.js"):
        page_routes({"/": "localful_ws.web/nothing.js"})
    with pytest.raises(KeyError, match=r"\.py"):
        page_routes({"/": "localful_ws.web/files.py"})
