"""Which figures are shown: the tables of each scenario, and what their columns are called."""

from collections.abc import Callable, Mapping

import attrs

from benchmarks.rubbish import KINDS


@attrs.frozen
class Column:
    """A figure of a scenario."""

    metric: str
    header: str
    compared: bool = True


TABLES: dict[str, tuple[tuple[str, tuple[Column, ...]], ...]] = {
    "fanout": (
        (
            "CPU of the server per delivered event, one user with {fanout_devices} devices",
            (
                Column("single_us", "one at a time, µs"),
                Column("burst_us", "bursts, µs"),
                Column("burst_per_second", "delivered/s in bursts", compared=False),
            ),
        ),
    ),
    "users": (
        (
            "CPU of the server per delivered event, {users} users with two devices, batches of {batch}",
            (
                Column("event_us", "per delivered event, µs"),
                Column("event_redis_us", "Redis beside it, µs", compared=False),
                Column("events_per_second", "events/s", compared=False),
            ),
        ),
    ),
    "single": (
        (
            "CPU of the server per event, a request each, {single_users:,} users with two devices in turn",
            (
                Column("serial_us", "one after the other, µs"),
                Column("together_us", "8 at a time, µs"),
                Column("together_per_second", "events/s, 8 at a time"),
                Column("many_us", "32 at a time, µs"),
                Column("many_per_second", "events/s, 32 at a time"),
                Column("many_redis_us", "Redis beside it, µs", compared=False),
                Column("together_cores", "cores busy: server", compared=False),
                Column("together_client_cores", "client", compared=False),
            ),
        ),
    ),
    "latency": (
        (
            "Publish to delivery, {latency_rate} events a second beside {latency_idle} idle devices",
            (
                Column("p50_ms", "p50, ms"),
                Column("p99_ms", "p99, ms"),
                Column("p99.9_ms", "p99.9, ms"),
                Column("worst_ms", "worst, ms"),
                Column("event_us", "CPU per event, µs", compared=False),
                Column("event_redis_us", "Redis beside it, µs", compared=False),
                Column("gc_pauses", "collector pauses", compared=False),
                Column("gc_longest_ms", "longest up to, ms", compared=False),
            ),
        ),
    ),
    "storm": (
        (
            "{storm_devices} devices dropped and reconnecting at once",
            (
                Column("all_back_s", "all back, s"),
                Column("cpu_s", "CPU, s"),
                Column("retries", "retries", compared=False),
                Column("calm_p99_ms", "p99 before, ms", compared=False),
                Column("storm_p50_ms", "p50 meanwhile, ms"),
                Column("storm_p99_ms", "p99 meanwhile, ms"),
                Column("storm_worst_ms", "worst, ms", compared=False),
            ),
        ),
    ),
    "load": (
        (
            "What gets through, as fast as it goes, and latency at {load_rate} single events a second",
            (
                Column("connects_per_second", "connects/s"),
                Column("single_per_second", "single events/s"),
                Column("batch_per_second", "events/s in batches of {load_batch}"),
                Column("paced_p50_ms", "p50 at the rate, ms"),
                Column("paced_p99_ms", "p99 at the rate, ms"),
            ),
        ),
        (
            "CPU of the server, all its processes together, and of Redis, µs",
            (
                Column("connect_us", "per connect"),
                Column("connect_redis_us", "Redis", compared=False),
                Column("single_us", "per single event"),
                Column("single_redis_us", "Redis", compared=False),
                Column("batch_us", "per event in batches"),
                Column("batch_redis_us", "Redis", compared=False),
            ),
        ),
        (
            "Cores that were busy meanwhile, of {cores}: the server's, Redis', the client's",
            tuple(
                Column(f"{phase}_{whose}cores", f"{title}: {label}", compared=False)
                for phase, title in (
                    ("connect", "connects"),
                    ("single", "single"),
                    ("batch", "batches"),
                    ("paced", "at the rate"),
                )
                for whose, label in (("", "server"), ("redis_", "Redis"), ("client_", "client"))
            ),
        ),
    ),
    "resume": (
        (
            "CPU per device that reconnects, of {resume_devices}; µs",
            (
                Column("plain_us", "without resuming"),
                Column("plain_redis_us", "Redis", compared=False),
                Column("resume_us", "with {resume_missed} missed events"),
                Column("resume_redis_us", "Redis", compared=False),
                Column("missed_us", "difference per missed event"),
                Column("resume_s", "all up to date, s", compared=False),
            ),
        ),
    ),
    "connections": (
        (
            "CPU per further connect and authenticate, µs, from {beyond:,} connections to the most",
            (Column("beyond_us", "per further connect, µs"),),
        ),
    ),
    "ping": (
        (
            "CPU of the server with {ping_devices} idle devices, each pinged every {ping_interval:g} s",
            (
                Column("ping_us", "per ping and pong, µs"),
                Column("pings_per_s", "pings/s", compared=False),
                Column("pinging_ms_per_s", "all, ms/s", compared=False),
                Column("quiet_ms_per_s", "without pings, ms/s", compared=False),
            ),
        ),
    ),
    "abuse": (
        (
            "{abuse_silent} devices that resume {abuse_history} events of {abuse_event_bytes} bytes unread",
            (
                Column("silent_resumed", "resumed", compared=False),
                Column("silent_left", "still connected", compared=False),
                Column("silent_before_mib", "RSS before, MiB", compared=False),
                Column("rss_mib@silent", "highest, MiB"),
                Column("silent_after_mib", "after them, MiB", compared=False),
                Column("p50_ms@silent", "healthy p50, ms"),
                Column("p95_ms@silent", "p95, ms"),
                Column("worst_ms@silent", "worst, ms"),
                Column("healthy_closed@silent", "healthy closed", compared=False),
            ),
        ),
    ),
    "crowd": (
        (
            "{crowd_devices:,} devices on one machine: what is added for each",
            (
                Column("servers", "servers", compared=False),
                Column("rss_kib", "RSS of the servers, KiB"),
                Column("slab_kib", "kernel's objects, both ends, KiB", compared=False),
                Column("tcp_kib", "TCP's buffers, both ends, KiB", compared=False),
                Column("rest_kib", "machine beyond the processes, KiB", compared=False),
                Column("connect_us", "CPU per connect, µs"),
                Column("connect_s", "all connected, s", compared=False),
            ),
        ),
        (
            "{crowd_rate} events a second at one of the servers, beside them",
            (
                Column("event_us", "CPU per event, µs"),
                Column("p50_ms", "p50, ms"),
                Column("p99_ms", "p99, ms"),
                Column("worst_ms", "worst, ms", compared=False),
            ),
        ),
        (
            "All cut off and connecting again, {crowd_window:,} at a time to each server",
            (
                Column("all_back_s", "all back, s"),
                Column("back_us", "CPU for each, µs"),
                Column("retries", "retries", compared=False),
            ),
        ),
        (
            "The collector's pauses, all servers together",
            tuple(
                Column(f"{phase}_gc_{metric}", f"{title}: {label}", compared=False)
                for phase, title in (("connect", "connecting"), ("event", "events"), ("back", "coming back"))
                for metric, label in (("pauses", "pauses"), ("longest_ms", "longest up to, ms"))
            ),
        ),
    ),
    "leak": (
        (
            "RSS over {leak_connects:,} connections made and closed, without Python's collector",
            (
                Column("before_mib", "before, MiB", compared=False),
                Column("after_mib", "after, MiB", compared=False),
                Column("left_bytes", "left of each, bytes"),
            ),
        ),
    ),
    "soak": (
        (
            "RSS with {soak_rate} events and {soak_churn} connections a second that come and go",
            (
                Column("empty_mib", "at first, MiB", compared=False),
                Column("settled_mib", "after {soak_settled_seconds:,.0f} s, MiB"),
                Column("end_mib", "at the end, MiB"),
                Column("highest_mib", "highest, MiB", compared=False),
                Column("seconds", "the end, s", compared=False),
                Column("connects", "connections", compared=False),
                Column("events", "events", compared=False),
                Column("p99_ms", "p99, ms", compared=False),
            ),
        ),
    ),
}


