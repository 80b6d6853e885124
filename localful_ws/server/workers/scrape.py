"""The metrics of all workers, gathered by their parent.

What a worker counted stays counted when it dies or doesn't answer: to Prometheus a counter that goes down was
set to 0, and all of the others' counts would seem to be new.
"""

from typing import Final, Protocol

import structlog
import trio
from attrs import Factory, define
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from localful_ws.server.workers.merge import lasting, merge, parse, render

_log = structlog.get_logger(__name__)

ANSWER_SECONDS: Final = 1.0
"""How long a worker has to tell its metrics."""

# The parent hardly opens any; counted in, they would hide a worker that is about to run out.
_WORKERS_OWN: Final = frozenset({"process_open_fds", "process_max_fds"})


class Source(Protocol):
    """A worker, as far as metrics go."""

    def tell_metrics(self, number: int) -> None:
        """Ask it for its own; `Scrapes.told` is called with the number when they are there."""
        ...

    def all_metrics(self, number: int, text: bytes) -> None:
        """Answer what it wanted, up to that number."""
        ...


def figures_of_workers(told: int, missing: int, restarts: int) -> list[Metric]:
    """What the parent says of its workers.

    Args:
        told: How many told their metrics.
        missing: How many did not.
        restarts: How many have been started again.
    """
    return [
        GaugeMetricFamily("localful_ws_workers", "Workers whose metrics these are.", told),
        GaugeMetricFamily(
            "localful_ws_workers_missing",
            "Workers that did not tell theirs: dead, starting or stuck.",
            missing,
        ),
        CounterMetricFamily(
            "localful_ws_worker_restarts", "Workers started again after they had ended.", restarts
        ),
    ]


@define
class _Account:
    """What is known of one worker.

    Attributes:
        families: What it told last.
        told: The number with which it did.
        wanted: The greatest number that it wants an answer for.
        answered: The greatest that it got one for.
    """

    families: list[Metric] = Factory(list)
    told: int = 0
    wanted: int = 0
    answered: int = 0


class Scrapes:
    """Gathers the metrics of all workers whenever one of them wants them.

    Args:
        workers: How many there should be.

    Attributes:
        restarts: How many workers have been started again.
    """

    def __init__(self, workers: int) -> None:
        self.restarts = 0
        self._workers = workers
        self._accounts: dict[Source, _Account] = {}
        self._departed: list[Metric] = []
        self._number = 0
        self._process = ProcessCollector(registry=None)
        self._changed = trio.Event()

    def join(self, source: Source) -> None:
        """Ask this worker from now on."""
        self._accounts[source] = _Account()

    def leave(self, source: Source) -> None:
        """Ask it no more; what it counted is kept."""
        account = self._accounts.pop(source, None)
        if account is not None:
            self._departed = merge([self._departed, lasting(account.families)])
            self._change()

    def want(self, source: Source, number: int) -> None:
        """A worker wants the metrics of all."""
        if source in self._accounts:
            self._accounts[source].wanted = number
            self._change()

    def told(self, source: Source, number: int, text: bytes) -> None:
        """A worker told its own."""
        if source not in self._accounts:
            return
        account = self._accounts[source]
        try:
            account.families = parse(text)
        except ValueError:
            _log.warning("a worker's metrics can't be read")
            return
        account.told = max(account.told, number)
        self._change()

    async def run(self) -> None:
        """Answer until cancelled; those who want the same at the same time get the same answer."""
        while True:
            wanted = {
                source: account.wanted
                for source, account in self._accounts.items()
                if account.wanted > account.answered
            }
            if not wanted:
                await self._changed.wait()
                continue
            text = await self._gather()
            for source, number in wanted.items():
                if source in self._accounts:
                    self._accounts[source].answered = number
                    source.all_metrics(number, text)

    async def _gather(self) -> bytes:
        self._number += 1
        for source in self._accounts:
            source.tell_metrics(self._number)
        asked = frozenset(self._accounts)
        with trio.move_on_after(ANSWER_SECONDS):
            while any(
                account.told < self._number for source, account in self._accounts.items() if source in asked
            ):
                await self._changed.wait()
        return self._render()

    def _render(self) -> bytes:
        fresh = [account for account in self._accounts.values() if account.told >= self._number]
        silent = [account for account in self._accounts.values() if account.told < self._number]
        own = [family for family in self._process.collect() if family.name not in _WORKERS_OWN]
        families = merge(
            [
                *(account.families for account in fresh),
                *(lasting(account.families) for account in silent),
                self._departed,
                own,
            ]
        )
        return render([*families, *figures_of_workers(len(fresh), self._workers - len(fresh), self.restarts)])

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
