"""The metrics of several workers as one account."""

import pytest
import trio
from attrs import Factory, define
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.metrics import Gauges, Metrics
from localful_ws.protocol import EventName
from localful_ws.server.questions import Answer, MetricsAnswer, MetricsQuestion, Question
from localful_ws.server.workers.inquiries import ANSWER_SECONDS, Inquiries
from localful_ws.server.workers.merge import lasting, merge, parse, render

METRICS = MetricsQuestion()
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: bytes) -> Samples:
    """Every sample by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def ours(text: bytes) -> list[str]:
    """The lines about the node itself, in order."""
    return sorted(line for line in text.decode().splitlines() if "localful_ws_" in line)


def merged(*texts: bytes) -> Samples:
    return samples(render(merge(map(parse, texts))))


# --- merging ---


def test_of_one_process_nothing_is_changed() -> None:
    metrics = Metrics(gauges=lambda: Gauges({"authenticated": 2, 'a "b"\\c\n': 1}, 3, 4))
    metrics.closed("ping-timeout")
    metrics.publish_to_write.observe(0.003)
    text = metrics.expose()
    assert render(parse(text)) == text
    assert ours(render(merge([parse(text)]))) == ours(text)


def test_counters_and_histograms_are_summed() -> None:
    one, other = Metrics(), Metrics()
    one.connections_opened, other.connections_opened = 2, 3
    one.accepted([EventName.ITEM_CREATE])
    other.accepted([EventName.ITEM_CREATE, EventName.ITEM_DELETE])
    one.handshake_refused(404)
    one.publish_to_write.observe(0.003)
    other.publish_to_write.observe(0.003)
    other.publish_to_write.observe(0.3)
    both = merged(one.expose(), other.expose())
    assert both["localful_ws_connections_opened_total", ()] == 5
    assert both["localful_ws_events_accepted_total", ("item-create",)] == 2
    assert both["localful_ws_events_accepted_total", ("item-delete",)] == 1
    assert both["localful_ws_events_accepted_total", ("user-update",)] == 0
    assert both["localful_ws_handshakes_refused_total", ("404",)] == 1
    name = "localful_ws_publish_to_write_seconds"
    assert [both[f"{name}_bucket", (bound,)] for bound in ("0.0025", "0.005", "0.5", "+Inf")] == [0, 2, 3, 3]
    assert both[f"{name}_count", ()] == 3
    assert both[f"{name}_sum", ()] == pytest.approx(0.306)


def test_gauges_are_summed_but_for_those_of_which_a_sum_says_nothing() -> None:
    one = Metrics(gauges=lambda: Gauges({"authenticated": 7, "closed": 1}, 30, 4000))
    other = Metrics(gauges=lambda: Gauges({"authenticated": 2}, 20, 5000, engine_up=False, draining=True))
    third = Metrics(gauges=lambda: Gauges({"authenticated": 1}))
    for order in ((one, other, third), (third, other, one)):
        all_of_them = merged(*(metrics.expose() for metrics in order))
        assert all_of_them["localful_ws_connections", ("authenticated",)] == 10
        assert all_of_them["localful_ws_connections", ("closed",)] == 1
        assert all_of_them["localful_ws_outbox_peak_events", ()] == 30
        assert all_of_them["localful_ws_outbox_peak_bytes", ()] == 5000
        assert all_of_them["localful_ws_engine_up", ()] == 0
        assert all_of_them["localful_ws_draining", ()] == 1


def test_the_processes_own_figures() -> None:
    text = (
        b"# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes %d\n"
        b"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n"
        b"# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total %d\n"
        b"# TYPE process_open_fds gauge\nprocess_open_fds %d\n"
        b"# TYPE process_max_fds gauge\nprocess_max_fds %d\n"
    )
    both = merged(text % (100, 2000, 3, 4, 50), text % (10, 1000, 30, 40, 50))
    assert {name: value for (name, _), value in both.items()} == {
        "process_resident_memory_bytes": 110,
        "process_start_time_seconds": 1000,
        "process_cpu_seconds_total": 33,
        "process_open_fds": 44,
        "process_max_fds": 100,
    }


def test_what_was_merged_is_left_as_it_was() -> None:
    one, other = parse(b"# TYPE a counter\na 1\n"), parse(b"# TYPE a counter\na 2\n")
    merge([one, other])
    assert samples(render(one)) == {("a_total", ()): 1}
    assert merge([]) == []


def test_counters_and_histograms_last() -> None:
    kept = lasting(parse(Metrics().expose()))
    assert {family.type for family in kept} == {"counter", "histogram"}
    assert "localful_ws_connections" not in {family.name for family in kept}
    assert {"localful_ws_closes", "localful_ws_gc_pause_seconds", "process_cpu_seconds"} <= {
        family.name for family in kept
    }


# --- gathering ---


@define(eq=False)
class FakeWorker:
    """A worker that tells its metrics, unless it is stuck.

    Attributes:
        inquiries: Whom it tells.
        metrics: What it counted.
        stuck: Whether it answers nothing.
        answers: What it was answered.
        asked: The numbers it was asked with.
        answered: Set at the next answer.
    """

    inquiries: Inquiries
    metrics: Metrics = Factory(Metrics)
    stuck: bool = False
    answers: list[tuple[int, Samples]] = Factory(list)
    asked: list[int] = Factory(list)
    answered: trio.Event = Factory(trio.Event)

    def tell(self, number: int, question: Question) -> None:
        assert question == METRICS
        self.asked.append(number)
        if not self.stuck:
            self.inquiries.told(self, number, MetricsAnswer(self.metrics.expose()))

    def answer(self, number: int, question: Question, answer: Answer) -> None:
        assert question == METRICS
        assert isinstance(answer, MetricsAnswer)
        self.answers.append((number, samples(answer.text)))
        self.answered.set()
        self.answered = trio.Event()

    async def scrape(self, number: int) -> Samples:
        """Have the metrics of all gathered."""
        self.inquiries.want(self, number, METRICS)
        with trio.fail_after(2 * ANSWER_SECONDS):
            while not self.answers or self.answers[-1][0] < number:
                await self.answered.wait()
        return self.answers[-1][1]


def workers_of(inquiries: Inquiries, count: int) -> list[FakeWorker]:
    workers = [FakeWorker(inquiries) for _ in range(count)]
    for number, worker in enumerate(workers):
        worker.metrics = Metrics(gauges=lambda: Gauges({"authenticated": 10}))
        worker.metrics.connections_opened = 10**number
        inquiries.join(worker)
    return workers


OPENED = "localful_ws_connections_opened_total", ()
OPEN = "localful_ws_connections", ("authenticated",)
WORKERS = "localful_ws_workers", ()
MISSING = "localful_ws_workers_missing", ()
RESTARTS = "localful_ws_worker_restarts_total", ()


async def test_whoever_asks_gets_the_metrics_of_all(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inquiries = Inquiries(3)
    nursery.start_soon(inquiries.run)
    one, two, three = workers_of(inquiries, 3)
    inquiries.restarts = 4
    for worker in (one, three):
        figures = await worker.scrape(1)
        assert (figures[OPENED], figures[OPEN]) == (111, 30)
        assert (figures[WORKERS], figures[MISSING], figures[RESTARTS]) == (3, 0, 4)
    two.metrics.connections_opened += 1
    assert (await one.scrape(2))[OPENED] == 112
    assert (len(one.answers), len(two.answers), len(three.answers)) == (2, 0, 1)
    assert trio.current_time() < ANSWER_SECONDS


async def test_the_parent_counts_as_a_process_but_not_its_files(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries = Inquiries(1)
    nursery.start_soon(inquiries.run)
    (worker,) = workers_of(inquiries, 1)
    alone = samples(worker.metrics.expose())
    figures = await worker.scrape(1)
    memory, files, start = (
        (f"process_{name}", ()) for name in ("resident_memory_bytes", "max_fds", "start_time_seconds")
    )
    assert figures[memory] > 1.5 * alone[memory]
    assert figures[files] == alone[files]
    assert figures[start] == alone[start]


async def test_those_who_ask_at_once_cost_one_round(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    for number in range(1, 51):
        inquiries.want(one, number, METRICS)
    inquiries.want(two, 1, METRICS)
    await wait_all_tasks_blocked()
    assert [number for number, _ in one.answers] == [50]
    assert [number for number, _ in two.answers] == [1]
    assert one.asked == [1]


async def test_a_stuck_worker_is_left_out_and_its_counts_stay(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    await one.scrape(1)
    two.stuck = True
    began = trio.current_time()
    figures = await one.scrape(2)
    assert ANSWER_SECONDS <= trio.current_time() - began < 1.5 * ANSWER_SECONDS
    assert (figures[OPENED], figures[OPEN]) == (11, 10)
    assert (figures[WORKERS], figures[MISSING]) == (1, 1)
    two.stuck = False
    figures = await one.scrape(3)
    assert (figures[OPENED], figures[OPEN], figures[MISSING]) == (11, 20, 0)


async def test_a_late_answer_does_not_count_for_the_next_question(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    two.stuck = True
    assert (await one.scrape(1))[OPENED] == 1
    inquiries.told(two, 1, MetricsAnswer(two.metrics.expose()))
    figures = await one.scrape(2)
    assert (figures[OPENED], figures[MISSING]) == (11, 1)


async def test_what_a_dead_worker_counted_stays(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    before = await one.scrape(1)
    inquiries.leave(two)
    figures = await one.scrape(2)
    assert (figures[OPENED], figures[OPEN], figures[MISSING]) == (11, 10, 1)
    again = FakeWorker(inquiries)
    again.metrics.connections_opened = 100
    inquiries.join(again)
    figures = await one.scrape(3)
    assert (figures[OPENED], figures[OPEN], figures[MISSING]) == (111, 10, 0)
    inquiries.told(again, 0, MetricsAnswer(again.metrics.expose()))
    inquiries.leave(again)
    inquiries.leave(again)
    after = await one.scrape(4)
    assert after[OPENED] == 111
    decreased = [
        key for key in before if key[0].endswith(("_total", "_bucket", "_count")) and after[key] < before[key]
    ]
    assert decreased == []


async def test_a_worker_that_dies_while_it_is_asked(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    two.stuck = True
    inquiries.want(one, 1, METRICS)
    inquiries.want(two, 1, METRICS)
    await wait_all_tasks_blocked()
    assert two.asked == [1]
    inquiries.leave(two)
    inquiries.want(two, 2, METRICS)
    inquiries.told(two, 1, MetricsAnswer(b""))
    await wait_all_tasks_blocked()
    assert [figures[WORKERS] for _, figures in one.answers] == [1]
    assert two.answers == []
    assert trio.current_time() == 0


async def test_what_cannot_be_read_counts_as_missing(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inquiries = Inquiries(2)
    nursery.start_soon(inquiries.run)
    one, two = workers_of(inquiries, 2)
    two.stuck = True
    inquiries.want(one, 1, METRICS)
    await wait_all_tasks_blocked()
    with capture_logs() as log:
        inquiries.told(two, 1, MetricsAnswer(b"# TYPE x\n"))
    assert [entry["log_level"] for entry in log] == ["warning"]
    figures = await one.scrape(1)
    assert (figures[WORKERS], figures[MISSING]) == (1, 1)
