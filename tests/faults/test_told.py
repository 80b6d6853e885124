"""Each way in which a device can be told less, more or other than publishers were promised is seen."""

import math

import pytest

from .check import Published
from .devices import Authenticated, Ended, Received, Record, Refused, Renewed
from .reader import Audience
from .told import Sent, Told, check_told, had_by_everybody

PHONE = Audience("phone", "phone", ("v1",))
TABLET = Audience("tablet", "tablet", ("v1", "v2"))


def sent(
    number: int,
    event: str = "user-update",
    *,
    vault: str | None = None,
    group: str | None = None,
    tries: int = 1,
    accepted: float | None = None,
    publisher: str = "p",
) -> Sent:
    """The event that is sent at this second, and accepted half a second later if nothing else is said."""
    publish_id = f"{publisher}:{number}"
    published = Published(publish_id, publisher, "ada", event, vault, group, {"id": publish_id})
    return Sent(published, number, number + 0.5 if accepted is None else accepted, tries)


ONE, TWO, THREE = sent(1), sent(2, "item-create", vault="v1"), sent(3)
ECHO = sent(4, group="phone")
ELSEWHERE = sent(5, "item-create", vault="v2")
LAST = sent(6, "vault-update", vault="v2")
ALL = [ONE, TWO, THREE, ECHO, ELSEWHERE, LAST]
WANTED = [ONE, TWO, THREE, LAST]
FIRST = Authenticated("a", "zero", None, None)
RESET, MISSED = Ended(None), Ended(4413)


def got(of: Sent, cursor: str | None = None) -> Received:
    event = of.event
    return Received(event.event, event.vault, dict(event.data), event.id if cursor is None else cursor)


def resumed(cursor: str = "now") -> Authenticated:
    return Authenticated("b", cursor, "before", resumed=True)


def not_resumed(cursor: str = "now") -> Authenticated:
    return Authenticated("b", cursor, "before", resumed=False)


def told(*log: Record | tuple[float, Record], audience: Audience = PHONE) -> Told:
    """A log; what stands without a time was told at second 0."""
    pairs = [each if isinstance(each, tuple) else (0.0, each) for each in log]
    return Told(audience, "ada", [record for _, record in pairs], [time for time, _ in pairs])


def complaints(*log: Record | tuple[float, Record]) -> list[str]:
    return check_told([told(*log)], ALL)


def test_everything_in_order() -> None:
    assert complaints(FIRST, *map(got, WANTED)) == []


def test_everything_in_order_with_a_resume() -> None:
    one, two, three, last = map(got, WANTED)
    assert complaints(FIRST, one, two, Renewed("p:2"), RESET, resumed(), three, RESET, resumed(), last) == []


def test_what_was_sent_before_it_came_is_no_concern() -> None:
    assert complaints((3.2, FIRST), got(LAST)) == []
    # This one was under way: it may have been before, or after.
    assert complaints((2.2, FIRST), got(THREE), got(LAST)) == []
    assert complaints((2.2, FIRST), got(TWO), got(THREE), got(LAST)) == []


@pytest.mark.parametrize("lossy", [set(), {"ada"}], ids=["whole", "lossy"])
@pytest.mark.parametrize(
    ("log", "words"),
    [
        pytest.param([FIRST, got(ONE), got(THREE)], "1 skipped without notice", id="gap"),
        pytest.param(
            [FIRST, got(ONE), RESET, resumed(), got(THREE)],
            "(it had resumed after before)",
            id="false resume",
        ),
        pytest.param([FIRST, got(ONE), MISSED, resumed(), got(THREE)], "1 skipped", id="4413, then a resume"),
        pytest.param([FIRST, got(TWO)], "1 skipped without notice", id="beginning"),
        pytest.param([FIRST, got(ONE), got(ONE)], "came again", id="repeat"),
        pytest.param(
            [FIRST, got(ONE), MISSED, not_resumed(), got(ONE)], "came again", id="repeat after notice"
        ),
        pytest.param([FIRST, got(ONE), got(TWO), got(THREE), got(ECHO)], "its own group's", id="echo"),
        pytest.param([FIRST, *map(got, (ONE, TWO, THREE, ELSEWHERE))], "of another vault", id="vault"),
        pytest.param([FIRST, got(sent(9))], "never published", id="foreign"),
        pytest.param([FIRST, Received("user-update", None, {"id": "p:2"}, "c")], "published as", id="data"),
        pytest.param([FIRST, Received("user-update", None, None, "c")], "never published", id="no id"),
        pytest.param([FIRST, *map(got, WANTED[:3])], "1 never came", id="end"),
        pytest.param([got(ONE)], "before authenticated", id="too soon"),
        pytest.param([FIRST, RESET, got(ONE)], "before authenticated", id="after the end"),
        pytest.param([Renewed("c")], "before authenticated", id="renewed first"),
        pytest.param([], "never authenticated", id="nothing"),
        pytest.param([FIRST, Authenticated("a", "c", "b", None)], "resumed is None", id="no answer"),
        pytest.param([FIRST, Ended(1011, "internal-error")], "closed with 1011", id="close"),
        pytest.param([FIRST, Refused("forbidden")], "refused with forbidden", id="refusal"),
    ],
)
def test_what_is_wrong(log: list[Record], words: str, lossy: set[str]) -> None:
    (complaint,) = check_told([told(*log)], ALL, lossy)
    assert words in complaint


