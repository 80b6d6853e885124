"""Questions that all workers answer: put once, merged, and bounded."""

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server.survey import questions
from localful_ws.server.survey import surveyor as surveyor_module
from localful_ws.server.survey.merge import merge
from localful_ws.server.survey.questions import (
    Answer,
    Answered,
    Ask,
    DevicesAnswer,
    DevicesQuestion,
    DeviceView,
    Question,
    UserCount,
    UsersAnswer,
    UsersQuestion,
)
from localful_ws.server.survey.surveyor import ANSWER_SECONDS, Surveyor

USERS = UsersQuestion()
ADA = DevicesQuestion("ada")


def users(*names: str, more: bool = False) -> UsersAnswer:
    return UsersAnswer([UserCount(name, 1) for name in names], more)


def device(group: str, at: float = 0, vaults: int = 0) -> DeviceView:
    return DeviceView(group, "authenticated", at, None, 9.0, vaults, ["v"] * vaults, 0, 0)


# --- merging ---


def test_users_are_merged_in_order() -> None:
    answers = [users("ada", "carol"), users("bob", "carol"), users()]
    merged = merge(USERS, answers)
    assert isinstance(merged, UsersAnswer)
    assert [(count.user, count.connections) for count in merged.users] == [
        ("ada", 1),
        ("bob", 1),
        ("carol", 2),
    ]
    assert not merged.more


def test_no_more_users_than_were_asked_for() -> None:
    # Each worker has told the first two of its own.
    answers = [users("a", "d", more=True), users("b", "c")]
    merged = merge(UsersQuestion(limit=2), answers)
    assert isinstance(merged, UsersAnswer)
    assert ([count.user for count in merged.users], merged.more) == (["a", "b"], True)
    for several in (users("a", "b"), users("a", "b", more=True)):
        assert merge(UsersQuestion(limit=2), [several]) == several


def test_devices_are_merged_in_the_order_in_which_they_came() -> None:
    one, other = DevicesAnswer([device("a", 1), device("c", 3)], 2), DevicesAnswer([device("b", 2)], 5)
    merged = merge(ADA, [one, other])
    assert isinstance(merged, DevicesAnswer)
    assert ([view.group for view in merged.devices], merged.total) == (["a", "b", "c"], 7)


def test_merged_answers_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_DEVICES", 3)
    monkeypatch.setattr(questions, "MOST_VAULTS", 5)
    several = [DevicesAnswer([device("g", at, vaults=2) for at in range(3)], 3)] * 2
    merged = merge(ADA, several)
    assert isinstance(merged, DevicesAnswer)
    assert ([len(view.vaults) for view in merged.devices], merged.total) == ([2, 2, 1], 6)
    assert [view.subscribed for view in merged.devices] == [2, 2, 2]


# --- asking ---


@define(eq=False)
class FakeWorker:
    """A worker that answers as told, unless it is stuck.

    Attributes:
        surveyor: Whom it tells.
        says: What it answers.
        stuck: Whether it answers nothing.
        asked: What it was asked, by number.
        answers: What it was answered.
    """

    surveyor: Surveyor
    says: dict[Question, Answer] = Factory(dict)
    stuck: bool = False
    asked: dict[int, Question] = Factory(dict)
    answers: list[Answered] = Factory(list)

    def post(self, message: Ask | Answered) -> None:
        if isinstance(message, Answered):
            self.answers.append(message)
            return
        self.asked[message.number] = message.question
        if not self.stuck:
            self.tell(message.number, self.says[message.question])

    def tell(self, number: int, answer: Answer) -> None:
        self.surveyor.answered(self, Answered(number, self.asked[number], answer))


def family(nursery: trio.Nursery) -> tuple[Surveyor, FakeWorker, FakeWorker]:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one = FakeWorker(surveyor, {USERS: users("ada"), ADA: DevicesAnswer([device("a")], 1)})
    two = FakeWorker(surveyor, {USERS: users("bob"), ADA: DevicesAnswer([], 0)})
    surveyor.join(one)
    surveyor.join(two)
    return surveyor, one, two


