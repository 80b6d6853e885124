"""What the console looks like: it is accessible, it fits, and pictures are drawn of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from end_to_end.process import DaemonProcess
from playwright.sync_api import Browser, Page, expect
from spec_document import ROOT

from browser.browsing import (
    DESKTOP,
    PHONE,
    Scheme,
    assert_accessible,
    assert_no_sideways_scrolling,
    open_page,
    save_screenshot,
)
from browser.console_page import ITEM, connected, console, look_up, panel, url_of

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where the pictures go: thrown away, unless somebody wants them."""
    wanted = os.environ.get("LOCALFUL_WS_SCREENSHOTS")
    return ROOT / wanted if wanted else tmp_path


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")],
)
def test_it_is_accessible_and_fits(
    browser: Browser,
    daemon: DaemonProcess,
    pictures: Path,
    name: str,
    size: tuple[int, int],
    scheme: Scheme,
) -> None:
    def check(page: Page) -> None:
        assert_accessible(page)
        assert_no_sideways_scrolling(page)

    with open_page(browser, url_of(daemon), size=size, scheme=scheme) as page:
        check(page)
    with (
        connected(daemon, "ada", "ada-laptop", "v1", "v2", "a-vault-with-a-rather-long-name"),
        connected(daemon, "ada", "ada-phone", "v1"),
        connected(daemon, "a-user-whose-id-is-long-" + "x" * 100, "its-tablet"),
        console(browser, daemon, size=size, scheme=scheme) as page,
    ):
        for _ in range(4):
            daemon.publish(*[ITEM | {"group": "ada-phone"}] * 5)
            page.wait_for_timeout(500)
        save_screenshot(page, pictures / f"console-{name}.png")
        page.get_by_text("The same as a table").click()
        check(page)
        page.get_by_role("link", name="Users").click()
        expect(page.get_by_role("option", name="ada")).to_be_visible()
        check(page)
        look_up(page, "ada")
        page.get_by_role("button", name="Watch").click()
        expect(panel(page, "Events")).to_contain_text("watching")
        daemon.publish(*[ITEM | {"group": "ada-phone"}] * 5)
        panel(page, "Events").get_by_role("option").first.click()
        check(page)
        page.mouse.move(0, 0)
        save_screenshot(page, pictures / f"console-user-{name}.png")
        page.get_by_role("button", name="Disconnect user…").click()
        check(page)
        page.keyboard.press("Escape")
        look_up(page, "a-user-whose-id-is-long-" + "x" * 100) if size == DESKTOP else None
        assert_no_sideways_scrolling(page)
