"""The operator's console in a real browser, beside a real daemon with real devices."""

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.browsing import (
    assert_accessible,
    open_page,
)
from tests.browser.console_page import (
    AWAY,
    ITEM,
    REFUSED,
    connected,
    console,
    eventually,
    log_in,
    look_up,
    panel,
    url_of,
)
from tests.end_to_end.process import PUBLISHER_KEY, DaemonProcess

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as running:
        yield running


# --- the key ---


def test_a_wrong_key_is_refused_and_the_right_one_kept_in_memory_only(
    browser: Browser, daemon: DaemonProcess
) -> None:
    with open_page(browser, url_of(daemon), expected=REFUSED) as page:
        expect(page.get_by_label("Key", exact=True)).to_be_focused()
        log_in(page, "short")
        expect(page.get_by_role("alert")).to_contain_text("at least 16 characters")
        log_in(page, "this is no key \N{SNOWMAN}")
        expect(page.get_by_role("alert")).to_contain_text("at least 16 characters")
        log_in(page, PUBLISHER_KEY[::-1])
        expect(page.get_by_role("alert")).to_have_text("The daemon does not take this key.")
        expect(page.get_by_label("Key", exact=True)).to_be_focused()
        expect(page.get_by_role("navigation")).to_be_hidden()
        log_in(page, f" {PUBLISHER_KEY} ")
        expect(page.get_by_text("all is well")).to_be_visible()
        kept = page.evaluate(
            "JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage},"
            " document.documentElement.outerHTML,"
            " [...document.querySelectorAll('input')].map((input) => input.value)])"
        )
        assert PUBLISHER_KEY not in kept
        page.get_by_role("button", name="Forget the key").click()
        expect(page.get_by_label("Key", exact=True)).to_be_focused()
        log_in(page)
        expect(page.get_by_text("all is well")).to_be_visible()
        page.reload()
        expect(page.get_by_label("Key", exact=True)).to_be_focused()


def test_a_key_that_is_refused_later(browser: Browser, daemon: DaemonProcess) -> None:
    with console(browser, daemon, expected=REFUSED) as page:
        page.route("**/console/api/**", lambda route: route.fulfill(status=401, json={"message": "No."}))
        expect(page.get_by_role("alert")).to_contain_text("It may have been changed.")
        expect(page.get_by_role("heading", name="The last minutes")).to_be_hidden()


# --- what it shows ---


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile", has=page.get_by_text(name, exact=True)).locator(".tile-value")


def test_the_overview_is_alive(browser: Browser, daemon: DaemonProcess) -> None:
    with (
        connected(daemon, "ada", "laptop", "v1"),
        connected(daemon, "ada", "phone"),
        console(browser, daemon) as page,
    ):
        expect(tile(page, "Connections")).to_have_text("2")
        expect(tile(page, "Users")).to_have_text("1")
        expect(panel(page, "Engine")).to_contain_text("memory")
        chart = page.get_by_role("img", name=re.compile("^Events a second"))
        expect(chart.locator("path.line-1")).to_have_attribute("d", re.compile(r"\d"))
        before = chart.locator("path.line-1").get_attribute("d")
        for _ in range(3):
            daemon.publish(*[ITEM] * 20)
            page.wait_for_timeout(700)
        expect(tile(page, "Events delivered")).not_to_have_text("0/s")
        expect(chart).to_have_attribute("aria-label", re.compile(r"accepted now \d.*at most [1-9]"))
        assert chart.locator("path.line-1").get_attribute("d") != before
        with connected(daemon, "bob", "tablet"):
            expect(tile(page, "Connections")).to_have_text("3")
            daemon.http.post("/v1/disconnect", json={"user": "bob", "group": "tablet"})
        expect(panel(page, "Closes by reason").get_by_role("row", name="forbidden")).to_be_visible()
        page.get_by_text("The same as a table").click()
        expect(
            page.get_by_role("region", name="Figures of the last minutes").get_by_role("row")
        ).not_to_have_count(1)


