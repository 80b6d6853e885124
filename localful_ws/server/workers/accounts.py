"""The metrics of all workers as one account, kept by their parent.

What a worker counted stays counted when it dies or doesn't answer: to Prometheus a counter that goes down was
set to 0, and all of the others' counts would seem to be new.
"""

from collections.abc import Collection
from typing import Final, Generic, TypeVar

import structlog
from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from localful_ws.server.workers.merge import lasting, merge, parse, render

_log = structlog.get_logger(__name__)

# The parent hardly opens any; counted in, they would hide a worker that is about to run out.
_WORKERS_OWN: Final = frozenset({"process_open_fds", "process_max_fds"})

S = TypeVar("S")


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


class Accounts(Generic[S]):
    """What each worker told last, and what is left of those that are gone.

    Args:
        workers: How many there should be.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._families: dict[S, list[Metric]] = {}
        self._departed: list[Metric] = []
        self._process = ProcessCollector(registry=None)

    def told(self, source: S, text: bytes) -> bool:
        """Take what a worker told; says whether it can be read."""
        try:
            self._families[source] = parse(text)
        except ValueError:
            _log.warning("a worker's metrics can't be read")
            return False
        return True

    def leave(self, source: S) -> None:
        """Keep of a worker that is gone what it counted."""
        self._departed = merge([self._departed, lasting(self._families.pop(source, []))])

    def render(self, fresh: Collection[S], restarts: int) -> bytes:
        """Make the account, in Prometheus's text format.

        Args:
            fresh: The workers that have just told theirs.
            restarts: How many workers have been started again.
        """
        own = [family for family in self._process.collect() if family.name not in _WORKERS_OWN]
        families = merge(
            [
                *(
                    families if source in fresh else lasting(families)
                    for source, families in self._families.items()
                ),
                self._departed,
                own,
            ]
        )
        return render([*families, *figures_of_workers(len(fresh), self._workers - len(fresh), restarts)])
