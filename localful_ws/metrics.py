"""What a node counts, and how Prometheus reads it.

On the hot path a count is a plain int or a dict of them. Whoever asks gets them as families of numbers; they
become text where Prometheus is answered, and nowhere else.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, Literal

import msgspec
from attrs import Factory, define, frozen
from prometheus_client import PROCESS_COLLECTOR, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from localful_ws.protocol import CloseCode, EventName

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of what `expose` makes: Prometheus's text format."""

DURATIONS: Final = (
    *(0.0001, 0.00025, 0.0005),
    *(0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0),
)
"""The upper bounds of a histogram's buckets, in seconds, ascending; a bound belongs to its bucket."""

PREFIX: Final = "localful_ws_"
"""What the names of our own families begin with."""

# The attributes of `Gauges` and `Metrics` that are shown: what each is called, by what it is counted if it is
# several, and what it says.
_GAUGES: Final = (
    (
        "connections",
        "state",
        "Open connections by state: awaiting-auth, authenticated, or closed (closing).",
    ),
    ("half_open", "", "Connections that have yet to authenticate."),
    ("send_bytes", "", "Memory that what waits to be sent takes."),
    ("users", "", "Users who have an authenticated connection."),
    ("send_buffer_peak_events", "", "The most events that have waited for one device since the start."),
    ("send_buffer_peak_bytes", "", "The most bytes that have waited for one device since the start."),
    ("missed_events_lately", "", "Devices closed with missed-events, 4413, in the last five minutes."),
    ("engine_up", "", "Whether the engine can be reached and takes what is written, 1 or 0."),
    ("draining", "", "Whether the node is about to stop, 1 or 0."),
)
_COUNTERS: Final = (
    ("connections_opened", "", "WebSockets opened."),
    (
        "half_opens_dropped",
        "",
        "Connections dropped before they had authenticated, to make room for others.",
    ),
    ("handshakes_refused", "status", "Handshakes answered with an HTTP error, by its status."),
    ("authentications", "", "Sessions accepted, renewals included."),
    ("authentication_failures", "code", "Sessions refused, renewals included, by code word."),
    (
        "closes",
        "reason",
        (
            "Connections that ended, by reason word: those of the close codes, device-closed, "
            "connection-lost and ping-timeout."
        ),
    ),
    ("slow_consumers", "", "Connections closed because their send buffer ran over."),
    ("events_accepted", "event", "Events accepted from publishers, by name, duplicates included."),
    ("duplicates", "", "Accepted events that had been accepted before, by their id."),
    (
        "resumes",
        "resumed",
        "Devices that wanted to resume after a gap, by whether they could, true or false.",
    ),
    ("events_delivered", "", "Events sent, once for each device."),
    ("echoes_suppressed", "", "Events kept from a device because its own token group made the change."),
)

_GENERATIONS: Final = 3
_REFUSALS: Final = (
    CloseCode.UNAUTHORIZED,
    CloseCode.FORBIDDEN,
    CloseCode.TOO_MANY,
    CloseCode.TRY_AGAIN_LATER,
)
_Kind = Literal["counter", "gauge", "histogram"]


class Family(msgspec.Struct, frozen=True):
    """What Prometheus calls a metric family: numbers under one name.

    Attributes:
        name: As Prometheus is told, but for the ``_total`` of a counter.
        text: What it says, as a sentence.
        kind: What Prometheus calls its type.
        samples: The numbers, by what the label says and by what part of a histogram they are: ``count``,
            ``sum``, or the upper bound of a bucket. Without a label, or a histogram, that is empty.
        label: The name of the label; empty if there is none.
    """

    name: str
    text: str
    kind: _Kind
    samples: dict[tuple[str, str], int | float]
    label: str = ""


