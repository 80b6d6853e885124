"""A token that is let in after its login was ended is seen."""

from random import Random

import pytest

from .devices import Authenticated, Ended, Received, Record, Refused
from .revoking import Entry, Login, check_login

INSIDE = Authenticated("a", "c", None, None)
BYE: list[Record] = [Refused("forbidden"), Ended(4403)]


def login(
    *log: Record, asked: float = 4.0, ended: float = 5.0, entries: tuple[float, ...] = (1.0,), at: float = 6.0
) -> Login:
    """A login that was asked to be ended at second 4, which was answered at second 5."""
    made = Login(7, "ada", "login7", (), {}, lambda *_: "", Random(0), asked=asked, ended=ended)
    made.log += [INSIDE, *log]
    made.times += [1.0, *[at] * len(log)]
    made.entries += [Entry("b", began) for began in entries]
    return made


def test_a_token_that_is_let_in_no_more() -> None:
    assert check_login(login(Ended(4403), *BYE, Refused("try-again-later"), Ended(1013), *BYE)) == []
    # The attempt began before the answer.
    assert check_login(login(Ended(4403), entries=(1.0, 4.9))) == []
    # It is in force before it is answered.
    assert check_login(login(Ended(4403), *BYE, at=4.5)) == []


@pytest.mark.parametrize(
    ("made", "words"),
    [
        pytest.param(login(*BYE, entries=(1.0, 5.5)), "node b let in the token", id="let in"),
        pytest.param(login(), "still had its connection", id="still inside"),
        pytest.param(login(Received("user-update", None, {}, "c")), "still had its connection", id="told"),
        pytest.param(login(*BYE, ended=float("inf")), "never answered", id="no answer"),
        pytest.param(login(*BYE, entries=()), "nothing was tried", id="never in"),
        pytest.param(login(Refused("unauthorized"), Ended(4401)), "with unauthorized", id="unauthorized"),
        pytest.param(login(*BYE, at=3.0), "before anybody asked", id="too soon"),
    ],
)
def test_what_is_wrong(made: Login, words: str) -> None:
    (complaint,) = check_login(made)
    assert words in complaint
