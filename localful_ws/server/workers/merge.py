"""One account of several workers' metrics, in Prometheus's text format."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_LASTING: Final = frozenset({"counter", "histogram"})
# A sum says nothing of these. All that isn't named here is summed.
_CHOSEN: Final[dict[str, Callable[[float, float], float]]] = {
    "localful_ws_engine_up": min,
    "localful_ws_draining": max,
    "localful_ws_outbox_peak_events": max,
    "localful_ws_outbox_peak_bytes": max,
    "process_start_time_seconds": min,
}

_Key = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: bytes) -> list[Metric]:
    """Read the families of one process.

    Raises:
        ValueError: If that isn't Prometheus's text format.
    """
    return list(text_string_to_metric_families(text.decode()))


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What stays true of a process that has ended or doesn't answer: its counters and histograms."""
    return [family for family in families if family.type in _LASTING]


def merge(processes: Iterable[Sequence[Metric]]) -> list[Metric]:
    """Make one account of several.

    Counters, histograms and most gauges are summed. Of a peak, or a moment, it is the greatest or the least.

    Args:
        processes: The families of each process; they are left as they are.
    """
    merged: dict[str, Metric] = {}
    samples: dict[str, dict[_Key, Sample]] = {}
    for families in processes:
        for family in families:
            if family.name not in merged:
                merged[family.name] = Metric(family.name, family.documentation, family.type)
                samples[family.name] = {}
            _add(samples[family.name], family)
    for name, family in merged.items():
        family.samples = list(samples[name].values())
    return list(merged.values())


def render(families: Iterable[Metric]) -> bytes:
    """Write families in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


def _add(samples: dict[_Key, Sample], family: Metric) -> None:
    choose = _CHOSEN.get(family.name)
    for sample in family.samples:
        key = sample.name, tuple(sorted(sample.labels.items()))
        known = samples.get(key)
        value = sample.value
        if known is not None:
            value = known.value + value if choose is None else choose(known.value, value)
        samples[key] = Sample(sample.name, sample.labels, value)


class _Families(Collector):
    """Hands over what is there."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
