"""Sockets that misbehave beside devices that don't: who notices, and how the server gets rid of them."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from benchmarks.abuser import Abuser
from benchmarks.client import Client
from benchmarks.model import BenchmarkError, EventSource, devices_of, vaults_of
from benchmarks.publisher import Publisher
from benchmarks.running import Running
from benchmarks.scenarios.common import WINDOW, Paced, Result, client_of, publisher_of, quantiles
from benchmarks.setup import Setup, variable
from benchmarks.sizes import Sizes

USERS = 20
PUBLISHERS = 8
BATCH = 250
TIMEOUT = 3.0
"""Seconds in which a socket without a token must be closed, unless for its rubbish."""
SLACK = 0.5
"""Seconds more, which a busy machine may take."""
TIMEOUTS = frozenset({"4408", "HTTP 408", "ended", "reset"})
"""What a socket is told that was closed for being late; anything else is an answer to its rubbish."""
SAMPLE_SECONDS = 0.5
SILENT = "silent"
SETUP = Setup(settings={variable("handshake-timeout"): f"{TIMEOUT:g}", variable("history-bytes"): "128MiB"})
"""One bound for all kinds, before and after the upgrade; and room for what the silent devices have missed."""


@attrs.define
class Beside:
    """The healthy devices: told of an event at a steady rate, while something goes on beside them.

    Attributes:
        server: Which server.
        client: With pairs of devices connected, and with a list of those that lost their connection.
        paced: Tells them.
        least_seconds: How long they are told at least.
        started: When the run began; the samples of memory count from there.
        rss: Seconds and MiB.
    """

    server: Running
    client: Client
    paced: Paced
    least_seconds: float
    started: float = attrs.field(factory=time.monotonic)
    rss: list[tuple[float, float]] = attrs.field(factory=list)
    _sampled: float = 0.0

    def during(self, label: str, is_over: Callable[[], bool]) -> dict[str, float]:
        """Tell them until it is over.

        Returns:
            Quantiles of latency in milliseconds, the server's CPU and memory, and how many were closed.
        """
        lost = self._lost()
        cpu, began = self.server.cpu(), time.monotonic()
        peak = 0.0

        def over(seconds: float) -> bool:
            nonlocal peak
            peak = max(peak, self.sample())
            return is_over() and seconds >= self.least_seconds

        curve = quantiles(self.paced.run(over))
        cores = (self.server.cpu() - cpu) / 1e9 / (time.monotonic() - began)
        figures = {
            "p50_ms": curve["50"],
            "p95_ms": curve["95"],
            "worst_ms": curve["100"],
            "cores": cores,
            "rss_mib": peak,
            "healthy_closed": self._lost() - lost,
        }
        return {f"{name}@{label}": value for name, value in figures.items()}

    def sample(self) -> float:
        """The server's memory in MiB, looked at from time to time."""
        now = time.monotonic()
        if now - self._sampled >= SAMPLE_SECONDS:
            self._sampled = now
            self.rss.append((round(now - self.started, 1), round(self.server.rss() / 2**20, 2)))
        return self.rss[-1][1]

    def _lost(self) -> int:
        return len(self.client.lost or ())


def run(server: Running, sizes: Sizes, _limit: int, alternation: int) -> Result:
    """Have sockets send rubbish, one kind after the other; then have devices resume that never read.

    Each kind begins with all sockets at the same time and lasts until the server has closed the last one. A
    healthy device may be told later than usual, and must not be closed. A socket without a token must be
    closed in three seconds, unless it is told what is wrong with what it sends.
    """
    specs = list(devices_of("healthy", 0, 2 * USERS))
    pairs = list(zip(specs[::2], specs[1::2], strict=True))
    metrics: dict[str, float] = {}
    failures: list[str] = []
    sockets: dict[str, list[Any]] = {}
    with client_of(server) as client, publisher_of(client, PUBLISHERS) as publisher:
        client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
        client.lost = []
        paced = Paced(client, publisher, pairs, sizes.abuse_rate, alternation)
        beside = Beside(server, client, paced, sizes.abuse_least_seconds)
        paced.run(lambda seconds: seconds >= 1)  # warm-up
        metrics |= beside.during("none", lambda: True)
        for kind in sizes.abuse_kinds:
            server.calm_down(client, sizes.settle_seconds)
            metrics |= (figures := rubbish(beside, sizes, kind, sockets))
            if figures[f"late@{kind}"]:
                failures.append(f"{kind}: {figures[f'late@{kind}']:.0f} sockets were not closed in time")
        server.calm_down(client, sizes.settle_seconds)
        if sizes.abuse_silent:
            metrics |= never_read(beside, sizes, leave_behind(client, publisher, sizes))
        client.settle(0.3)
        failures += [f"a healthy device was closed: {why}" for why in client.lost]
        checked = client.ledger.verify(ordered=False)
        details = {"sockets": sockets, "rss_mib": beside.rss}
        posts = publisher.posts
    return Result(metrics=metrics, checked=checked, posts=posts, details=details, failures=tuple(failures))