def test_a_user_is_looked_up(browser: Browser, daemon: DaemonProcess) -> None:
    many = [f"vault-{number}" for number in range(300)]
    with (
        connected(daemon, "uma", "uma-laptop", *many),
        connected(daemon, "uma", "uma-phone"),
        console(browser, daemon) as page,
    ):
        look_up(page, "uma")
        devices = page.get_by_role("list", name="Devices of uma")
        expect(devices.get_by_role("listitem")).to_have_count(2)
        expect(devices.get_by_role("listitem").first).to_contain_text(
            "300 vaults: vault-0, vault-1, vault-2, …"
        )
        expect(devices.get_by_role("listitem").last).to_contain_text("no vault")
        expect(page.get_by_role("option", name="uma")).to_contain_text("2 devices")
        devices.get_by_role("button", name="300 vaults").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("300 vaults")
        vaults = dialog.get_by_role("list")
        expect(vaults.get_by_text("vault-0", exact=True)).to_be_visible()
        vaults.press("End")
        expect(vaults.get_by_text("vault-299")).to_be_visible()
        assert_accessible(page)
        dialog.get_by_role("button", name="Close").click()
        look_up(page, "nobody / here?")
        expect(page.get_by_text("This user has no device connected here.")).to_be_visible()
        page.go_back()
        page.go_back()
        expect(page.get_by_role("heading", name="User uma")).to_be_visible()


# --- what it does ---


def test_disconnecting_a_login_and_a_user(browser: Browser, daemon: DaemonProcess) -> None:
    with (
        connected(daemon, "dora", "laptop") as laptop,
        connected(daemon, "dora", "phone") as phone,
        connected(daemon, "dora", "phone") as its_other,
        connected(daemon, "dirk", "phone") as namesake,
        console(browser, daemon) as page,
    ):
        look_up(page, "dora")
        this_login = page.get_by_role("button", name="Disconnect user dora, group phone").first
        this_login.click()
        dialog = page.get_by_role("dialog", name="Disconnect user dora, group phone?")
        expect(dialog).to_contain_text("Closes 2 connections here and those on other nodes, of this login")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        assert phone.closed is None
        this_login.click()
        page.keyboard.press("Escape")
        assert phone.closed is None
        this_login.click()
        dialog.get_by_role("button", name="Disconnect login").click()
        expect(page.get_by_text("Disconnected: 2 connections closed.")).to_be_visible()
        eventually(page, lambda: phone.closed == its_other.closed == 4403)
        expect(page.get_by_role("list", name="Devices of dora").get_by_role("listitem")).to_have_count(1)
        assert laptop.closed is None
        page.get_by_role("button", name="Disconnect user…").click()
        expect(page.get_by_role("dialog")).to_contain_text("Closes 1 connection here")
        page.get_by_role("dialog").get_by_role("button", name="Disconnect user").click()
        eventually(page, lambda: laptop.closed == 4403)
        expect(page.get_by_text("This user has no device connected here.")).to_be_visible()
        assert namesake.closed is None


def test_a_test_event_reaches_devices_and_the_watch(browser: Browser, daemon: DaemonProcess) -> None:
    with (
        connected(daemon, "wanda", "wanda-laptop", "v1") as laptop,
        connected(daemon, "wanda", "wanda-phone", "v1") as phone,
        console(browser, daemon) as page,
    ):
        look_up(page, "wanda")
        watch, send = panel(page, "Events"), panel(page, "Send a test event")
        watch.get_by_role("button", name="Watch").click()
        expect(watch).to_contain_text("watching")
        send.get_by_label("Vault").fill("v1")
        send.get_by_label("Origin group").fill("wanda-phone")
        send.get_by_label("Data, as JSON").fill('{"id": ')
        send.get_by_role("button", name="Send").click()
        expect(send).to_contain_text("The data is not JSON.")
        send.get_by_label("Data, as JSON").fill('{"id": "<b>i7</b>"}')
        send.get_by_role("button", name="Send").click()
        expect(send).to_contain_text("1 event accepted.")
        eventually(page, lambda: [event["event"] for event in laptop.events] == ["item-create"])
        assert laptop.events[0]["data"] == {"id": "<b>i7</b>"}
        assert phone.events == []
        frame = watch.get_by_role("option")
        expect(frame).to_contain_text("item-create")
        expect(frame).to_contain_text("by wanda-phone")
        frame.click()
        expect(watch.get_by_label("The chosen event")).to_contain_text('"id": "<b>i7</b>"')
        # It would end connections: that is asked for.
        send.get_by_label("Event", exact=True).select_option("user-delete")
        expect(send.get_by_label("Vault")).to_be_disabled()
        send.get_by_role("button", name="Send").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert (laptop.closed, phone.closed) == (None, None)
        watch.get_by_role("button", name="Stop").click()
        daemon.publish(ITEM | {"user": "wanda"})
        eventually(page, lambda: len(laptop.events) == 2)
        expect(watch.get_by_role("option")).to_have_count(1)
        watch.get_by_role("button", name="Clear").click()
        expect(watch.get_by_role("option")).to_have_count(0)


