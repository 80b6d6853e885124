"""The checker sees each way in which events can be lost, and the plan comes from the seed alone."""

import pytest

from .aof import StreamEntry
from .check import Published, check_log, check_streams
from .devices import Authenticated, Ended, Received, Record, Refused, Renewed
from .plan import Kind, make_plan
from .reader import Audience, Rules, Stream

PHONE = Audience("phone", "phone", ("v1",))


def entry(number: int, event: str = "user-update", **keys: str) -> StreamEntry:
    before = (number - 1, 0)
    return StreamEntry(
        (number, 0), before, event, keys.get("vault"), keys.get("group"), {"id": f"p:{number}"}
    )


def received(of: StreamEntry, epoch: str = "e") -> Received:
    return Received(of.event, of.vault, of.data, f"{epoch}.{of.id[0]}-{of.id[1]}")


def authenticated(place: int, *, since: int | None = None, resumed: bool | None = None) -> Authenticated:
    return Authenticated("a", f"e.{place}-0", None if since is None else f"e.{since}-0", resumed)


ONE, TWO, THREE = entry(1), entry(2, "item-create", vault="v1"), entry(3)
ECHO = entry(4, group="phone")
ELSEWHERE = entry(5, "item-create", vault="v2")
LAST = entry(6, "vault-update", vault="v2")
ENTRIES = [ONE, TWO, THREE, ECHO, ELSEWHERE, LAST]
STRICT, FORGIVING = Rules(), Rules(always_resumes=False)
FIRST = authenticated(0)
RESET = Ended(None)


def complaint(*log: Record, rules: Rules = STRICT) -> str | None:
    return check_log(PHONE, log, Stream(ENTRIES), rules)


def test_everything_in_order() -> None:
    assert complaint(FIRST, *map(received, (ONE, TWO, THREE, LAST))) is None


def test_everything_in_order_with_a_resume() -> None:
    first, second, third, last = map(received, (ONE, TWO, THREE, LAST))
    assert (
        complaint(FIRST, first, second, RESET, authenticated(5, since=2, resumed=True), third, last) is None
    )


def test_a_renewal_is_behind_what_has_come() -> None:
    renewed = [Renewed(f"e.{number}-0") for number in (0, 3, 5, 6)]
    got = [received(each) for each in (ONE, TWO, THREE, LAST)]
    assert complaint(FIRST, renewed[0], *got[:3], renewed[1], renewed[2], got[3], renewed[3]) is None


def test_what_came_before_the_first_authenticated_is_no_concern() -> None:
    assert complaint(authenticated(3), received(LAST)) is None


@pytest.mark.parametrize(
    ("log", "words"),
    [
        pytest.param([FIRST, received(ONE), received(THREE)], "1 skipped without notice", id="gap"),
        pytest.param([FIRST, received(ONE), received(ONE)], "came again, or out of order", id="repeat"),
        pytest.param([FIRST, received(TWO), received(ONE)], "1 skipped without notice", id="order"),
        pytest.param([FIRST, *map(received, (ONE, TWO, THREE, ECHO))], "its own group's", id="echo"),
        pytest.param([FIRST, *map(received, (ONE, TWO, THREE, ELSEWHERE))], "of another vault", id="vault"),
        pytest.param([FIRST, received(entry(7))], "not in its user's stream", id="foreign"),
        pytest.param(
            [FIRST, Received("user-update", None, {"id": "p:9"}, "e.1-0")], "not in its", id="other data"
        ),
        pytest.param([FIRST, received(ONE, "f")], "of another stream", id="epoch"),
        pytest.param([FIRST, *map(received, (ONE, TWO, THREE))], "1 at the end never came", id="end"),
        pytest.param([received(ONE)], "before authenticated", id="too soon"),
        pytest.param([FIRST, RESET, received(ONE)], "before authenticated", id="after the end"),
        pytest.param([], "never authenticated", id="nothing"),
        pytest.param([FIRST, RESET, authenticated(0, since=0)], "resumed is None", id="no answer"),
        pytest.param(
            [FIRST, received(ONE), received(TWO), RESET, authenticated(1, since=2, resumed=True)],
            "before what it has",
            id="resumed behind itself",
        ),
        pytest.param(
            [FIRST, received(ONE), Renewed("e.2-0")], "before what lies before it", id="renewed early"
        ),
        pytest.param([FIRST, received(ONE), Renewed("e.0-0")], "is before what it has", id="renewed late"),
        pytest.param([Renewed("e.0-0")], "before authenticated", id="renewed first"),
        pytest.param([FIRST, Ended(1011, "internal-error")], "closed with 1011", id="close"),
        pytest.param([FIRST, Refused("unauthorized")], "refused with unauthorized", id="refusal"),
    ],
)
@pytest.mark.parametrize("rules", [Rules(), FORGIVING, Rules(always_resumes=False, loses_end=True)])
def test_what_is_wrong_in_every_mode(log: list[Record], words: str, rules: Rules) -> None:
    assert words in str(complaint(*log, rules=rules))


