"""Counts, and what Prometheus sees of them."""

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from localful_ws.metrics import CONTENT_TYPE, DURATIONS, Gauges, Histogram, Metrics, expose
from localful_ws.protocol import CloseCode, EventName

Samples = dict[tuple[str, tuple[str, ...]], float]


def scrape(metrics: Metrics) -> Samples:
    """Every sample by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(expose(metrics.families()).decode())
        for sample in family.samples
    }


def test_names_help_and_types() -> None:
    text = expose(Metrics().families()).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {name for name in families if name.startswith("localful_ws_")}
    assert {name.removeprefix("localful_ws_"): families[name].type for name in ours} == {
        "connections": "gauge",
        "half_open": "gauge",
        "send_bytes": "gauge",
        "users": "gauge",
        "missed_events_lately": "gauge",
        "send_buffer_peak_events": "gauge",
        "send_buffer_peak_bytes": "gauge",
        "engine_up": "gauge",
        "draining": "gauge",
        "connections_opened": "counter",
        "half_opens_dropped": "counter",
        "handshakes_refused": "counter",
        "authentications": "counter",
        "authentication_failures": "counter",
        "closes": "counter",
        "slow_consumers": "counter",
        "events_accepted": "counter",
        "duplicates": "counter",
        "resumes": "counter",
        "events_delivered": "counter",
        "echoes_suppressed": "counter",
        "publish_to_write_seconds": "histogram",
        "gc_pause_seconds": "histogram",
    }
    assert {name for name in families if name not in ours} > {
        "process_resident_memory_bytes",
        "process_open_fds",
    }
    assert all(family.documentation.endswith(".") for family in families.values())
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_what_is_known_beforehand_starts_at_0() -> None:
    samples = scrape(Metrics())
    for name in EventName:
        assert samples["localful_ws_events_accepted_total", (name.value,)] == 0
    for code in CloseCode:
        assert samples["localful_ws_closes_total", (code.reason,)] == 0
    for word in ("unauthorized", "forbidden", "too-many", "try-again-later"):
        assert samples["localful_ws_authentication_failures_total", (word,)] == 0
    assert samples["localful_ws_slow_consumers_total", ()] == 0


def test_counts() -> None:
    metrics = Metrics()
    before = scrape(metrics)
    metrics.connections_opened += 1
    metrics.authentications += 2
    metrics.events_delivered += 3
    metrics.echoes_suppressed += 4
    metrics.slow_consumers += 5
    metrics.handshake_refused(404)
    metrics.handshake_refused(404)
    metrics.authentication_failed("unauthorized")
    metrics.accepted([EventName.ITEM_CREATE], duplicates=7)
    metrics.resumes[True] += 8
    metrics.closed("slow-consumer")
    metrics.closed("ping-timeout")
    after = scrape(metrics)
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    assert {key: value for key, value in changed.items() if key[0].startswith("localful_ws_")} == {
        ("localful_ws_connections_opened_total", ()): 1,
        ("localful_ws_authentications_total", ()): 2,
        ("localful_ws_events_delivered_total", ()): 3,
        ("localful_ws_echoes_suppressed_total", ()): 4,
        ("localful_ws_slow_consumers_total", ()): 5,
        ("localful_ws_handshakes_refused_total", ("404",)): 2,
        ("localful_ws_authentication_failures_total", ("unauthorized",)): 1,
        ("localful_ws_events_accepted_total", ("item-create",)): 1,
        ("localful_ws_duplicates_total", ()): 7,
        ("localful_ws_resumes_total", ("true",)): 8,
        ("localful_ws_closes_total", ("slow-consumer",)): 1,
        ("localful_ws_closes_total", ("ping-timeout",)): 1,
    }


def test_gauges_are_asked_for_at_every_scrape() -> None:
    state = Gauges(
        {"awaiting-auth": 1, "authenticated": 7}, send_buffer_peak_events=3, send_buffer_peak_bytes=400
    )
    metrics = Metrics(gauges=lambda: state)
    samples = scrape(metrics)
    assert samples["localful_ws_connections", ("awaiting-auth",)] == 1
    assert samples["localful_ws_connections", ("authenticated",)] == 7
    assert samples["localful_ws_send_buffer_peak_events", ()] == 3
    assert samples["localful_ws_send_buffer_peak_bytes", ()] == 400
    assert samples["localful_ws_engine_up", ()] == 1
    assert samples["localful_ws_draining", ()] == 0
    state = Gauges({"authenticated": 2}, engine_up=False, draining=True)
    samples = scrape(metrics)
    assert samples["localful_ws_connections", ("authenticated",)] == 2
    assert samples["localful_ws_engine_up", ()] == 0
    assert samples["localful_ws_draining", ()] == 1


def test_two_nodes_in_one_process() -> None:
    one, other = Metrics(), Metrics()
    one.closed("forbidden")
    one.publish_to_write.observe(1)
    one.observe_gc_pause(2, 1)
    assert scrape(other)["localful_ws_closes_total", ("forbidden",)] == 0
    assert scrape(other)["localful_ws_publish_to_write_seconds_count", ()] == 0
    assert scrape(other)["localful_ws_gc_pause_seconds_count", ("2",)] == 0


def test_histograms_in_a_scrape() -> None:
    metrics = Metrics()
    for seconds in (0.00005, 0.0001, 0.003, 7.0):
        metrics.publish_to_write.observe(seconds)
    metrics.observe_gc_pause(1, 0.02)
    samples = scrape(metrics)
    name = "localful_ws_publish_to_write_seconds"
    assert samples[f"{name}_bucket", ("0.0001",)] == 2
    assert samples[f"{name}_bucket", ("0.0025",)] == 2
    assert samples[f"{name}_bucket", ("0.005",)] == 3
    assert samples[f"{name}_bucket", ("5.0",)] == 3
    assert samples[f"{name}_bucket", ("+Inf",)] == samples[f"{name}_count", ()] == 4
    assert samples[f"{name}_sum", ()] == pytest.approx(7.00315)
    counts = [samples["localful_ws_gc_pause_seconds_count", (generation,)] for generation in "012"]
    assert counts == [0, 1, 0]
    assert samples["localful_ws_gc_pause_seconds_bucket", ("1", "0.01")] == 0
    assert samples["localful_ws_gc_pause_seconds_bucket", ("1", "0.025")] == 1


def test_buckets_reach_from_100_microseconds_to_5_seconds() -> None:
    assert (DURATIONS[0], DURATIONS[-1]) == (0.0001, 5.0)
    assert list(DURATIONS) == sorted(DURATIONS)


@given(st.lists(st.floats(0, 10) | st.sampled_from(DURATIONS)))
def test_a_histogram_counts_up_to_each_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    ordered = sorted(values)
    expected = [(str(bound), bisect_right(ordered, bound)) for bound in DURATIONS]
    total = ("sum", pytest.approx(sum(values)))
    assert list(histogram.parts()) == [*expected, ("+Inf", len(values)), ("count", len(values)), total]