def test_a_watch_that_breaks_goes_on_where_it_was(browser: Browser, daemon: DaemonProcess) -> None:
    with console(browser, daemon, expected=AWAY) as page:
        look_up(page, "resa")
        requests: list[str] = []

        def answer(route: Route) -> None:
            requests.append(route.request.url)
            if len(requests) == 1:
                lines = [
                    {"type": "watching", "time": 1, "user": "resa", "cursor": "c.1"},
                    {
                        "type": "event",
                        "time": 1,
                        "event": "user-update",
                        "cursor": "c.2",
                        "bytes": 4,
                        "data": 1,
                    },
                    {"type": "missed", "time": 1, "count": 7},
                ]
                route.fulfill(status=200, body="".join(json.dumps(line) + "\n" for line in lines))
            elif len(requests) == 2:
                route.fulfill(status=503, json={"message": "Come later."})
            else:
                route.continue_()

        page.route("**/console/api/watch?**", answer)
        watch = panel(page, "Events")
        watch.get_by_role("button", name="Watch").click()
        expect(watch.get_by_text("7 events not shown: more came than could be taken.")).to_be_visible()
        expect(watch).to_contain_text("Come later. Trying again.")
        # That cursor is none of this daemon's.
        expect(watch.get_by_text("what happened meanwhile can't be had any more")).to_be_visible()
        assert all(url.endswith("since=c.2") for url in requests[1:])


# --- for everybody ---


def test_it_works_by_keyboard_alone(browser: Browser, daemon: DaemonProcess) -> None:
    with (
        connected(daemon, "kim", "kim-laptop") as laptop,
        open_page(browser, url_of(daemon)) as page,
    ):
        page.keyboard.type(PUBLISHER_KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_text("all is well")).to_be_visible()

        def tab_to(wanted: Locator, key: str = "Tab") -> None:
            for _ in range(60):
                if wanted.evaluate("(element) => element === document.activeElement"):
                    return
                page.keyboard.press(key)
            raise AssertionError("it can't be reached by keyboard")

        tab_to(page.get_by_role("link", name="Users"), "Shift+Tab")
        page.keyboard.press("Enter")
        tab_to(page.get_by_role("searchbox"))
        page.keyboard.type("kim")
        expect(page.get_by_role("option", name="kim")).to_be_visible()
        tab_to(page.get_by_role("listbox", name="Users"))
        page.keyboard.press("ArrowDown")
        expect(page.get_by_role("heading", name="User kim")).to_be_visible()
        tab_to(page.get_by_role("button", name="Watch"))
        page.keyboard.press("Enter")
        expect(panel(page, "Events")).to_contain_text("watching")
        tab_to(page.get_by_label("Event", exact=True))
        page.keyboard.type("user-u")
        tab_to(page.get_by_role("button", name="Send"))
        page.keyboard.press("Enter")
        eventually(page, lambda: [event["event"] for event in laptop.events] == ["user-update"])
        tab_to(page.get_by_role("button", name="Disconnect user…"), "Shift+Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        eventually(page, lambda: laptop.closed == 4403)
