"""Pages in a real headless Chromium: opened at a size and in a colour scheme, watched, and checked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import Factory, define
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, Response

Scheme = Literal["light", "dark"]

DESKTOP = (1360, 900)
PHONE = (360, 740)

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# No outside network, and no sandbox: in a container there may be neither user nor kernel for one.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 10_000
"""How long any step in a page may take, in milliseconds."""

_GRAVE = ("serious", "critical")


def find_chromium() -> str:
    """The path of Chromium; the test is skipped where there is none, or fails where there has to be one."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    message = "Chromium is not installed (Debian's package is chromium)."
    if os.environ.get("CI") or os.environ.get("LOCALFUL_WS_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


def launch(playwright: Playwright) -> Browser:
    """Start Chromium."""
    return playwright.chromium.launch(executable_path=find_chromium(), args=[*FLAGS])


@define(eq=False, slots=False)  # Playwright notes on the object which of its methods it calls
class Watch:
    """What a page complains about: errors in its console, violations of its policy, files that don't come.

    Attributes:
        complaints: What went wrong so far.
        expected: Parts of complaints that are no fault of the page.
    """

    complaints: list[str] = Factory(list)
    expected: list[str] = Factory(list)

    def note(self, complaint: str) -> None:
        """Take note of something, unless it was expected."""
        if not any(part in complaint for part in self.expected):
            self.complaints.append(complaint)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.note(f"console {message.type}: {message.text}")

    def _error(self, error: Any) -> None:
        self.note(f"uncaught: {error}")

    def _failed(self, request: Request) -> None:
        self.note(f"failed: {request.method} {request.url} {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400:
            self.note(f"HTTP {response.status}: {response.request.method} {response.url}")

    def follow(self, page: Page) -> None:
        """Watch a page."""
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("requestfailed", self._failed)
        page.on("response", self._response)


@contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Scheme = "light",
    expected: tuple[str, ...] = (),
) -> Iterator[Page]:
    """Open a page in a profile of its own; at the end, whatever it complained about is a failure.

    Args:
        browser: The browser.
        url: Where the page is.
        size: Width and height of the window.
        scheme: Light or dark.
        expected: Parts of complaints that the test brings about, such as a refused request.
    """
    watch = Watch(expected=[*expected])
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        context.set_default_timeout(PATIENCE)
        # Violations that are reported, but not to the console.
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) =>"
            " console.error('policy violated: ' + event.violatedDirective + ' ' + event.blockedURI))"
        )
        page = context.new_page()
        watch.follow(page)
        page.goto(url)
        yield page
    finally:
        context.close()
    assert not watch.complaints, "\n".join(watch.complaints)


def assert_accessible(page: Page) -> None:
    """Have axe-core look for faults; serious and critical ones are a failure."""
    # Its files run in the page, past the page's policy: Playwright evaluates them.
    found = Axe().run(page).response
    grave = [violation for violation in found["violations"] if violation["impact"] in _GRAVE]
    assert not grave, "\n".join(_describe(violation) for violation in grave)
    assert found["passes"], "axe-core found nothing to look at"


def assert_no_sideways_scrolling(page: Page) -> None:
    """See that the page is no wider than the window."""
    wide = page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.body.querySelectorAll("*")]
            .filter((element) => element.getBoundingClientRect().right > width + 0.5)
            .map((element) => element.outerHTML.slice(0, 120));
        }"""
    )
    assert wide == []


def save_screenshot(page: Page, path: Path, *, full: bool = False) -> None:
    """Save a picture of what is in view, or of the whole page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=full, animations="disabled", caret="hide")


def _describe(violation: dict[str, Any]) -> str:
    nodes = "; ".join(f"{node['target']} {node['html'][:160]}" for node in violation["nodes"][:5])
    return f"{violation['impact']}: {violation['id']}: {violation['help']}: {nodes}"
