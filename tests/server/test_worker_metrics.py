"""The metrics of several workers as one account."""

from collections.abc import Iterable, Iterator

import pytest
import trio
from attrs import Factory, define
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.metrics import Family, Gauges, Metrics, expose
from localful_ws.protocol import EventName
from localful_ws.server.survey.merge import merge
from localful_ws.server.survey.questions import Answer, Answered, Ask, MetricsAnswer, MetricsQuestion
from localful_ws.server.survey.surveyor import ANSWER_SECONDS, Surveyor

METRICS = MetricsQuestion()
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: bytes) -> Samples:
    """Every sample by name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def told(answer: Answer) -> Samples:
    """What Prometheus sees of an answer."""
    assert isinstance(answer, MetricsAnswer)
    return samples(expose(answer.families))


def merged(*processes: Iterable[Family]) -> Samples:
    return told(merge(METRICS, [MetricsAnswer(list(families)) for families in processes]))


# --- merging ---


def test_of_one_process_nothing_is_changed() -> None:
    metrics = Metrics(gauges=lambda: Gauges({"authenticated": 2, 'a "b"\\c\n': 1}, half_open=3, send_bytes=4))
    metrics.closed("ping-timeout")
    metrics.publish_to_write.observe(0.003)
    answer = MetricsAnswer(metrics.families())
    assert merge(METRICS, [answer]) == answer
    assert told(answer)["localful_ws_connections", ('a "b"\\c\n',)] == 1


def test_counters_and_histograms_are_summed() -> None:
    one, other = Metrics(), Metrics()
    one.connections_opened, other.connections_opened = 2, 3
    one.accepted([EventName.ITEM_CREATE])
    other.accepted([EventName.ITEM_CREATE, EventName.ITEM_DELETE])
    one.handshake_refused(404)
    one.publish_to_write.observe(0.003)
    other.publish_to_write.observe(0.003)
    other.publish_to_write.observe(0.3)
    both = merged(one.families(), other.families())
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
    one = Metrics(
        gauges=lambda: Gauges(
            {"authenticated": 7, "closed": 1},
            half_open=5,
            missed_events_lately=50,
            send_bytes=600,
            send_buffer_peak_events=30,
            send_buffer_peak_bytes=4000,
        )
    )
    other = Metrics(
        gauges=lambda: Gauges(
            {"authenticated": 2},
            half_open=1,
            missed_events_lately=2,
            send_bytes=20,
            send_buffer_peak_events=20,
            send_buffer_peak_bytes=5000,
            engine_up=False,
            draining=True,
        )
    )
    third = Metrics(gauges=lambda: Gauges({"authenticated": 1}))
    for order in ((one, other, third), (third, other, one)):
        all_of_them = merged(*(metrics.families() for metrics in order))
        assert all_of_them["localful_ws_connections", ("authenticated",)] == 10
        assert all_of_them["localful_ws_connections", ("closed",)] == 1
        assert all_of_them["localful_ws_half_open", ()] == 6
        assert all_of_them["localful_ws_missed_events_lately", ()] == 52
        assert all_of_them["localful_ws_send_bytes", ()] == 620
        assert all_of_them["localful_ws_send_buffer_peak_events", ()] == 30
        assert all_of_them["localful_ws_send_buffer_peak_bytes", ()] == 5000
        assert all_of_them["localful_ws_engine_up", ()] == 0
        assert all_of_them["localful_ws_draining", ()] == 1


def process(memory: int, start: int, cpu: int, open_files: int, most_files: int) -> Iterator[Family]:
    """The figures of a process as those of `prometheus_client` are called."""
    yield Family("process_resident_memory_bytes", "Memory.", "gauge", {("", ""): memory})
    yield Family("process_start_time_seconds", "Start.", "gauge", {("", ""): start})
    yield Family("process_cpu_seconds", "CPU.", "counter", {("", ""): cpu})
    yield Family("process_open_fds", "Files.", "gauge", {("", ""): open_files})
    yield Family("process_max_fds", "Most files.", "gauge", {("", ""): most_files})


def test_the_processes_own_figures() -> None:
    both = merged(process(100, 2000, 3, 4, 50), process(10, 1000, 30, 40, 50))
    assert {name: value for (name, _), value in both.items()} == {
        "process_resident_memory_bytes": 110,
        "process_start_time_seconds": 1000,
        "process_cpu_seconds_total": 33,
        "process_open_fds": 44,
        "process_max_fds": 100,
    }


def test_what_was_merged_is_left_as_it_was() -> None:
    one, other = (MetricsAnswer([Family("a", "A.", "counter", {("", ""): count})]) for count in (1, 2))
    assert told(merge(METRICS, [one, other])) == {("a_total", ()): 3}
    assert told(one) == {("a_total", ()): 1}
    assert merge(METRICS, []) == MetricsAnswer([])


# --- gathering ---


@define(eq=False)
class FakeWorker:
    """A worker that tells its metrics, unless it is stuck.

    Attributes:
        surveyor: Whom it tells.
        metrics: What it counted.
        stuck: Whether it answers nothing.
        answers: What it was answered.
        asked: The numbers it was asked with.
        answered: Set at the next answer.
    """

    surveyor: Surveyor
    metrics: Metrics = Factory(Metrics)
    stuck: bool = False
    answers: list[tuple[int, Samples]] = Factory(list)
    asked: list[int] = Factory(list)
    answered: trio.Event = Factory(trio.Event)

    def post(self, message: Ask | Answered) -> None:
        assert message.question == METRICS
        if isinstance(message, Ask):
            self.asked.append(message.number)
            if not self.stuck:
                self.tell(message.number)
        else:
            self.answers.append((message.number, told(message.answer)))
            self.answered.set()
            self.answered = trio.Event()

    def tell(self, number: int) -> None:
        """Tell its metrics."""
        self.surveyor.answered(self, Answered(number, METRICS, MetricsAnswer(self.metrics.families())))

    async def scrape(self, number: int) -> Samples:
        """Have the metrics of all gathered."""
        self.surveyor.ask(self, Ask(number, METRICS))
        with trio.fail_after(2 * ANSWER_SECONDS):
            while not self.answers or self.answers[-1][0] < number:
                await self.answered.wait()
        return self.answers[-1][1]


def workers_of(surveyor: Surveyor, count: int) -> list[FakeWorker]:
    workers = [FakeWorker(surveyor) for _ in range(count)]
    for number, worker in enumerate(workers):
        worker.metrics = Metrics(gauges=lambda: Gauges({"authenticated": 10}))
        worker.metrics.connections_opened = 10**number
        surveyor.join(worker)
    return workers


OPENED = "localful_ws_connections_opened_total", ()
OPEN = "localful_ws_connections", ("authenticated",)
WORKERS = "localful_ws_workers", ()
MISSING = "localful_ws_workers_missing", ()
RESTARTS = "localful_ws_worker_restarts_total", ()
GAUGES_OF_THE_PARENT = ("virtual_memory_bytes", "resident_memory_bytes", "start_time_seconds")


async def test_whoever_asks_gets_the_metrics_of_all(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    surveyor = Surveyor(3)
    nursery.start_soon(surveyor.run)
    one, two, three = workers_of(surveyor, 3)
    surveyor.restarts = 4
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
    surveyor = Surveyor(1)
    nursery.start_soon(surveyor.run)
    (worker,) = workers_of(surveyor, 1)
    alone = samples(expose(worker.metrics.families()))
    figures = await worker.scrape(1)
    memory, files, start = (
        (f"process_{name}", ()) for name in ("resident_memory_bytes", "max_fds", "start_time_seconds")
    )
    assert figures[memory] > 1.5 * alone[memory]
    assert figures[files] == alone[files]
    assert figures[start] == alone[start]


async def test_those_who_ask_at_once_cost_one_round(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
    for number in range(1, 51):
        surveyor.ask(one, Ask(number, METRICS))
    surveyor.ask(two, Ask(1, METRICS))
    await wait_all_tasks_blocked()
    assert [number for number, _ in one.answers] == [50]
    assert [number for number, _ in two.answers] == [1]
    assert one.asked == [1]


async def test_a_stuck_worker_is_left_out_and_its_counts_stay(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
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
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
    two.stuck = True
    assert (await one.scrape(1))[OPENED] == 1
    two.tell(1)
    figures = await one.scrape(2)
    assert (figures[OPENED], figures[MISSING]) == (11, 1)


async def test_what_a_dead_worker_counted_stays(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
    before = await one.scrape(1)
    surveyor.leave(two)
    figures = await one.scrape(2)
    assert (figures[OPENED], figures[OPEN], figures[MISSING]) == (11, 10, 1)
    again = FakeWorker(surveyor)
    again.metrics.connections_opened = 100
    surveyor.join(again)
    figures = await one.scrape(3)
    assert (figures[OPENED], figures[OPEN], figures[MISSING]) == (111, 10, 0)
    again.tell(0)
    surveyor.leave(again)
    surveyor.leave(again)
    after = await one.scrape(4)
    assert after[OPENED] == 111
    decreased = [
        key for key in before if key[0].endswith(("_total", "_bucket", "_count")) and after[key] < before[key]
    ]
    assert decreased == []


async def test_what_lasts_is_counters_and_histograms(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
    whole = await one.scrape(1)
    surveyor.leave(one)
    surveyor.leave(two)
    third = FakeWorker(surveyor, stuck=True)
    surveyor.join(third)
    left = await third.scrape(2)
    parents = {WORKERS, MISSING, RESTARTS, *((f"process_{name}", ()) for name in GAUGES_OF_THE_PARENT)}
    assert left.keys() - parents == {
        key for key in whole if key[0].endswith(("_total", "_bucket", "_count", "_sum"))
    } - {RESTARTS}
    cpu = "process_cpu_seconds_total", ()
    assert all(left[key] == whole[key] for key in left.keys() - parents - {cpu})
    assert left[cpu] >= whole[cpu]
    assert (left[WORKERS], left[MISSING]) == (0, 2)


async def test_a_worker_that_dies_while_it_is_asked(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    surveyor = Surveyor(2)
    nursery.start_soon(surveyor.run)
    one, two = workers_of(surveyor, 2)
    two.stuck = True
    surveyor.ask(one, Ask(1, METRICS))
    surveyor.ask(two, Ask(1, METRICS))
    await wait_all_tasks_blocked()
    assert two.asked == [1]
    surveyor.leave(two)
    surveyor.ask(two, Ask(2, METRICS))
    two.tell(1)
    await wait_all_tasks_blocked()
    assert [figures[WORKERS] for _, figures in one.answers] == [1]
    assert two.answers == []
    assert trio.current_time() == 0
