"""What the console looks like: it is accessible, it fits, and pictures are drawn of it."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.browsing import (
    DESKTOP,
    PHONE,
    Scheme,
    assert_accessible,
    assert_no_sideways_scrolling,
    open_page,
    save_screenshot,
)
from tests.browser.console_page import ITEM, connected, console, eventually, log_in, look_up, panel, url_of
from tests.end_to_end.process import DaemonProcess
from tests.spec_document import ROOT

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


def busy(first: dict[str, Any], step: int) -> dict[str, Any]:
    """What a daemon with much to do might say, so many steps of six seconds after the first answer."""
    answer: dict[str, Any] = json.loads(json.dumps(first))
    wave = [2 * math.sin(at / 9) + math.sin(at / 4) + math.sin(at * 1.7) / 2 for at in range(step + 1)]
    published = sum(round(540 + 90 * height) for height in wave)
    opened = sum(round(72 + 9 * height) for height in wave)
    gone = sum(round(66 + 12 * wave[max(0, at - 2)]) for at in range(step + 1))
    answer["time"] = first["time"] + 6 * step
    answer["startedAt"] = first["time"] - 400_000
    answer["connections"] = {"awaiting-auth": step % 3, "authenticated": 8140 + opened - gone, "closed": 0}
    answer["users"] = 3304 + (opened - gone) // 3
    answer["connectionsOpened"] = 61_200 + opened
    answer["authentications"] = 140_100 + opened
    answer["authenticationFailures"] |= {"unauthorized": 41}
    answer["resumes"] = {"true": 48_870 + opened, "false": 312}
    answer["closes"] |= {
        "device-closed": 30_118 + gone // 2,
        "connection-lost": 21_734 + gone // 3,
        "ping-timeout": 940 + gone // 9,
        "token-expired": 262 + gone // 60,
        "slow-consumer": 3,
        "forbidden": 88,
    }
    answer["slowConsumers"] = 3
    answer["sendBuffer"] = {"peakEvents": 212, "peakBytes": 96_000 + 41_000 * (step // 22)}
    answer["events"]["accepted"] |= {"item-create": 1_204_000 + published, "version-create": 3_310_000}
    answer["events"] |= {"delivered": 10_330_000 + 2 * published, "echoes": 4_100_000 + published}
    bounds = {"0.001": 0.62, "0.0025": 0.97}
    answer["publishToWrite"] = {
        "count": published,
        "sum": published / 1000,
        "upTo": {
            bound: round(published * next((share for least, share in bounds.items() if bound == least), 1.0))
            for bound in first["publishToWrite"]["upTo"]
            if float(bound) >= 0.001
        },
    }
    figures = {"history_events": 31_420, "history_bytes": 34e6, "publish_ids": 30_877}
    for figure in answer["engine"]["figures"]:
        figure["value"] = figures.get(figure["name"], 0)
    answer["process"] = {
        "memoryBytes": 131e6 + 2e5 * math.sin(step),
        "cpuSeconds": 9000 + 0.9 * step + 0.3 * math.sin(step / 9),
        "openFiles": 8190 + opened - gone,
        "maxFiles": 65536,
    }
    return answer


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("light", DESKTOP, "light"), ("dark", DESKTOP, "dark"), ("phone", PHONE, "light")],
)
def test_pictures_of_the_overview(
    browser: Browser,
    daemon: DaemonProcess,
    pictures: Path,
    name: str,
    size: tuple[int, int],
    scheme: Scheme,
) -> None:
    first = daemon.http.get("/console/api/overview").json()
    steps = 0

    def answer(route: Route) -> None:
        nonlocal steps
        steps += 1
        route.fulfill(json=busy(first, steps))

    def poll(page: Page) -> None:
        before = steps
        page.clock.run_for(2000)
        eventually(page, lambda: steps > before)

    with open_page(browser, url_of(daemon), size=size, scheme=scheme) as page:
        page.clock.install()
        page.route("**/console/api/overview?", answer)
        log_in(page)
        expect(page.get_by_text("all is well")).to_be_visible()
        for _ in range(55):
            poll(page)
        assert_accessible(page)
        page.mouse.move(0, 0)
        save_screenshot(page, pictures / f"console-{name}.png", full=size == DESKTOP)


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
