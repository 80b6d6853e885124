"""The demo's page in a real browser: who is told of what, offline and back, tokens, and very long lists."""

import re
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import PHONE, Scheme, assert_accessible, assert_no_sideways_scrolling
from tests.browser.demo_page import DEVICES, Demo, DemoPage, open_demo, running_demo

pytestmark = pytest.mark.browser

TOLD = re.compile(r"^told in [\d.]+\s(ms|s)$")


@pytest.fixture(scope="module")
def demo(browser: Browser) -> Iterator[Demo]:
    """A demo for all tests of this module; the browser is first, since there may be none."""
    with running_demo() as running:
        yield running


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[DemoPage]:
    with open_demo(browser, demo) as opened:
        yield opened


def test_content_reaches_the_users_other_device_and_nobody_else(page: DemoPage) -> None:
    page.press("phone", "New vault, by Ada's phone")
    page.answer("Create", "Ideas")
    page.expect_fates(TOLD, "made the change", "another user")
    expect(page.panel("laptop").get_by_role("checkbox", name="Subscribed to Ideas")).to_be_checked()
    page.press("phone", "New item in Ideas")
    page.expect_fates(TOLD, "made the change", "another user")
    page.press("phone", "Write into empty note")
    page.answer("Save", "A kite")
    page.expect_fates(TOLD, "made the change", "another user")
    # The event has no content: the laptop has fetched it.
    first = (
        "Notes",
        "Books to read this winter",
        "Call the bank before noon",
        "Travel",
        "Lisbon, first week of May",
    )
    page.expect_items("laptop", *first, "Ideas", "A kite")
    page.expect_items("phone", *first, "Ideas", "A kite")

    # The other way round, and what is deleted.
    page.press("laptop", "Rename Ideas")
    page.answer("Rename", "Plans")
    page.expect_fates("made the change", TOLD, "another user")
    page.press("laptop", "Versions of A kite")
    page.press("laptop", "Delete the version A kite")
    page.expect_fates("made the change", TOLD, "another user")
    page.press("laptop", "Delete empty note")
    page.expect_items("phone", *first, "Plans")
    page.press("laptop", "Delete Plans")
    page.answer("Delete")
    page.expect_items("phone", *first)
    page.expect_told("laptop", ["vault-create", "item-create", "version-create"])
    page.expect_told("phone", ["vault-update", "version-delete", "item-delete", "vault-delete"])

    # Bob's own changes reach none of Ada's.
    page.press("tablet", "New item in Recipes")
    page.expect_fates("another user", "another user", "made the change")
    page.expect_told("tablet", [])
    expect(page.panel("tablet").get_by_label("Ask for Ada's vaults")).to_be_checked()


def test_profile_email_and_password(browser: Browser, demo: Demo) -> None:
    with open_demo(browser, demo) as page:
        for device in ("laptop", "phone"):
            page.open_drawer(device, "Account")
        page.press("laptop", "Change the profile, by Ada's laptop")
        page.answer("Change", "Ada Lovelace")
        page.press("phone", "Change the e-mail address, by Ada's phone")
        page.answer("Change", "ada@lovelace.example")
        for device in ("laptop", "phone"):
            expect(page.panel(device)).to_contain_text("Ada Lovelace · ada@lovelace.example")
        page.press("laptop", "Change the password, by Ada's laptop")
        page.answer("Change", "a better password")
        page.expect_fates("made the change", TOLD, "another user")
        page.expect_told("phone", ["user-update", "user-password-change"])
        # The other logins have ended.
        page.expect_state("phone", "closed")
        expect(page.panel("phone").get_by_role("status")).to_contain_text("4403")
        page.press("laptop", "New item in Notes")
        page.expect_fates("made the change", "logged out", "another user")
        page.press("phone", "Log in again on Ada's phone")
        page.expect_state("phone", "connected")
        page.press("phone", "New item in Notes")
        page.expect_fates(TOLD, "made the change", "another user")


