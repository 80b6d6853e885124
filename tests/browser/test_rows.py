"""The list for very many rows, in a page of its own that is served as all pages are."""

import socket
import threading
from collections.abc import Iterator

import pytest
import trio
from playwright.sync_api import Browser, Page
from starlette.applications import Starlette
from starlette.routing import Route

from localful_ws.server.http.server import HttpServer
from localful_ws.web.files import SHARED, StaticFile, page_headers, page_routes
from tests.browser.browsing import Scheme, assert_accessible, assert_no_sideways_scrolling, open_page

pytestmark = pytest.mark.browser

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Rows</title>
<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/style.css">
<script type="module" src="/test.js"></script></head>
<body><main><h1>Rows</h1>
<div id="followed"></div><div id="chosen"></div><div id="keyed"></div></main></body></html>
"""
SCRIPT = """
import { RowList } from "/rows.js";
const render = (row, element) => element.replaceChildren(`row ${row}`);
const options = { height: 20, render };
window.chosen = [];
window.list = (id, more) => {
  const element = document.getElementById(id);
  element.style.height = "200px";
  return new RowList(element, { ...options, ...more });
};
window.followed = list("followed", { label: "Followed", follow: true, limit: 10000, empty: "Nothing yet." });
window.selectable = list("chosen", { label: "To choose from", onSelect: (row) => chosen.push(row) });
window.keyed = list("keyed", {
  label: "Keyed",
  key: (row) => row,
  render(row, element) {
    const button = element.querySelector("button") ?? document.createElement("button");
    button.textContent = `button ${row}`;
    if (!button.isConnected) element.append(button);
  },
});
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Where the page is."""
    headers = {**page_headers(), "ETag": '"1"'}
    pages = {
        "/": StaticFile(PAGE.encode(), "text/html; charset=utf-8", headers),
        "/test.js": StaticFile(SCRIPT.encode(), "text/javascript", headers),
    }
    routes = [*page_routes(SHARED), *(Route(path, page.answer) for path, page in pages.items())]
    app = Starlette(routes=routes)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    stopped = trio.Event()
    token: list[trio.lowlevel.TrioToken] = []

    async def run() -> None:
        token.append(trio.lowlevel.current_trio_token())
        await HttpServer(app, max_connections=100).serve(listening, shutdown=stopped, graceful_timeout=1)

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    yield f"http://127.0.0.1:{port}/"
    token[0].run_sync_soon(stopped.set)
    thread.join(10)


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    with open_page(browser, url) as opened:
        opened.wait_for_function("window.keyed")
        yield opened


def shown(page: Page, which: str) -> list[str]:
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.locator(f"#{which} .row").all_inner_texts()


def test_only_what_is_in_view_is_in_the_document(page: Page) -> None:
    page.evaluate("followed.push(...Array.from({ length: 10000 }, (_, index) => index))")
    rows = shown(page, "followed")
    assert len(rows) < 40
    # It follows the end.
    assert rows[-1] == "row 9999"
    assert page.locator("#followed .row").last.get_attribute("aria-setsize") == "10000"
    assert page.locator("#followed .row").last.get_attribute("aria-posinset") == "10000"


def test_the_number_kept_is_bounded_and_the_view_stays(page: Page) -> None:
    page.evaluate("for (let index = 0; index < 10000; index++) followed.push(index)")
    shown(page, "followed")
    page.locator("#followed").press("Home")
    page.locator("#followed").press("PageDown")
    page.evaluate("document.getElementById('followed').scrollTop = 100000")
    before = shown(page, "followed")
    page.evaluate("for (let index = 10000; index < 14000; index++) followed.push(index)")
    # A reader who has scrolled away stays with what they look at.
    assert shown(page, "followed") == before
    assert page.evaluate("followed.length") <= 11000
    assert page.evaluate("followed.dropped + followed.length") == 14000
    page.locator("#followed").press("End")
    assert shown(page, "followed")[-1] == "row 13999"
    page.evaluate("followed.push('the next')")
    assert shown(page, "followed")[-1] == "row the next"


def test_keys_choose(page: Page) -> None:
    page.evaluate("selectable.replace(Array.from({ length: 10000 }, (_, index) => index))")
    rows = page.locator("#chosen")
    for key in ("ArrowDown", "ArrowDown", "PageDown", "End", "ArrowUp", "Home"):
        rows.press(key)
    assert page.evaluate("chosen") == [0, 1, 10, 9999, 9998, 0]
    page.locator("#chosen .row").nth(3).click()
    assert page.evaluate("chosen.at(-1)") == 3
    shown(page, "chosen")
    active = rows.get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").inner_text() == "row 3"
    assert page.locator("#chosen [aria-selected=true]").count() == 1


def test_focus_stays_with_its_row(page: Page) -> None:
    page.evaluate("keyed.replace(Array.from({ length: 100 }, (_, index) => index))")
    page.get_by_role("button", name="button 3", exact=True).focus()
    page.evaluate("keyed.replace(['new', ...Array.from({ length: 100 }, (_, index) => index)])")
    shown(page, "keyed")
    assert page.evaluate("document.activeElement.textContent") == "button 3"
    page.evaluate("document.getElementById('keyed').scrollTop = 1500")
    assert "button 3" in shown(page, "keyed")
    assert page.evaluate("document.activeElement.textContent") == "button 3"
    page.evaluate("keyed.replace(['other'])")
    assert shown(page, "keyed") == ["button other"]


def test_a_list_without_rows_says_so(page: Page) -> None:
    shown(page, "followed")
    assert page.get_by_text("Nothing yet.").is_visible()
    assert page.locator("#followed").is_hidden()
    page.evaluate("followed.push(1)")
    assert shown(page, "followed") == ["row 1"]
    assert page.get_by_text("Nothing yet.").is_hidden()
    page.evaluate("followed.clear()")
    shown(page, "followed")
    assert page.get_by_text("Nothing yet.").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser: Browser, url: str, scheme: Scheme) -> None:
    with open_page(browser, url, size=(360, 740), scheme=scheme) as page:
        page.wait_for_function("window.keyed")
        page.evaluate("for (const list of [followed, selectable, keyed]) list.push(1, 2, 3)")
        page.evaluate("selectable.select(1)")
        shown(page, "chosen")
        assert_accessible(page)
        assert_no_sideways_scrolling(page)


def misbehave(browser: Browser, url: str) -> None:
    with open_page(browser, url) as page:
        page.evaluate("fetch('https://elsewhere.example/').catch(() => {})")
        page.evaluate("fetch('/nothing').then(() => 0)")
        page.evaluate("setTimeout(() => { throw new Error('nobody catches it') })")
        page.evaluate("() => new Promise((done) => setTimeout(done))")


def test_what_a_page_complains_about_is_a_failure(browser: Browser, url: str) -> None:
    with pytest.raises(AssertionError) as raised:
        misbehave(browser, url)
    for complaint in ("policy violated: connect-src", "HTTP 404", "uncaught: nobody catches it"):
        assert complaint in str(raised.value)