def test_a_notice_forgives_what_was_sent_before_it_and_no_more() -> None:
    assert complaints(FIRST, got(ONE), MISSED, (3.7, not_resumed()), got(LAST)) == []
    (complaint,) = complaints(FIRST, got(ONE), MISSED, (1.7, not_resumed()), got(LAST))
    assert "2 skipped without notice" in complaint
    (complaint,) = complaints(FIRST, got(ONE), MISSED, (3.7, not_resumed()))
    assert "1 never came" in complaint


def test_a_notice_comes_before_what_lies_behind_the_gap() -> None:
    (complaint,) = complaints(FIRST, got(ONE), got(THREE), MISSED, (3.7, not_resumed()), got(LAST))
    assert "1 skipped without notice" in complaint


def test_what_was_never_accepted_may_come_or_not() -> None:
    open_ended = sent(2, accepted=math.inf)
    for events in ([ONE, THREE], [ONE, open_ended, THREE]):
        assert check_told([told(FIRST, *map(got, events))], [ONE, open_ended, THREE]) == []


def test_the_order_of_a_publisher() -> None:
    at_once = [sent(1, accepted=9.0), sent(2, accepted=9.0)]
    (complaint,) = check_told([told(FIRST, *map(got, reversed(at_once)))], at_once)
    assert "1 skipped without notice" in complaint
    (complaint,) = check_told([told((1.5, FIRST), *map(got, reversed(at_once)))], at_once)
    assert "out of order" in complaint


def test_the_order_of_what_was_accepted() -> None:
    early, late = sent(1, publisher="p"), sent(2, publisher="q")
    (complaint,) = check_told([told((1.2, FIRST), got(late), got(early))], [early, late])
    assert "out of order" in complaint
    both = [early, sent(1, publisher="q")]
    assert check_told([told(FIRST, *map(got, reversed(both)))], both) == []


def test_devices_that_were_told_in_different_orders() -> None:
    both = [sent(1, publisher="p"), sent(1, publisher="q")]
    devices = [told(FIRST, *map(got, both)), told(FIRST, *map(got, reversed(both)), audience=TABLET)]
    assert any("in different orders" in complaint for complaint in check_told(devices, both))


def test_cursors_belong_to_one_event() -> None:
    (complaint,) = check_told([told(FIRST, got(ONE, "c"), got(THREE, "c"))], [ONE, THREE])
    assert complaint == "ada's devices: p:1 and p:3 have the cursor c"
    devices = [told(FIRST, got(ONE, "c")), told(FIRST, got(ONE, "d"), audience=TABLET)]
    assert check_told(devices, [ONE]) == ["ada's devices: p:1 has the cursors c and d"]


def test_what_other_devices_got_after_a_beginning_is_due() -> None:
    """Both events were under way when the second device came; the first device knows that they came later."""
    under_way = [sent(1, accepted=9.0), sent(2, accepted=9.0)]
    one, two = map(got, under_way)
    late = told((2.5, Authenticated("b", one.cursor, None, None)), audience=TABLET)
    (complaint,) = check_told([told(FIRST, one, two), late], under_way)
    assert "1 never came" in complaint
    in_step = told((2.5, Authenticated("b", two.cursor, None, None)), audience=TABLET)
    assert check_told([told(FIRST, one, two), in_step], under_way) == []


def test_what_was_sent_again_may_come_again_after_a_loss_and_a_notice() -> None:
    again = sent(2, tries=2)
    events = [ONE, again, THREE]
    log: list[Record] = [FIRST, got(ONE), got(again), MISSED, not_resumed(), got(again, "later"), got(THREE)]
    assert check_told([told(*log)], events, {"ada"}) == []
    assert "came again" in check_told([told(*log)], events)[0]
    in_silence: list[Record] = [FIRST, got(ONE), got(again), got(again, "later"), got(THREE)]
    assert "came again" in check_told([told(*in_silence)], events, {"ada"})[0]


def test_what_everybody_had() -> None:
    devices = [told(FIRST, *map(got, WANTED)), told(FIRST, got(ONE), got(ECHO), audience=TABLET)]
    assert had_by_everybody(devices, ALL) == {"p:1", "p:4"}