def test_who_unsubscribes_is_not_told_of_data(page: DemoPage) -> None:
    notes = page.panel("laptop").get_by_role("checkbox", name="Subscribed to Notes")
    notes.uncheck()
    expect(page.panel("laptop")).to_contain_text("not subscribed")
    page.press("phone", "New item in Notes")
    page.expect_fates("not subscribed", "made the change", "another user")
    page.press("phone", "New item in Travel")
    page.expect_fates(TOLD, "made the change", "another user")
    # Of the vault itself it is told all the same.
    page.press("phone", "Rename Notes")
    page.answer("Rename", "Remarks")
    page.expect_fates(TOLD, "made the change", "another user")
    page.expect_told("laptop", ["item-create", "vault-update"])
    # Subscribed again, it fetches what it wasn't told.
    page.panel("laptop").get_by_role("checkbox", name="Subscribed to Remarks").check()
    expect(page.panel("laptop").locator(".item-row")).to_have_count(5)
    page.press("phone", "New item in Remarks")
    page.expect_fates(TOLD, "made the change", "another user")


def test_offline_and_back_it_is_told_what_it_missed(page: DemoPage) -> None:
    online = page.panel("phone").get_by_role("switch", name="Online")
    online.uncheck()
    page.expect_state("phone", "offline")
    for vault in ("Notes", "Travel", "Notes"):
        page.press("laptop", f"New item in {vault}")
        page.expect_fates("made the change", "offline", "another user")
    page.expect_told("phone", [])
    online.check()
    page.expect_state("phone", "connected")
    page.expect_fates("made the change", "told on return", "another user")
    page.expect_told("phone", ["item-create"] * 3)
    expect(page.panel("phone").get_by_role("status")).to_contain_text("it was told the 3 events it missed")
    expect(page.panel("phone").locator(".item-row")).to_have_count(6)
    # And it goes on from there.
    page.press("laptop", "New item in Notes")
    page.expect_fates("made the change", TOLD, "another user")


def test_who_missed_too_much_fetches_a_snapshot(page: DemoPage, demo: Demo) -> None:
    online = page.panel("phone").get_by_role("switch", name="Online")
    online.uncheck()
    page.expect_state("phone", "offline")
    page.press("laptop", "New item in Notes")
    page.expect_fates("made the change", "offline", "another user")
    user = user_of(page)
    for start in (0, 600):
        demo.publish(
            [
                {"event": "user-update", "user": user, "data": {"displayName": f"Ada {start + n}"}}
                for n in range(600)
            ]
        )
        expect(page.panel("laptop").locator(".section-head .badge")).to_have_text(f"{start + 600:,}")
    online.check()
    expect(page.panel("phone").get_by_role("status")).to_contain_text("it fetched a snapshot of everything")
    expect(page.panel("phone").locator(".item-row")).to_have_count(4)
    page.expect_told("phone", [])


def user_of(page: DemoPage) -> str:
    """Ada's id, from the first frame that the laptop received."""
    frames = page.panel("laptop").locator(".frames")
    page.open_drawer("laptop", "Frames")
    frames.locator(".frame.in").first.click()
    found = re.search(r'"user": "([^"]+)"', frames.locator(".frame-detail").inner_text())
    assert found
    return found[1]


