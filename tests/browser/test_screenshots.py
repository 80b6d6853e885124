"""The pictures in the README. `make screenshots` keeps them; otherwise they are drawn and thrown away."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import PHONE, Scheme, save_screenshot
from tests.browser.demo_page import Demo, DemoPage, open_demo, running_demo
from tests.spec_document import ROOT

pytestmark = pytest.mark.browser

MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def demo(browser: Browser) -> Iterator[Demo]:
    with running_demo() as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where the pictures go."""
    wanted = os.environ.get("LOCALFUL_WS_SCREENSHOTS")
    return ROOT / wanted if wanted else tmp_path


def save(page: DemoPage, path: Path) -> None:
    # Nothing is hovered over or focused, and nothing new stands out any more.
    page.page.mouse.move(0, 0)
    page.page.evaluate("document.activeElement.blur()")
    expect(page.page.locator(".content-row.fresh")).to_have_count(0)
    save_screenshot(page.page, path, full=True)
    assert 5_000 < path.stat().st_size < MOST_BYTES


def play(page: DemoPage) -> None:
    """Some changes, each of which ends in another way."""
    page.press("phone", "New vault, by Ada's phone")
    page.answer("Create", "Ideas")
    page.expect_state("laptop", "connected")
    page.panel("laptop").get_by_role("checkbox", name="Subscribed to Travel").uncheck()
    expect(page.panel("laptop")).to_contain_text("not subscribed")
    page.press("tablet", "Edit Bread: 500 g flour, 350 g water")
    page.answer("Save", "Bread: 500 g flour, 360 g water")
    page.press("phone", "New item in Travel")
    page.expect_fates("not subscribed", "made the change", "another user")
    page.press("laptop", "Edit Books to read this winter")
    page.answer("Save", "Books to read this spring")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_demo(browser: Browser, demo: Demo, pictures: Path, scheme: Scheme) -> None:
    with open_demo(browser, demo, scheme=scheme) as page:
        play(page)
        if scheme == "dark":
            page.panel("phone").get_by_role("switch", name="Online").uncheck()
            page.press("laptop", "New item in Notes")
            page.expect_fates("made the change", "offline", "another user")
            page.open_drawer("laptop", "Frames")
            page.panel("laptop").locator(".frame.in", has_text="vault-create").click()
        save(page, pictures / f"demo-{scheme}.png")


def test_demo_on_a_phone(browser: Browser, demo: Demo, pictures: Path) -> None:
    with open_demo(browser, demo, size=PHONE) as page:
        page.press("laptop", "New item in Notes")
        page.press("laptop", "Write into empty note")
        page.answer("Save", "Water the plants")
        page.panel("laptop").get_by_role("checkbox", name="Subscribed to Travel").uncheck()
        save(page, pictures / "demo-phone.png")
