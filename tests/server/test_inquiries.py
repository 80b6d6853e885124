"""Questions that all workers answer: put once, merged, and bounded."""

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.server import questions
from localful_ws.server.questions import (
    Answer,
    DevicesAnswer,
    DevicesQuestion,
    DeviceView,
    Question,
    UserCount,
    UsersAnswer,
    UsersQuestion,
    merge_devices,
    merge_users,
)
from localful_ws.server.workers import inquiries as inquiries_module
from localful_ws.server.workers.inquiries import ANSWER_SECONDS, Inquiries

USERS = UsersQuestion()
ADA = DevicesQuestion("ada")


def users(*names: str, more: bool = False) -> UsersAnswer:
    return UsersAnswer([UserCount(name, 1) for name in names], more)


def device(group: str, at: float = 0, vaults: int = 0) -> DeviceView:
    return DeviceView(group, "authenticated", at, None, 9.0, vaults, ["v"] * vaults, 0, 0)


# --- merging ---


def test_users_are_merged_in_order() -> None:
    answers = [users("ada", "carol"), users("bob", "carol"), users()]
    merged = merge_users(answers, USERS)
    assert [(count.user, count.connections) for count in merged.users] == [
        ("ada", 1),
        ("bob", 1),
        ("carol", 2),
    ]
    assert not merged.more


def test_no_more_users_than_were_asked_for() -> None:
    # Each worker has told the first two of its own.
    answers = [users("a", "d", more=True), users("b", "c")]
    merged = merge_users(answers, UsersQuestion(limit=2))
    assert ([count.user for count in merged.users], merged.more) == (["a", "b"], True)
    assert merge_users([users("a", "b")], UsersQuestion(limit=2)).more is False
    assert merge_users([users("a", "b", more=True)], UsersQuestion(limit=2)).more is True


def test_devices_are_merged_in_the_order_in_which_they_came() -> None:
    one, other = DevicesAnswer([device("a", 1), device("c", 3)], 2), DevicesAnswer([device("b", 2)], 5)
    merged = merge_devices([one, other])
    assert ([view.group for view in merged.devices], merged.total) == (["a", "b", "c"], 7)


def test_merged_answers_stay_within_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MOST_DEVICES", 3)
    monkeypatch.setattr(questions, "MOST_VAULTS", 5)
    several = [DevicesAnswer([device("g", at, vaults=2) for at in range(3)], 3)] * 2
    merged = merge_devices(several)
    assert ([len(view.vaults) for view in merged.devices], merged.total) == ([2, 2, 1], 6)
    assert [view.subscribed for view in merged.devices] == [2, 2, 2]


# --- asking ---


@define(eq=False)
class FakeWorker:
    """A worker that answers as told, unless it is stuck.

    Attributes:
        inquiries: Whom it tells.
        says: What it answers.
        stuck: Whether it answers nothing.
        asked: What it was asked, by number.
        answers: What it was answered, with question and number.
    """

    inquiries: Inquiries
    says: dict[Question, Answer] = Factory(dict)
    stuck: bool = False
    asked: dict[int, Question] = Factory(dict)
    answers: list[tuple[int, Question, Answer]] = Factory(list)

    def tell(self, number: int, question: Question) -> None:
        self.asked[number] = question
        if not self.stuck:
            self.inquiries.told(self, number, self.says[question])

    def answer(self, number: int, question: Question, answer: Answer) -> None:
        self.answers.append((number, question, answer))


def family(nursery: trio.Nursery) -> tuple[Inquiries, FakeWorker, FakeWorker]:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one = FakeWorker(inquiries, {USERS: users("ada"), ADA: DevicesAnswer([device("a")], 1)})
    two = FakeWorker(inquiries, {USERS: users("bob"), ADA: DevicesAnswer([], 0)})
    inquiries.join(one)
    inquiries.join(two)
    return inquiries, one, two


async def test_whoever_asks_gets_the_answer_of_all(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inquiries, one, two = family(nursery)
    inquiries.want(one, 1, USERS)
    inquiries.want(one, 2, USERS)
    inquiries.want(two, 1, USERS)
    inquiries.want(two, 2, ADA)
    await wait_all_tasks_blocked()
    assert one.answers == [(2, USERS, users("ada", "bob"))]
    assert sorted(two.answers, key=lambda answer: answer[0]) == [
        (1, USERS, users("ada", "bob")),
        (2, ADA, DevicesAnswer([device("a")], 1)),
    ]
    # Each question was put once.
    assert sorted(map(str, one.asked.values())) == sorted(map(str, [USERS, ADA]))
    assert trio.current_time() == 0


async def test_a_stuck_worker_delays_and_is_left_out(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries, one, two = family(nursery)
    two.stuck = True
    inquiries.want(one, 1, USERS)
    await wait_all_tasks_blocked()
    assert one.answers == []
    # Others don't wait for that one, and it does not get their answer.
    inquiries.want(one, 2, ADA)
    await wait_all_tasks_blocked()
    (number,) = [number for number, question in two.asked.items() if question == ADA]
    inquiries.told(two, number, DevicesAnswer([device("b", 1)], 1))
    await wait_all_tasks_blocked()
    assert one.answers == [(2, ADA, DevicesAnswer([device("a"), device("b", 1)], 2))]
    await trio.sleep(ANSWER_SECONDS)
    await wait_all_tasks_blocked()
    assert one.answers[1:] == [(1, USERS, users("ada"))]


async def test_asked_again_while_it_is_answered_it_is_put_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """An answer may be older than a question that came later."""
    inquiries, one, two = family(nursery)
    two.stuck = True
    inquiries.want(one, 1, USERS)
    await wait_all_tasks_blocked()
    inquiries.want(one, 2, USERS)
    await wait_all_tasks_blocked()
    (first,) = two.asked
    two.says[USERS], two.stuck = users("zoe"), False
    inquiries.told(two, first, users("bob"))
    await wait_all_tasks_blocked()
    assert one.answers == [(1, USERS, users("ada", "bob")), (2, USERS, users("ada", "zoe"))]


async def test_a_worker_that_ends_is_waited_for_no_longer(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries, one, two = family(nursery)
    two.stuck = True
    inquiries.want(one, 1, USERS)
    inquiries.want(two, 1, USERS)
    await wait_all_tasks_blocked()
    inquiries.leave(two)
    inquiries.want(two, 2, USERS)
    inquiries.told(two, next(iter(two.asked)), users("bob"))
    await wait_all_tasks_blocked()
    assert (one.answers, two.answers) == ([(1, USERS, users("ada"))], [])
    assert trio.current_time() == 0


async def test_what_is_asked_is_bounded(
    nursery: trio.Nursery, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiries_module, "MOST_ROUNDS", 2)
    monkeypatch.setattr(inquiries_module, "MOST_WAITING", 3)
    inquiries, one, two = family(nursery)
    two.stuck = True
    asked = [UsersQuestion(prefix=str(number)) for number in range(10)]
    one.says = dict.fromkeys(asked, users())
    for number, question in enumerate(asked):
        inquiries.want(one, number, question)
    await wait_all_tasks_blocked()
    assert len(two.asked) == 2
    await trio.sleep(5 * ANSWER_SECONDS)
    assert sorted(number for number, _, _ in one.answers) == [0, 1, 2]
    inquiries.want(one, 10, asked[9])
    await trio.sleep(2 * ANSWER_SECONDS)
    assert one.answers[-1][0] == 10
