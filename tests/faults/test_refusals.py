"""Refusals, waits and readiness that no trouble explains are seen."""

import pytest

from .check import Published
from .publisher import Answer
from .refusals import Look, Spell, check_ready, check_refusals, check_spells, check_waits
from .told import Sent

ADA, BOB = frozenset({"ada"}), frozenset({"bob"})
SPELL = Spell("kill-master", 10.0, 12.0, ADA)
REFUSING = Spell("out-of-memory", 9.9, 15.1, ADA | BOB, (10.0, 15.0))


def answer(began: float, users: frozenset[str], status: int | None = 503, *, accepted: int = 0) -> Answer:
    return Answer(began, began + 0.1, "http://a", users, status, accepted)


@pytest.mark.parametrize("began", [9.95, 11.0, 13.9])
def test_a_spell_explains_a_refusal(began: float) -> None:
    assert check_refusals([answer(began, ADA), answer(began, ADA | BOB)], [SPELL], 2.0) == []


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        pytest.param(answer(9.0, ADA), "before any of theirs", id="before"),
        pytest.param(answer(14.5, ADA), "2.5 s after their last", id="long after"),
        pytest.param(answer(11.0, BOB), "for bob", id="somebody else"),
        pytest.param(answer(11.0, BOB, 500), "1 500", id="an error"),
        pytest.param(answer(11.0, BOB, None), "1 None", id="no answer"),
    ],
)
def test_nothing_explains_a_refusal(refusal: Answer, words: str) -> None:
    (complaint,) = check_refusals([answer(1.0, BOB, 202), refusal], [SPELL], 2.0)
    assert words in complaint


def sent(user: str, began: float, accepted: float) -> Sent:
    return Sent(Published("p:1", "p", user, "user-update", None, None, {"id": "p:1"}), began, accepted)


def test_a_wait_that_a_spell_explains() -> None:
    assert check_waits([sent("ada", 9.5, 14.0), sent("bob", 9.5, 12.0)], [SPELL], 3.0) == []


@pytest.mark.parametrize("wait", [sent("ada", 9.5, 15.0), sent("bob", 9.5, 14.0), sent("ada", 20.0, 24.0)])
def test_a_wait_that_is_too_long(wait: Sent) -> None:
    (complaint,) = check_waits([wait], [SPELL], 3.0)
    assert wait.event.user in complaint


def test_what_is_accepted_while_writes_are_refused() -> None:
    accepted = [answer(began, ADA, 202, accepted=1) for began in (9.85, 9.95, 11.0, 14.95, 15.5)]
    assert check_spells(accepted, [REFUSING]) == ["1 events were accepted 1.00 s into out-of-memory"]
    assert check_spells(accepted, [SPELL]) == []
    # It had been accepted before.
    assert check_spells([answer(11.0, ADA, 202)], [REFUSING]) == []


def ready(*looks: tuple[float, bool]) -> list[str]:
    return check_ready([Look("a", at, ready=is_ready) for at, is_ready in looks], [SPELL, REFUSING], 3.0, 2.0)


def test_a_node_that_is_ready_when_it_should_be() -> None:
    assert (
        ready(
            (9.0, True),
            (11.0, True),
            (12.0, False),
            (14.0, False),
            (15.05, True),
            (16.0, False),
            (17.6, True),
        )
        == []
    )


@pytest.mark.parametrize(
    ("look", "words"),
    [
        ((9.0, False), "not ready before any spell"),
        ((13.5, True), "was ready, seconds into out-of-memory: 3.6"),
        ((17.6, False), "not ready, seconds after out-of-memory: 2.5"),
    ],
)
def test_a_node_that_is_not(look: tuple[float, bool], words: str) -> None:
    (complaint,) = ready(look)
    assert words in complaint
