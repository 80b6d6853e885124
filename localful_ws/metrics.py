"""What a node counts, and how Prometheus reads it.

On the hot path a count is a plain int or a dict of them. prometheus_client comes in at the scrape only, when
a collector turns the counts into its metric families.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from attrs import Factory, define, field, frozen
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from localful_ws.protocol import CloseCode, EventName

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of `Metrics.expose`: Prometheus's text format."""

DURATIONS: Final = (
    *(0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
)
"""The upper bounds of a histogram's buckets, in seconds."""

_PREFIX: Final = "localful_ws_"
_GENERATIONS: Final = 3
_REFUSALS: Final = (
    CloseCode.UNAUTHORIZED,
    CloseCode.FORBIDDEN,
    CloseCode.TOO_MANY,
    CloseCode.TRY_AGAIN_LATER,
)


class Histogram:
    """Counts observations by size.

    Args:
        bounds: The upper bounds of the buckets, ascending; a bound belongs to its bucket. A last bucket, for
            what is over all of them, is added.

    Attributes:
        bounds: As given.
        counts: How many observations are in each bucket, the added one included.
        sum: The sum of all observations.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = DURATIONS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count an observation, as often as it was made."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus wants them: each bound with the number of observations up to it."""
        return list(zip([*map(str, self.bounds), "+Inf"], accumulate(self.counts), strict=True))


@frozen
class Figure:
    """A figure of the engine's own.

    Attributes:
        name: As Prometheus is told, without what every name begins and ends with.
        text: What it says, as a sentence.
        value: Its value now.
        total: Whether it only grows: a counter; a gauge otherwise.
    """

    name: str
    text: str
    value: float
    total: bool = False


@frozen
class Gauges:
    """What a node is like at one moment.

    Attributes:
        connections: Open connections by the name of their state.
        half_open: Connections that have yet to authenticate.
        send_bytes: Memory that what waits to be sent takes.
        outbox_peak_events: The most events that one outbox has held since the start.
        outbox_peak_bytes: The most bytes that one outbox has held since the start.
        engine_up: Whether the engine can be reached.
        draining: Whether the node is about to stop.
        engine: The engine's own figures.
        users: Users who have an authenticated connection.
    """

    connections: Mapping[str, int] = Factory(dict)
    half_open: int = 0
    send_bytes: int = 0
    outbox_peak_events: int = 0
    outbox_peak_bytes: int = 0
    engine_up: bool = True
    draining: bool = False
    engine: Sequence[Figure] = ()
    users: int = 0


@define(eq=False)
class Metrics:
    """The counts of one node since its start. Whoever sees something happen counts it here.

    Attributes:
        gauges: Asked at a scrape what the node is like.
        connections_opened: WebSockets opened.
        half_opens_dropped: Connections that gave way to others before they had authenticated.
        handshakes_refused: Handshakes refused, by HTTP status.
        authentications: Sessions accepted, renewals included.
        authentication_failures: Sessions refused, renewals included, by code word.
        events_accepted: Events taken from publishers, by name, duplicates included.
        duplicates: Events that had been taken before, by their ``id``.
        resumes: Devices that wanted to resume, by whether they could.
        events_delivered: Events sent, once for each device.
        echoes_suppressed: Events kept from a device because its own token group made the change.
        closes: Connections ended, by reason word.
        slow_consumers: Connections closed because their outbox ran over.
        publish_to_write: Seconds from accepting an event to writing it.
        gc_pauses: Seconds of each garbage collection, a histogram for each generation.
    """

    gauges: Callable[[], Gauges] = Gauges
    connections_opened: int = 0
    half_opens_dropped: int = 0
    handshakes_refused: Counter[int] = Factory(Counter)
    authentications: int = 0
    # Words known beforehand are there from the start, as 0: else a rate() would not see the first increase.
    authentication_failures: Counter[str] = Factory(lambda: Counter({code.reason: 0 for code in _REFUSALS}))
    events_accepted: Counter[EventName] = Factory(lambda: Counter(dict.fromkeys(EventName, 0)))
    duplicates: int = 0
    resumes: Counter[bool] = Factory(lambda: Counter({True: 0, False: 0}))
    events_delivered: int = 0
    echoes_suppressed: int = 0
    closes: Counter[str] = Factory(lambda: Counter({code.reason: 0 for code in CloseCode}))
    slow_consumers: int = 0
    publish_to_write: Histogram = Factory(Histogram)
    gc_pauses: tuple[Histogram, ...] = Factory(lambda: tuple(Histogram() for _ in range(_GENERATIONS)))
    # Its own, so that two nodes in one process don't share their counts.
    _registry: CollectorRegistry = field(factory=CollectorRegistry, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Let a scrape find the counts and the process's own figures."""
        self._registry.register(_NodeCollector(self))
        ProcessCollector(registry=self._registry)

    def handshake_refused(self, status: int) -> None:
        """Count a handshake that was answered with an HTTP error."""
        self.handshakes_refused[status] += 1

    def authentication_failed(self, code: str) -> None:
        """Count a session that was refused, at first or in a renewal."""
        self.authentication_failures[code] += 1

    def accepted(self, names: Iterable[EventName], duplicates: int = 0) -> None:
        """Count events taken from a publisher, and those among them that had been taken before."""
        self.events_accepted.update(names)
        self.duplicates += duplicates

    def closed(self, reason: str) -> None:
        """Count the end of a connection."""
        self.closes[reason] += 1

    def observe_gc_pause(self, generation: int, seconds: float) -> None:
        """Count a garbage collection."""
        self.gc_pauses[generation].observe(seconds)

    def expose(self) -> bytes:
        """Everything in Prometheus's text format, the process's memory, CPU time and open files included."""
        return generate_latest(self._registry)


class _NodeCollector(Collector):
    """Turns a node's counts into metric families."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from _state(self._metrics.gauges())
        yield from _connections(self._metrics)
        yield from _events(self._metrics)
        yield _histogram(
            "gc_pause_seconds",
            "Time the node stood still for the garbage collector, by generation.",
            {(str(generation),): pauses for generation, pauses in enumerate(self._metrics.gc_pauses)},
            "generation",
        )


def _state(gauges: Gauges) -> Iterator[Metric]:
    yield _gauge(
        "connections",
        "Open connections by state: awaiting-auth, authenticated, or closed (closing).",
        {(state,): count for state, count in gauges.connections.items()},
        "state",
    )
    yield _gauge("half_open", "Connections that have yet to authenticate.", {(): gauges.half_open})
    yield _gauge("send_bytes", "Memory that what waits to be sent takes.", {(): gauges.send_bytes})
    yield _gauge("users", "Users who have an authenticated connection.", {(): gauges.users})
    yield _gauge(
        "outbox_peak_events",
        "The most events that have waited for one device since the start.",
        {(): gauges.outbox_peak_events},
    )
    yield _gauge(
        "outbox_peak_bytes",
        "The most bytes that have waited for one device since the start.",
        {(): gauges.outbox_peak_bytes},
    )
    yield _gauge("engine_up", "Whether the engine can be reached, 1 or 0.", {(): gauges.engine_up})
    yield _gauge("draining", "Whether the node is about to stop, 1 or 0.", {(): gauges.draining})
    for figure in gauges.engine:
        family = _counter if figure.total else _gauge
        yield family(figure.name, figure.text, {(): figure.value})


def _connections(metrics: Metrics) -> Iterator[Metric]:
    yield _counter("connections_opened", "WebSockets opened.", {(): metrics.connections_opened})
    yield _counter(
        "half_opens_dropped",
        "Connections dropped before they had authenticated, to make room for others.",
        {(): metrics.half_opens_dropped},
    )
    yield _counter(
        "handshakes_refused",
        "Handshakes answered with an HTTP error, by its status.",
        {(str(status),): count for status, count in metrics.handshakes_refused.items()},
        "status",
    )
    yield _counter("authentications", "Sessions accepted, renewals included.", {(): metrics.authentications})
    yield _counter(
        "authentication_failures",
        "Sessions refused, renewals included, by code word.",
        {(code,): count for code, count in metrics.authentication_failures.items()},
        "code",
    )
    yield _counter(
        "closes",
        "Connections that ended, by reason word: those of the close codes, device-closed, connection-lost "
        "and ping-timeout.",
        {(reason,): count for reason, count in metrics.closes.items()},
        "reason",
    )
    yield _counter(
        "slow_consumers", "Connections closed because their outbox ran over.", {(): metrics.slow_consumers}
    )


def _events(metrics: Metrics) -> Iterator[Metric]:
    yield _counter(
        "events_accepted",
        "Events accepted from publishers, by name, duplicates included.",
        {(name.value,): count for name, count in metrics.events_accepted.items()},
        "event",
    )
    yield _counter(
        "duplicates", "Accepted events that had been accepted before, by their id.", {(): metrics.duplicates}
    )
    yield _counter(
        "resumes",
        "Devices that wanted to resume after a gap, by whether they could, true or false.",
        {(str(resumed).lower(),): count for resumed, count in metrics.resumes.items()},
        "resumed",
    )
    yield _counter("events_delivered", "Events sent, once for each device.", {(): metrics.events_delivered})
    yield _counter(
        "echoes_suppressed",
        "Events kept from a device because its own token group made the change.",
        {(): metrics.echoes_suppressed},
    )
    yield _histogram(
        "publish_to_write_seconds",
        "Time from accepting an event to writing it to all its devices.",
        {(): metrics.publish_to_write},
    )


# Values go by those of the labels; a family without labels has one, under ().
def _counter(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _gauge(name: str, text: str, values: Mapping[tuple[str, ...], float], *labels: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _histogram(name: str, text: str, histograms: Mapping[tuple[str, ...], Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text, labels=labels)
    for label_values, histogram in histograms.items():
        family.add_metric(label_values, histogram.cumulative(), histogram.sum)
    return family