def test_a_gap_with_notice_is_forgiven_only_with_a_short_history() -> None:
    notice = authenticated(3, since=1, resumed=False)
    log: list[Record] = [FIRST, received(ONE), Ended(4413), notice, received(LAST)]
    assert complaint(*log, rules=FORGIVING) is None
    assert "4413" in str(complaint(*log))
    assert "could not resume" in str(complaint(FIRST, RESET, notice))


def test_a_notice_forgives_only_what_was_before_it() -> None:
    notice = authenticated(2, since=1, resumed=False)
    log: list[Record] = [FIRST, received(ONE), RESET, notice, received(LAST)]
    assert "1 skipped without notice" in str(complaint(*log, rules=FORGIVING))


def test_a_notice_does_not_put_a_device_back() -> None:
    log: list[Record] = [FIRST, received(ONE), received(TWO), RESET, authenticated(1, since=2, resumed=False)]
    assert "put back" in str(complaint(*log, rules=FORGIVING))


# Redis came back with nothing after the first entry; two more were written then.
INSTEAD = StreamEntry((10, 0), ONE.id, "user-update", None, None, {"id": "p:10"})
AFTER = StreamEntry((11, 0), INSTEAD.id, "user-update", None, None, {"id": "p:11"})
CUT = Stream([ONE, INSTEAD, AFTER], lost=[TWO, THREE])
LOSSY = Rules(always_resumes=False, loses_end=True)


def test_a_device_that_had_nothing_of_what_was_lost_goes_on() -> None:
    log: list[Record] = [FIRST, *map(received, (ONE, INSTEAD, AFTER))]
    assert check_log(PHONE, log, CUT, LOSSY) is None


def test_a_device_that_had_some_of_it_is_told() -> None:
    told: list[Record] = [FIRST, received(ONE), received(TWO), Ended(4413)]
    notice = Authenticated("a", "f.1-0", "e.2-0", resumed=False)
    after: list[Record] = [received(INSTEAD, "f"), received(AFTER, "f")]
    assert check_log(PHONE, [*told, notice, *after], CUT, LOSSY) is None
    in_silence = check_log(PHONE, [*told[:-1], received(INSTEAD), received(AFTER)], CUT, LOSSY)
    assert "does not follow" in str(in_silence)
    assert "does not lead to the end" in str(check_log(PHONE, told[:-1], CUT, LOSSY))


def published(of: StreamEntry, publisher: str = "p") -> Published:
    return Published(of.data["id"], publisher, "ada", of.event, of.vault, of.group, of.data)


def test_streams_that_hold_what_was_published() -> None:
    assert check_streams(map(published, ENTRIES), {"ada": Stream(ENTRIES), "bob": Stream()}) == []


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        pytest.param([ONE, THREE], "p:2 was accepted and is in no stream", id="lost"),
        pytest.param([ONE, ONE, TWO, THREE], "p:1 is in the streams twice", id="twice"),
        pytest.param([ONE, THREE, TWO], "ids of ada's stream do not rise", id="ids"),
        pytest.param([ONE, entry(2), THREE], "is in ada's stream as", id="changed"),
        pytest.param(ENTRIES[:4], "p:4 is in a stream and was never accepted", id="never accepted"),
    ],
)
def test_streams_that_do_not(stream: list[StreamEntry], words: str) -> None:
    complaints = check_streams(map(published, (ONE, TWO, THREE)), {"ada": Stream(stream)})
    assert any(words in each for each in complaints)


def test_what_redis_lost_must_have_been_there() -> None:
    assert check_streams(map(published, (ONE, TWO, INSTEAD, AFTER)), {"ada": CUT}) == []
    complaints = check_streams(map(published, (ONE, INSTEAD, AFTER, LAST)), {"ada": CUT})
    assert complaints == ["p:6 was accepted and is in no stream"]
    assert check_streams(map(published, (ONE, INSTEAD, AFTER, LAST)), {"ada": CUT}, {"p"}) == []


def test_streams_out_of_a_publishers_order() -> None:
    swapped = [published(TWO), published(ONE), published(THREE)]
    stream = Stream([ONE, TWO, THREE])
    assert check_streams(swapped, {"ada": stream}) == [
        "p:1 stands before what its publisher published before it"
    ]
    others = [published(TWO, "q"), published(ONE), published(THREE)]
    assert check_streams(others, {"ada": stream}) == []


def test_a_plan_comes_from_its_seed_alone() -> None:
    assert make_plan(1, 30, 50) == make_plan(1, 30, 50) != make_plan(2, 30, 50)


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_has_every_kind_of_fault_and_ends_in_time(seed: int) -> None:
    plan = make_plan(seed, 30, 50)
    assert {fault.kind for fault in plan} == set(Kind)
    assert all(fault.at + fault.seconds <= 30 for fault in plan)
    by_target: dict[str, float] = {}
    for fault in plan:
        assert fault.at >= by_target.get(fault.target, 0.0)
        by_target[fault.target] = fault.at + fault.seconds