def rubbish(beside: Beside, sizes: Sizes, kind: str, sockets: dict[str, list[Any]]) -> dict[str, float]:
    """One kind; what became of each socket goes into `sockets`."""
    abuser = Abuser(beside.server.target)
    try:
        abuser.begin(kind, sizes.abuse_sockets, sizes.abuse_seconds)
        answers: list[dict[str, Any]] = []

        def over() -> bool:
            answer = None if answers else abuser.poll(0)
            if answer is not None:
                answers.append(answer)
            return bool(answers)

        figures = beside.during(kind, over)
    finally:
        abuser.close()
    outcomes = sockets[kind] = answers[0]["sockets"]
    figures |= {f"late@{kind}": sum(map(is_late, outcomes)), f"sent_mib@{kind}": answers[0]["mib"]}
    for what, moments in zip(("told", "gone"), zip(*outcomes, strict=True), strict=False):
        known = [moment for moment in moments if moment is not None]
        if known:
            figures[f"{what}_last_s@{kind}"] = max(known)
    for how, count in Counter(how for _told, _gone, how in outcomes).items():
        figures[f"closed: {how}@{kind}"] = count
    return figures


def is_late(outcome: Sequence[Any]) -> bool:
    """Whether this socket was closed neither in time nor for its rubbish."""
    told, gone, how = outcome
    closed = told if told is not None else gone
    if closed is None:
        return True
    return how in TIMEOUTS and closed > TIMEOUT + SLACK


def leave_behind(client: Client, publisher: Publisher, sizes: Sizes) -> dict[str, str]:
    """Publish what the silent devices will have missed.

    Returns:
        The cursor before it, by user.
    """
    specs = list(devices_of(SILENT, 0, sizes.abuse_silent_users, per_user=1))
    healthy = len(client.devices)
    client.connect(client.prepare(specs), window=WINDOW, timeout=sizes.connect_timeout)
    gone = client.drop(keep=healthy)
    contents = "s" * sizes.abuse_event_bytes
    missed = EventSource(lambda: contents)
    for spec in specs:
        for start in range(0, sizes.abuse_history, BATCH):
            count = min(BATCH, sizes.abuse_history - start)
            publisher.publish([missed.make(spec.user, vaults_of(spec.user)[0]) for _index in range(count)])
            client.run_until(publisher.is_idle, sizes.delivery_timeout, "the history")
    return {device.spec.user: device.cursor for device in gone}


def never_read(beside: Beside, sizes: Sizes, since: dict[str, str]) -> dict[str, float]:
    """Have devices resume that never read, and wait with them."""
    before = beside.server.metrics()
    abuser = Abuser(beside.server.target)
    try:
        empty = beside.server.rss()
        asked: list[float] = []
        abuser.resume_silently(since, sizes.abuse_silent)

        def over() -> bool:
            if not asked and abuser.poll(0) is not None:
                asked.append(time.monotonic())
            return bool(asked) and time.monotonic() - asked[0] >= sizes.abuse_silent_seconds

        figures = beside.during(SILENT, over)
        left = abuser.silent_left()
    finally:
        abuser.close()
    after = beside.server.metrics()
    beside.server.calm_down(beside.client, sizes.settle_seconds)
    resumed = sum(
        value - before.get(name, 0) for name, value in after.items() if RESUMED in name and "true" in name
    )
    if not resumed:
        raise BenchmarkError("none of the devices that never read could resume")
    return figures | {
        "silent_resumed": resumed,
        "silent_left": left,
        "silent_before_mib": empty / 2**20,
        "silent_after_mib": beside.server.rss() / 2**20,
    }


RESUMED = "localful_ws_resumes_total"