def test_ten_thousand_frames_stay_usable(page: DemoPage, demo: Demo) -> None:
    user = user_of(page)
    panel = page.panel("laptop")
    for batch in range(10):
        names = [f"Ada {batch * 1000 + number}" for number in range(1000)]
        demo.publish(
            [{"event": "user-update", "user": user, "data": {"displayName": name}} for name in names]
        )
        for device in ("laptop", "phone"):
            number = page.panel(device).locator(".section-head .badge")
            expect(number).to_have_text(f"{(batch + 1) * 1000:,}", timeout=30_000)
    expect(page.panel("tablet").locator(".section-head .badge")).to_have_text("0")
    frames = panel.get_by_role("listbox", name="Frames of Ada's laptop")
    # It follows what arrives once the reader is at its end, and only what is in view is in the document.
    frames.press("End")
    expect(frames.locator(".row").last).to_contain_text("Ada 9999")
    assert page.page.locator(".row").count() < 250
    frames.press("Home")
    expect(frames.get_by_text("Ada 9999")).to_have_count(0)
    frames.press("PageDown")
    frames.press("End")
    expect(panel.locator(".frame-detail")).to_contain_text('"displayName": "Ada 9999"')
    # The page still answers at once.
    took = page.page.evaluate(
        "() => new Promise((done) => { const start = performance.now();"
        " requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start))) })"
    )
    assert took < 3000  # milliseconds; far less, but machines may be busy
    page.press("phone", "New item in Notes")
    page.expect_fates(TOLD, "made the change", "another user")
    expect(page.page.locator("#journal .row").first).to_have_attribute(
        "aria-setsize", re.compile(r"^(9|10)\d{3}$")
    )


def test_long_work_shows_progress_and_can_be_stopped(page: DemoPage) -> None:
    page.press("phone", "Create 1000 items, by Ada's phone")
    bar = page.panel("phone").get_by_role("progressbar", name="Creating items")
    expect(bar).to_be_visible()
    far = re.compile(r"Creating items: ([2-9]\d|\d{3}) of 1,000")
    expect(page.panel("phone").locator(".long-work")).to_contain_text(far, timeout=30_000)
    # Meanwhile the page is of use.
    page.press("laptop", "New item in Notes")
    page.press("phone", "Stop creating items")
    expect(bar).to_have_count(0)
    bulk = page.page.locator(".change", has_text="created")
    expect(bulk.filter(has_text=re.compile(r"created \d+ items in Notes"))).to_have_count(1)
    made = re.search(r"created (\d+) items", " ".join(bulk.all_inner_texts()))
    assert made
    assert int(made[1]) >= 20
    expect(bulk.filter(has_text=f"created {made[1]} items")).to_contain_text(f"told of {made[1]}")
    for device in ("laptop", "phone"):
        expect(page.panel(device).locator(".vault-row", has_text="Notes")).to_contain_text(
            str(int(made[1]) + 3)
        )


def test_no_token_is_shown(page: DemoPage) -> None:
    for device in DEVICES:
        page.open_drawer(device, "Frames")
        frames = page.panel(device).locator(".frames")
        sent = frames.locator(".frame.out", has_text="authenticate").first
        expect(sent).to_contain_text("…")
        sent.click()
        expect(frames.locator(".frame-detail")).to_contain_text('"event": "authenticate"')
    assert not re.search(r"eyJ[\w-]{10}", page.page.content())


def test_deleting_the_account_and_starting_over(browser: Browser, demo: Demo) -> None:
    with open_demo(browser, demo, expected=("403",)) as page:
        page.open_drawer("phone", "Account")
        page.press("phone", "Delete the account, by Ada's phone")
        page.answer("Delete")
        for device in ("laptop", "phone"):
            page.expect_state(device, "closed")
        page.expect_told("laptop", ["user-delete"])
        page.expect_state("tablet", "connected")
        page.press("laptop", "Log in again on Ada's laptop")
        expect(page.panel("laptop").get_by_role("status")).to_contain_text("start over")
        page.page.get_by_role("button", name="Start over").click()
        page.answer("Start over")
        for device in DEVICES:
            page.expect_state(device, "connected")
        page.press("phone", "New item in Notes")
        page.expect_fates(TOLD, "made the change", "another user")


