"""The console when something is away, and when there are very many."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.browsing import assert_accessible
from tests.browser.console_page import AWAY, ITEM, REFUSED, connected, console, look_up, panel
from tests.end_to_end.process import DaemonProcess
from tests.redis_server import RedisServer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as running:
        yield running


# --- when something is wrong ---


def test_a_daemon_that_goes_away(browser: Browser) -> None:
    trouble = ("failed:", "net::ERR", *REFUSED)
    with DaemonProcess() as mortal, console(browser, mortal, expected=trouble) as page:
        look_up(page, "ada")
        mortal.end()
        problem = page.locator(".problem")
        expect(problem).to_contain_text("The daemon can't be reached. What you see is not fresh.")
        expect(page.locator("#state")).to_have_text("not reached")
        expect(problem.get_by_role("button", name="Try now")).to_be_visible()
        assert_accessible(page)


def test_the_engine_is_away_and_comes_back(browser: Browser) -> None:
    with (
        RedisServer() as redis,
        DaemonProcess("--engine", redis.url, "--redis-retry", "0.5") as daemon,
        console(browser, daemon, expected=AWAY) as page,
    ):
        expect(page.get_by_text("all is well")).to_be_visible()
        expect(panel(page, "Engine")).to_contain_text(f"127.0.0.1:{redis.port}")
        redis.kill()
        problem = page.locator(".problem", has_text="Redis can't be reached just now.")
        expect(problem).to_contain_text("Devices stay connected")
        look_up(page, "ada")
        page.get_by_role("button", name="Watch").click()
        expect(panel(page, "Events")).to_contain_text("Trying again.")
        redis.start()
        expect(problem).to_be_hidden()
        expect(panel(page, "Events")).to_contain_text("watching")
        daemon.publish(ITEM)
        expect(panel(page, "Events").get_by_role("option")).to_contain_text("item-create")


def test_redis_refuses_what_is_written(browser: Browser, daemon: DaemonProcess) -> None:
    reason = "Redis refuses what is written: OOM command not allowed."

    overview = daemon.http.get("/console/api/overview").json()
    overview["unavailable"], overview["engine"]["up"] = reason, False
    with console(browser, daemon) as page:
        page.route("**/console/api/overview?", lambda route: route.fulfill(json=overview))
        problem = page.locator(".problem.bad")
        expect(problem.locator("strong")).to_have_text(reason)
        expect(problem).to_contain_text("new devices are turned away meanwhile")
        expect(panel(page, "Engine")).to_contain_text("unavailable")
        page.unroute("**/console/api/overview?")
        expect(page.get_by_text("all is well")).to_be_visible()


def test_redis_comes_back_empty(browser: Browser) -> None:
    with (
        RedisServer() as redis,
        DaemonProcess("--engine", redis.url, "--redis-retry", "0.5") as daemon,
        connected(daemon, "ada", "laptop"),
        connected(daemon, "ada", "phone"),
        console(browser, daemon) as page,
    ):
        expect(page.get_by_text("all is well")).to_be_visible()
        redis.kill()
        redis.start()
        problem = page.locator(".problem.warn")
        expect(problem).to_contain_text("2 devices were closed in the last five minutes")
        expect(problem).to_contain_text("fetch a snapshot")
        expect(page.locator("#state")).to_have_text("trouble")
        expect(page.locator("#state .badge.warn")).to_be_visible()
        assert_accessible(page)


# --- very many ---


@contextmanager
def crowd(page: Page, users: Sequence[str], devices: int) -> Iterator[None]:
    """Have the daemon speak of more users and devices than there are."""

    def answer_users(route: Route) -> None:
        query = dict(re.findall(r"(\w+)=([^&]*)", route.request.url))
        found = [user for user in users if user > query["after"] and user.startswith(query["prefix"])]
        limit = int(query["limit"])
        rows = [{"user": user, "connections": 1 + int(user[1:]) % 7} for user in found[:limit]]
        route.fulfill(json={"users": rows, **({"next": found[limit - 1]} if len(found) > limit else {})})

    def answer_devices(route: Route) -> None:
        device = {
            "state": "authenticated",
            "connectedAt": 1000,
            "issuedAt": None,
            "expiresAt": 5000,
            "subscribed": 1,
            "vaults": ["v1"],
            "waitingEvents": 0,
            "waitingBytes": 0,
        }
        rows = [{"group": f"g{number:05}", **device} for number in range(devices)]
        route.fulfill(json={"user": "u", "time": 2000, "total": devices, "devices": rows})

    page.route("**/console/api/users?**", answer_users)
    page.route("**/console/api/devices?**", answer_devices)
    yield
    page.unroute("**/console/api/users?**")
    page.unroute("**/console/api/devices?**")


def test_ten_thousand_users_and_devices(browser: Browser, daemon: DaemonProcess) -> None:
    users = [f"u{number:05}" for number in range(12_345)]
    with console(browser, daemon) as page, crowd(page, users, 10_000):
        page.get_by_role("link", name="Users").click()
        expect(page.locator("#users-count")).to_have_text("10,000 users")
        expect(page.get_by_text("These are the first 10,000")).to_be_visible()
        rows = page.get_by_role("listbox", name="Users")
        assert rows.locator(".row").count() < 60
        rows.press("End")
        expect(rows.get_by_role("option", name="u09999")).to_be_visible()
        page.get_by_label("Most connections first").check()
        rows.press("Home")
        expect(rows.get_by_role("option").first).to_contain_text("7 devices")
        page.get_by_role("searchbox").fill("u1234")
        expect(page.locator("#users-count")).to_have_text("5 users")
        rows.get_by_role("option", name="u12344").click()
        devices = page.get_by_role("list", name="Devices of u12344")
        expect(page.get_by_text("10,000 devices connected")).to_be_visible()
        assert devices.locator(".row").count() < 60
        devices.press("End")
        expect(devices.get_by_text("g09999")).to_be_visible()
        took = page.evaluate(
            """() => new Promise((done) => {
              const list = document.querySelector(".device-rows");
              const began = performance.now();
              let left = 20;
              const step = () => {
                list.scrollTop = (left * 9973 * 52) % list.scrollHeight;
                if (--left > 0) requestAnimationFrame(step);
                else done((performance.now() - began) / 20);
              };
              step();
            })"""
        )
        assert took < 200


def test_loading_very_many_shows_how_far_it_is(browser: Browser, daemon: DaemonProcess) -> None:
    held: list[Route] = []
    with console(browser, daemon) as page:

        def answer(route: Route) -> None:
            if "after=&" in route.request.url:
                rows = [{"user": f"u{number:05}", "connections": 1} for number in range(1000)]
                route.fulfill(json={"users": rows, "next": "u00999"})
            else:
                held.append(route)

        page.route("**/console/api/users?**", answer)
        page.get_by_role("link", name="Users").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.locator("#users-count")).to_have_text("1,000 so far")
        # What is there can be used meanwhile.
        expect(page.get_by_role("option", name="u00000")).to_be_visible()
        held.pop().fulfill(json={"users": [{"user": "u01000", "connections": 1}]})
        expect(page.locator("#users-count")).to_have_text("1,001 users")
        expect(page.get_by_role("progressbar")).to_be_hidden()
