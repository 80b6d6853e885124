"""Questions that one worker has and all have to answer, put to them by their parent."""

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

import trio
from attrs import Factory, define, field

from localful_ws.server.questions import (
    Answer,
    DevicesAnswer,
    MetricsAnswer,
    MetricsQuestion,
    Question,
    UsersAnswer,
    UsersQuestion,
    merge_devices,
    merge_users,
)
from localful_ws.server.workers.accounts import Accounts

ANSWER_SECONDS: Final = 1.0
"""How long a worker has to answer."""

MOST_ROUNDS: Final = 16
"""Questions that are put at the same time."""

MOST_WAITING: Final = 256
"""Questions that wait to be put; who wants more gets no answer."""


A = TypeVar("A", bound=Answer)


class Source(Protocol):
    """A worker, as far as questions go."""

    def tell(self, number: int, question: Question) -> None:
        """Ask it for its own answer; `Inquiries.told` is called with the number when that is there."""
        ...

    def answer(self, number: int, question: Question, answer: Answer) -> None:
        """Answer what it wanted, up to that number."""
        ...


@define(eq=False)
class _Round:
    """A question that has been put.

    Attributes:
        missing: The workers that have yet to answer.
        answers: What the others said.
        complete: Set when nobody is missing.
    """

    missing: set[Source]
    answers: dict[Source, Answer] = Factory(dict)
    complete: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """See whether it is complete."""
        if not self.missing:
            self.complete.set()


class Inquiries:
    """Has all workers answer what one of them wants to know.

    Args:
        workers: How many there should be.

    Attributes:
        restarts: How many workers have been started again.
    """

    def __init__(self, workers: int) -> None:
        self.restarts = 0
        self._sources: set[Source] = set()
        self._accounts = Accounts[Source](workers)
        # Who wants to know what, with the greatest number of theirs.
        self._wanted: dict[Question, dict[Source, int]] = {}
        self._put: set[Question] = set()
        self._rounds: dict[int, _Round] = {}
        self._number = 0
        self._changed = trio.Event()

    def join(self, source: Source) -> None:
        """Ask this worker from now on."""
        self._sources.add(source)

    def leave(self, source: Source) -> None:
        """Ask it no more; what it counted is kept."""
        if source not in self._sources:
            return
        self._sources.discard(source)
        self._accounts.leave(source)
        for each in self._rounds.values():
            each.missing.discard(source)
            each.check()

    def want(self, source: Source, number: int, question: Question) -> None:
        """A worker wants the answer of all."""
        if source not in self._sources:
            return
        if question in self._wanted or len(self._wanted) < MOST_WAITING:
            self._wanted.setdefault(question, {})[source] = number
            self._change()

    def told(self, source: Source, number: int, answer: Answer) -> None:
        """A worker answered for itself."""
        if source not in self._sources:
            return
        if isinstance(answer, MetricsAnswer) and not self._accounts.told(source, answer.text):
            return
        each = self._rounds.get(number)
        if each is not None and source in each.missing:
            each.answers[source] = answer
            each.missing.discard(source)
            each.check()

    async def run(self) -> None:
        """Answer until cancelled; those who want the same at the same time get the same answer."""
        async with trio.open_nursery() as nursery:
            while True:
                for question in [each for each in self._wanted if each not in self._put]:
                    if len(self._put) < MOST_ROUNDS:
                        self._put.add(question)
                        nursery.start_soon(self._answer, question, self._wanted.pop(question))
                await self._changed.wait()

    async def _answer(self, question: Question, wanted: dict[Source, int]) -> None:
        answer = await self._ask_all(question)
        for source, number in wanted.items():
            if source in self._sources:
                source.answer(number, question, answer)
        self._put.discard(question)
        self._change()

    async def _ask_all(self, question: Question) -> Answer:
        self._number += 1
        number, each = self._number, _Round(set(self._sources))
        self._rounds[number] = each
        for source in self._sources:
            source.tell(number, question)
        with trio.move_on_after(ANSWER_SECONDS):
            await each.complete.wait()
        del self._rounds[number]
        # One that is gone is no longer there to be counted.
        answers = {source: answer for source, answer in each.answers.items() if source in self._sources}
        if isinstance(question, MetricsQuestion):
            return MetricsAnswer(self._accounts.render(answers.keys(), self.restarts))
        if isinstance(question, UsersQuestion):
            return merge_users(_of(UsersAnswer, answers.values()), question)
        return merge_devices(_of(DevicesAnswer, answers.values()))

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _of(kind: type[A], answers: Iterable[Answer]) -> list[A]:
    return [answer for answer in answers if isinstance(answer, kind)]