class Histogram:
    """Counts durations by size.

    Attributes:
        counts: How many there were up to each of `DURATIONS` and over the one before; the last is what was
            over all of them.
        sum: The sum of all, in seconds.
    """

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATIONS) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a duration, as often as it was observed."""
        self.counts[bisect_left(DURATIONS, value)] += times
        self.sum += value * times

    def parts(self) -> Iterator[tuple[str, float]]:
        """What Prometheus wants: how many there were up to each bound, how many in all, and their sum."""
        yield from zip([*map(str, DURATIONS), "+Inf"], accumulate(self.counts), strict=True)
        yield "count", sum(self.counts)
        yield "sum", self.sum


@frozen
class Figure:
    """A figure of the engine's own.

    Attributes:
        name: As Prometheus is told, without what every name begins and ends with.
        text: What it says, as a sentence.
        value: Its value now, or its values by what the label says.
        total: Whether it only grows: a counter; a gauge otherwise.
        label: The name of the label, if it has one.
    """

    name: str
    text: str
    value: float | Mapping[str, float]
    total: bool = False
    label: str = ""


@frozen
class Gauges:
    """What a node is like at one moment.

    Attributes:
        connections: Open connections by the name of their state.
        half_open: Connections that have yet to authenticate.
        send_bytes: Memory that what waits to be sent takes.
        send_buffer_peak_events: The most events that one send buffer has held since the start.
        send_buffer_peak_bytes: The most bytes that one send buffer has held since the start.
        engine_up: Whether the engine can be reached and takes what is written.
        draining: Whether the node is about to stop.
        engine: The engine's own figures.
        users: Users who have an authenticated connection.
        missed_events_lately: Devices closed in the last five minutes because they missed events.
    """

    connections: Mapping[str, int] = Factory(dict)
    half_open: int = 0
    send_bytes: int = 0
    send_buffer_peak_events: int = 0
    send_buffer_peak_bytes: int = 0
    engine_up: bool = True
    draining: bool = False
    engine: Sequence[Figure] = ()
    users: int = 0
    missed_events_lately: int = 0


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
        slow_consumers: Connections closed because their send buffer ran over.
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

    def families(self) -> list[Family]:
        """Everything, the process's memory, CPU time and open files included."""
        gauges = self.gauges()
        return [
            *(_family("gauge", *row, getattr(gauges, row[0])) for row in _GAUGES),
            *families_of(gauges.engine),
            *(_family("counter", *row, getattr(self, row[0])) for row in _COUNTERS),
            _family(
                "histogram",
                "publish_to_write_seconds",
                "",
                "Time from accepting an event to writing it to all its devices.",
                self.publish_to_write,
            ),
            _family(
                "histogram",
                "gc_pause_seconds",
                "generation",
                "Time the node stood still for the garbage collector, by generation.",
                dict(enumerate(self.gc_pauses)),
            ),
            *process_families(),
        ]


def process_families() -> list[Family]:
    """The memory, CPU time and open files of this process, where the system tells them."""
    return [
        Family(
            metric.name,
            metric.documentation,
            "counter" if metric.type == "counter" else "gauge",
            {("", ""): metric.samples[0].value},
        )
        for metric in PROCESS_COLLECTOR.collect()
    ]


def families_of(figures: Iterable[Figure]) -> Iterator[Family]:
    """Make a family of ours of each figure."""
    for figure in figures:
        kind: _Kind = "counter" if figure.total else "gauge"
        yield _family(kind, figure.name, figure.label, figure.text, figure.value)


def expose(families: Iterable[Family]) -> bytes:
    """Write families in Prometheus's text format."""
    return generate_latest(_Exposition(families))


class _Exposition(Collector):
    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            for (said, part), value in family.samples.items():
                labels = {family.label: said} if family.label else {}
                match family.kind, part:
                    case "counter", _:
                        suffix = "_total"
                    case "histogram", "count" | "sum":
                        suffix = f"_{part}"
                    case "histogram", _:
                        suffix, labels["le"] = "_bucket", part
                    case _:
                        suffix = ""
                metric.add_sample(family.name + suffix, labels, value)
            yield metric


def _family(kind: _Kind, name: str, label: str, text: str, value: Any) -> Family:
    """A family of ours: a number or a histogram, or a mapping of them by what the label says."""
    samples: dict[tuple[str, str], float] = {}
    for said, each in (value if isinstance(value, Mapping) else {"": value}).items():
        # The plus makes a number of a bool.
        parts = each.parts() if isinstance(each, Histogram) else (("", +each),)
        samples |= {(_say(said), part): number for part, number in parts}
    return Family(PREFIX + name, text, kind, samples, label)


def _say(key: object) -> str:
    match key:
        case bool():
            return "true" if key else "false"
        case EventName():
            return str(key.value)
    return str(key)