def others_order(label: str) -> tuple[int, int]:
    """From nothing at all to the highest rate; then the control."""
    if label.isdecimal():
        return 1, int(label)
    return (0, 0) if label == "idle" else (2, 0)


@attrs.frozen
class Phased:
    """A table for each server, with a row for each phase of the run; a figure of a phase is `METRIC@PHASE`.

    Attributes:
        caption: What stands above.
        phase: The head of the first column.
        metric: A figure that every phase has.
        columns: The heads of the other columns, by metric.
        names: What phases are called that are not called what they are.
        order: Sorts the phases.
        tally: The last column, if there is one: a count of what is in `TALLY: WHAT@PHASE`.
    """

    caption: str
    phase: str
    metric: str
    columns: Mapping[str, str]
    names: Mapping[str, str]
    order: Callable[[str], tuple[int, int]]
    tally: str = ""


PHASED = {
    "others": Phased(
        caption="A node with {others_devices} devices and {others_rate} events a second for its own users, "
        "while another node publishes for other users",
        phase="events a second for others",
        metric="node_ms",
        columns={
            "rate": "really published/s",
            "node_ms": "CPU of the node, ms/s",
            "own_us": "per own event, µs",
            "p99_ms": "p99 of own events, ms",
            "redis_ms": "CPU of its Redis, ms/s",
            "other_ms": "CPU of the other node, ms/s",
        },
        names={"idle": "0, and none of its own", "elsewhere": "as many, into another Redis"},
        order=others_order,
    ),
    "abuse": Phased(
        caption="{abuse_sockets} sockets without a token that send rubbish, beside 40 healthy devices with "
        "{abuse_rate} events a second",
        phase="rubbish",
        metric="p50_ms",
        columns={
            "p50_ms": "healthy p50, ms",
            "p95_ms": "p95, ms",
            "worst_ms": "worst, ms",
            "healthy_closed": "healthy closed",
            "cores": "cores busy",
            "rss_mib": "highest RSS, MiB",
            "sent_mib": "rubbish, MiB",
            "told_last_s": "last one told, s",
            "gone_last_s": "last one gone, s",
            "late": "too late",
        },
        names={"silent": "none, but never read"},
        order=lambda label: (("none", *KINDS, "silent").index(label), 0),
        tally="closed",
    ),
}
FAMILIES = (
    ("connect_us", "CPU per connect and authenticate, µs, from a fresh start"),
    ("further_us", "CPU per further connect and authenticate, µs, since the level below"),
    ("rss_kib", "RSS per connection, KiB"),
    ("event_us", "CPU per event published to one user with ten devices, µs"),
)
