"""Questions that one worker has and all have to answer, put to them by their parent.

What a worker counted stays counted when it dies or doesn't answer: to Prometheus a counter that goes down was
set to 0, and all of the others' counts would seem to be new.
"""

from collections.abc import Collection
from typing import Final, Protocol

import trio

from localful_ws.metrics import Family, Figure, families_of, process_families
from localful_ws.server.survey.merge import merge
from localful_ws.server.survey.questions import (
    Answer,
    Answered,
    Ask,
    MetricsAnswer,
    MetricsQuestion,
    Question,
)
from localful_ws.wakeup import Signal

ANSWER_SECONDS: Final = 1.0
"""How long a worker has to answer."""

MOST_ROUNDS: Final = 16
"""Questions that are put at the same time."""

MOST_WAITING: Final = 256
"""Questions that wait to be put; who wants more gets no answer."""

_METRICS: Final = MetricsQuestion()
# The parent hardly opens any; counted in, they would hide a worker that is about to run out.
_WORKERS_OWN: Final = frozenset({"process_open_fds", "process_max_fds"})


class Participant(Protocol):
    """A worker, as far as surveys go."""

    def post(self, message: Ask | Answered) -> None:
        """Have it told soon; what it says to that is for `Surveyor.ask` and `Surveyor.answered`."""
        ...


class Surveyor:
    """Has all workers answer what one of them wants to know.

    Args:
        workers: How many there should be.

    Attributes:
        restarts: How many workers have been started again.
    """

    def __init__(self, workers: int) -> None:
        self.restarts = 0
        self._workers = workers
        self._participants: set[Participant] = set()
        # What each told last, and what is left of those that are gone.
        self._counts: dict[Participant, MetricsAnswer] = {}
        self._departed: Answer = MetricsAnswer([])
        # Who wants to know what, with the greatest number of theirs.
        self._wanted: dict[Question, dict[Participant, int]] = {}
        self._put: set[Question] = set()
        # What has been put, by its number: who was asked, and what they said.
        self._rounds: dict[int, dict[Participant, Answer | None]] = {}
        self._number = 0
        self._changed = Signal()

    def join(self, worker: Participant) -> None:
        """Ask this worker from now on."""
        self._participants.add(worker)

    def leave(self, worker: Participant) -> None:
        """Ask it no more; what it counted is kept."""
        self._participants.discard(worker)
        if worker in self._counts:
            self._departed = merge(_METRICS, [self._departed, _lasting(self._counts.pop(worker))])
        for answers in self._rounds.values():
            answers.pop(worker, None)
        self._changed.set()

    def ask(self, worker: Participant, asked: Ask) -> None:
        """A worker wants the answer of all."""
        if worker not in self._participants:
            return
        if asked.question in self._wanted or len(self._wanted) < MOST_WAITING:
            self._wanted.setdefault(asked.question, {})[worker] = asked.number
            self._changed.set()

    def answered(self, worker: Participant, answered: Answered) -> None:
        """A worker answered for itself."""
        if worker not in self._participants:
            return
        if isinstance(answered.answer, MetricsAnswer):
            self._counts[worker] = answered.answer
        answers = self._rounds.get(answered.number, {})
        if worker in answers:
            answers[worker] = answered.answer
            self._changed.set()

    async def run(self) -> None:
        """Answer until cancelled; those who want the same at the same time get the same answer."""
        async with trio.open_nursery() as nursery:
            while True:
                for question in [each for each in self._wanted if each not in self._put]:
                    if len(self._put) < MOST_ROUNDS:
                        self._put.add(question)
                        nursery.start_soon(self._answer, question, self._wanted.pop(question))
                await self._changed.wait()

    async def _answer(self, question: Question, wanted: dict[Participant, int]) -> None:
        answer = await self._ask_all(question)
        for worker, number in wanted.items():
            if worker in self._participants:
                worker.post(Answered(number, question, answer))
        self._put.discard(question)
        self._changed.set()

    async def _ask_all(self, question: Question) -> Answer:
        self._number += 1
        number = self._number
        said: dict[Participant, Answer | None] = dict.fromkeys(self._participants)
        self._rounds[number] = said
        for worker in said:
            worker.post(Ask(number, question))
        with trio.move_on_after(ANSWER_SECONDS):
            while None in said.values():
                await self._changed.wait()
        del self._rounds[number]
        answers = {worker: answer for worker, answer in said.items() if answer is not None}
        rest = self._rest(answers) if question == _METRICS else []
        return merge(question, [*answers.values(), *rest])

    def _rest(self, fresh: Collection[Participant]) -> list[Answer]:
        """What is counted beside the metrics that some workers have just told."""
        stale = [_lasting(counts) for worker, counts in self._counts.items() if worker not in fresh]
        own = [family for family in process_families() if family.name not in _WORKERS_OWN]
        own += figures_of_workers(len(fresh), self._workers - len(fresh), self.restarts)
        return [*stale, self._departed, MetricsAnswer(own)]


def figures_of_workers(told: int, missing: int, restarts: int) -> list[Family]:
    """What the parent says of its workers.

    Args:
        told: How many told their metrics.
        missing: How many did not.
        restarts: How many have been started again.
    """
    figures = [
        Figure("workers", "Workers whose metrics these are.", told),
        Figure("workers_missing", "Workers that did not tell theirs: dead, starting or stuck.", missing),
        Figure("worker_restarts", "Workers started again after they had ended.", restarts, total=True),
    ]
    return list(families_of(figures))


def _lasting(counts: MetricsAnswer) -> MetricsAnswer:
    """What stays true of a process that has ended or doesn't answer: its counters and histograms."""
    return MetricsAnswer([family for family in counts.families if family.kind != "gauge"])