def test_by_keyboard_alone(page: DemoPage) -> None:
    keyboard = page.page.keyboard
    page.panel("phone").get_by_role("button", name="New vault").focus()
    keyboard.press("Enter")
    keyboard.type("Typed")
    keyboard.press("Enter")
    expect(page.panel("laptop").locator(".vault-name", has_text="Typed")).to_be_visible()
    # The focus is back where the dialog was opened.
    assert page.page.evaluate("document.activeElement.textContent") == "New vault"
    add = page.panel("phone").get_by_role("button", name="New item in Notes")
    add.focus()
    keyboard.press("Enter")
    page.expect_fates(TOLD, "made the change", "another user")
    # It stays while rows are drawn anew: once more does the same.
    keyboard.press("Enter")
    expect(page.panel("laptop").locator(".vault-row", has_text="Notes")).to_contain_text("4")
    # What became of it is said as well.
    expect(page.page.locator("#live")).to_contain_text(
        "Ada's phone created an item in Notes. Ada's laptop: told in"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser: Browser, demo: Demo, scheme: Scheme) -> None:
    with open_demo(browser, demo, scheme=scheme) as page:
        for device in DEVICES:
            for drawer in ("Account", "Frames"):
                page.open_drawer(device, drawer)
        page.panel("laptop").locator(".frame.in").first.click()
        page.panel("tablet").get_by_role("switch", name="Online").uncheck()
        page.press("phone", "New item in Notes")
        page.expect_fates(TOLD, "made the change", "another user")
        assert_accessible(page.page)


def test_on_a_phone_one_device_is_shown_at_a_time(browser: Browser, demo: Demo) -> None:
    with open_demo(browser, demo, size=PHONE) as page:
        assert_no_sideways_scrolling(page.page)
        expect(page.panel("laptop")).to_be_visible()
        expect(page.panel("phone")).to_be_hidden()
        page.press("laptop", "New item in Notes")
        page.expect_fates("made the change", TOLD, "another user")
        page.page.get_by_role("navigation").get_by_role("button", name="Ada's phone").click()
        page.expect_told("phone", ["item-create"])
        expect(page.panel("laptop")).to_be_hidden()
        for drawer in ("Account", "Frames"):
            page.open_drawer("phone", drawer)
        page.panel("phone").locator(".frame.in").first.click()
        assert_no_sideways_scrolling(page.page)
        assert_accessible(page.page)
        page.press("phone", "New vault, by Ada's phone")
        expect(page.page.get_by_role("dialog")).to_be_visible()
        assert_no_sideways_scrolling(page.page)
        assert_accessible(page.page)


SHORT = """
from functools import partial
import trio
from localful_ws.demo.serving import serve_page
trio.run(partial(serve_page, port=0, access_seconds=6, renewal_window=3))
"""


def test_tokens_are_renewed_or_run_out(browser: Browser) -> None:
    with (
        running_demo((sys.executable, "-c", SHORT)) as demo,
        open_demo(browser, demo, expected=("401",)) as page,
    ):
        page.press("laptop", "Renew the token of Ada's laptop now")
        renewed = page.panel("laptop").locator(".told.note", has_text="token renewed")
        expect(renewed).to_have_count(1)
        page.panel("phone").get_by_label("let it run out").check()
        # By itself, when the server asks for it.
        expect(renewed).to_have_count(2)
        page.expect_state("laptop", "connected")
        expect(page.panel("phone").get_by_role("status")).to_contain_text("The token is not renewed")
        page.expect_state("phone", "reconnecting")
        expect(page.panel("phone").get_by_role("status")).to_contain_text("4410 token-expired")
        page.press("phone", "New item in Notes")
        expect(page.panel("phone").get_by_role("status")).to_contain_text("The token has expired.")
        page.press("laptop", "New item in Notes")
        page.expect_fates("made the change", "offline", "another user")
        page.panel("phone").get_by_label("let it run out").uncheck()
        page.expect_state("phone", "connected")
        page.expect_fates("made the change", "told on return", "another user")
        page.expect_told("phone", ["item-create"])