async def test_whoever_asks_gets_the_answer_of_all(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    surveyor, one, two = family(nursery)
    surveyor.ask(one, Ask(1, USERS))
    surveyor.ask(one, Ask(2, USERS))
    surveyor.ask(two, Ask(1, USERS))
    surveyor.ask(two, Ask(2, ADA))
    await wait_all_tasks_blocked()
    assert one.answers == [Answered(2, USERS, users("ada", "bob"))]
    assert sorted(two.answers, key=lambda answered: answered.number) == [
        Answered(1, USERS, users("ada", "bob")),
        Answered(2, ADA, DevicesAnswer([device("a")], 1)),
    ]
    # Each question was put once.
    assert sorted(map(str, one.asked.values())) == sorted(map(str, [USERS, ADA]))
    assert trio.current_time() == 0


async def test_a_stuck_worker_delays_and_is_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    surveyor, one, two = family(nursery)
    two.stuck = True
    surveyor.ask(one, Ask(1, USERS))
    await wait_all_tasks_blocked()
    assert one.answers == []
    # Others don't wait for that one, and it does not get their answer.
    surveyor.ask(one, Ask(2, ADA))
    await wait_all_tasks_blocked()
    (number,) = [number for number, question in two.asked.items() if question == ADA]
    two.tell(number, DevicesAnswer([device("b", 1)], 1))
    await wait_all_tasks_blocked()
    assert one.answers == [Answered(2, ADA, DevicesAnswer([device("a"), device("b", 1)], 2))]
    await trio.sleep(ANSWER_SECONDS)
    await wait_all_tasks_blocked()
    assert one.answers[1:] == [Answered(1, USERS, users("ada"))]


async def test_asked_again_while_it_is_answered_it_is_put_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """An answer may be older than a question that came later."""
    surveyor, one, two = family(nursery)
    two.stuck = True
    surveyor.ask(one, Ask(1, USERS))
    await wait_all_tasks_blocked()
    surveyor.ask(one, Ask(2, USERS))
    await wait_all_tasks_blocked()
    (first,) = two.asked
    two.says[USERS], two.stuck = users("zoe"), False
    two.tell(first, users("bob"))
    await wait_all_tasks_blocked()
    assert one.answers == [Answered(1, USERS, users("ada", "bob")), Answered(2, USERS, users("ada", "zoe"))]


async def test_a_worker_that_ends_is_waited_for_no_longer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    surveyor, one, two = family(nursery)
    two.stuck = True
    surveyor.ask(one, Ask(1, USERS))
    surveyor.ask(two, Ask(1, USERS))
    await wait_all_tasks_blocked()
    surveyor.leave(two)
    surveyor.ask(two, Ask(2, USERS))
    two.tell(next(iter(two.asked)), users("bob"))
    await wait_all_tasks_blocked()
    assert (one.answers, two.answers) == ([Answered(1, USERS, users("ada"))], [])
    assert trio.current_time() == 0


async def test_what_is_asked_is_bounded(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveyor_module, "MOST_ROUNDS", 2)
    monkeypatch.setattr(surveyor_module, "MOST_WAITING", 3)
    surveyor, one, two = family(nursery)
    two.stuck = True
    asked = [UsersQuestion(prefix=str(number)) for number in range(10)]
    one.says = dict.fromkeys(asked, users())
    for number, question in enumerate(asked):
        surveyor.ask(one, Ask(number, question))
    await wait_all_tasks_blocked()
    assert len(two.asked) == 2
    await trio.sleep(5 * ANSWER_SECONDS)
    assert sorted(answered.number for answered in one.answers) == [0, 1, 2]
    surveyor.ask(one, Ask(10, asked[9]))
    await trio.sleep(2 * ANSWER_SECONDS)
    assert one.answers[-1].number == 10
