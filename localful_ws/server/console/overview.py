"""What the console shows first: the metrics that an operator looks at, as JSON.

It is made of what Prometheus is shown, and so of all workers. What is counted is a total since the start;
rates are for whoever asks again.
"""

from collections.abc import Iterable, Mapping, Sequence

from localful_ws import __version__
from localful_ws.metrics import PREFIX, Family, Figure
from localful_ws.redis_url import parse_url


def name_engine(engine: str) -> Mapping[str, str]:
    """Say what engine the setting ``engine`` names, and where it is: without the secrets that it may hold."""
    if engine == "memory":
        return {"name": "memory", "place": ""}
    address = parse_url(engine)
    return {"name": address.scheme, "place": str(address)}


def build_overview(
    families: Iterable[Family],
    figures: Sequence[Figure],
    engine: Mapping[str, str],
    *,
    now: float,
    unavailable: str | None,
) -> Mapping[str, object]:
    """Make the overview.

    Args:
        families: The metrics.
        figures: The engine's own figures among them.
        engine: Which engine it is, as `name_engine` says it.
        now: The present, in Unix seconds.
        unavailable: Why devices and publishers are not served now, as a sentence; None if they are.
    """
    samples = {family.name.removeprefix(PREFIX): family.samples for family in families}

    def one(name: str, otherwise: float = 0) -> float:
        return samples.get(name, {}).get(("", ""), otherwise)

    def several(name: str) -> Mapping[str, float]:
        return {said: value for (said, _), value in samples.get(name, {}).items()}

    def total(figure: Figure) -> float:
        values = samples.get(figure.name, figure.value)
        return sum(values.values()) if isinstance(values, Mapping) else values

    durations = {part: value for (_, part), value in samples.get("publish_to_write_seconds", {}).items()}
    return {
        "time": now,
        "startedAt": one("process_start_time_seconds", now),
        "version": __version__,
        "unavailable": unavailable,
        "draining": bool(one("draining")),
        "workers": {
            "serving": one("workers", 1),
            "missing": one("workers_missing"),
            "restarts": one("worker_restarts"),
        },
        "connections": several("connections"),
        "users": one("users"),
        "connectionsOpened": one("connections_opened"),
        "handshakesRefused": several("handshakes_refused"),
        "authentications": one("authentications"),
        "authenticationFailures": several("authentication_failures"),
        "resumes": several("resumes"),
        "closes": several("closes"),
        "missedEventsLately": one("missed_events_lately"),
        "slowConsumers": one("slow_consumers"),
        "sendBuffer": {
            "peakEvents": one("send_buffer_peak_events"),
            "peakBytes": one("send_buffer_peak_bytes"),
        },
        "events": {
            "accepted": several("events_accepted"),
            "duplicates": one("duplicates"),
            "delivered": one("events_delivered"),
            "echoes": one("echoes_suppressed"),
        },
        "publishToWrite": {
            "upTo": {
                part: value for part, value in durations.items() if part not in {"+Inf", "count", "sum"}
            },
            "count": durations.get("count", 0),
            "sum": durations.get("sum", 0.0),
        },
        "engine": {
            **engine,
            "up": bool(one("engine_up")),
            "figures": [
                {
                    "name": figure.name,
                    "text": figure.text,
                    "value": total(figure),
                    "total": figure.total,
                }
                for figure in figures
            ],
        },
        "process": {
            "memoryBytes": one("process_resident_memory_bytes"),
            "cpuSeconds": one("process_cpu_seconds"),
            "openFiles": one("process_open_fds"),
            "maxFiles": one("process_max_fds"),
        },
    }
