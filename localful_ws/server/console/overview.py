"""What the console shows first: the metrics that an operator looks at, as JSON.

It is made of the same text that Prometheus gets, and so of all workers. What is counted is a total since the
start; rates are for whoever asks again.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from localful_ws import __version__
from localful_ws.metrics import Figure
from localful_ws.redis_url import parse_url

_PREFIX: Final = "localful_ws_"


@frozen
class EngineName:
    """What the operator is told of the setting ``engine``.

    Attributes:
        kind: ``memory``, or the scheme of the URL.
        place: Where it is, without user or password; empty for the memory engine.
    """

    kind: str
    place: str


def name_engine(engine: str) -> EngineName:
    """Say what engine this is, without the secrets that its URL may hold."""
    if engine == "memory":
        return EngineName("memory", "")
    return EngineName(engine.partition("://")[0], str(parse_url(engine)))


class _Families:
    """Looks values up."""

    def __init__(self, text: bytes) -> None:
        self._families: dict[str, Metric] = {
            family.name: family for family in text_string_to_metric_families(text.decode())
        }

    def value(self, name: str, otherwise: float = 0) -> float:
        """The value of a family without labels."""
        family = self._families.get(name)
        samples = [] if family is None else family.samples
        return _whole(samples[0].value) if samples else otherwise

    def values(self, name: str) -> dict[str, float]:
        """The values of a family with one label, by what that says."""
        family = self._families.get(_PREFIX + name)
        samples = [] if family is None else family.samples
        return {next(iter(sample.labels.values())): _whole(sample.value) for sample in samples}

    def own(self, name: str, otherwise: float = 0) -> float:
        """The value of a family of ours without labels."""
        return self.value(_PREFIX + name, otherwise)

    def histogram(self, name: str) -> dict[str, object]:
        """A histogram without labels: how many there were up to each bound, all in all, and their sum."""
        family = self._families.get(_PREFIX + name)
        samples = [] if family is None else family.samples
        kinds = {sample.name.rpartition("_")[2]: sample.value for sample in samples}
        bounds = [(sample.labels["le"], _whole(sample.value)) for sample in samples if "le" in sample.labels]
        return {
            "upTo": {bound: count for bound, count in bounds if bound != "+Inf"},
            "count": _whole(kinds.get("count", 0)),
            "sum": kinds.get("sum", 0.0),
        }


def build_overview(
    text: bytes,
    figures: Sequence[Figure],
    engine: EngineName,
    *,
    now: float,
    unavailable: str | None,
) -> Mapping[str, object]:
    """Make the overview.

    Args:
        text: The metrics, in Prometheus's text format.
        figures: The engine's own figures among them.
        engine: Which engine it is.
        now: The present, in Unix seconds.
        unavailable: Why devices and publishers are not served now, as a sentence; None if they are.
    """
    families = _Families(text)
    return {
        "time": now,
        "startedAt": families.value("process_start_time_seconds", now),
        "version": __version__,
        "unavailable": unavailable,
        "draining": bool(families.own("draining")),
        "workers": {
            "serving": families.own("workers", 1),
            "missing": families.own("workers_missing"),
            "restarts": families.own("worker_restarts"),
        },
        "connections": families.values("connections"),
        "users": families.own("users"),
        "connectionsOpened": families.own("connections_opened"),
        "handshakesRefused": families.values("handshakes_refused"),
        "authentications": families.own("authentications"),
        "authenticationFailures": families.values("authentication_failures"),
        "resumes": families.values("resumes"),
        "closes": families.values("closes"),
        "slowConsumers": families.own("slow_consumers"),
        "outbox": {
            "peakEvents": families.own("outbox_peak_events"),
            "peakBytes": families.own("outbox_peak_bytes"),
        },
        "events": {
            "accepted": families.values("events_accepted"),
            "duplicates": families.own("duplicates"),
            "delivered": families.own("events_delivered"),
            "echoes": families.own("echoes_suppressed"),
        },
        "publishToWrite": families.histogram("publish_to_write_seconds"),
        "engine": {
            "name": engine.kind,
            "place": engine.place,
            "up": bool(families.own("engine_up")),
            "figures": [
                {
                    "name": figure.name,
                    "text": figure.text,
                    "value": families.own(figure.name, figure.value),
                    "total": figure.total,
                }
                for figure in figures
            ],
        },
        "process": {
            "memoryBytes": families.value("process_resident_memory_bytes"),
            "cpuSeconds": families.value("process_cpu_seconds"),
            "openFiles": families.value("process_open_fds"),
            "maxFiles": families.value("process_max_fds"),
        },
    }


def _whole(value: float) -> float:
    """A count as a whole number, which JSON then shows as one."""
    return int(value) if value == int(value) else value
