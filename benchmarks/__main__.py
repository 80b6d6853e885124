"""Run the benchmark: `python -m benchmarks --help`."""

import json
import resource
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import httpx

from benchmarks import revisions
from benchmarks.model import BenchmarkError
from benchmarks.record import Record
from benchmarks.running import running
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import ENGINE_SERVERS, ENGINES, SERVERS, Server, server_named
from benchmarks.setup import variables
from benchmarks.sizes import QUICK, Sizes
from benchmarks.tables import report
from benchmarks.targets import judge
from localful_ws.settings import OPTIONS


def out_of_time(_signal: int, _frame: FrameType | None) -> NoReturn:
    """The alarm clock of a run."""
    raise BenchmarkError("one run took too long")


def interrupted(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Somebody wants it to end: everything is stopped on the way out, and what was measured is written."""
    raise KeyboardInterrupt


def read_servers(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Names of servers: those of the table, and `NAME@REV`."""
    for name in given:
        try:
            server_named(name)
        except KeyError:
            raise click.BadParameter(
                f"{name!r} is no server of the table, nor one of the daemon's at a revision."
            ) from None
    return given


def read_setting(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Settings of the daemon, NAME=VALUE each, by environment variable."""
    settings: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name not in OPTIONS:
            raise click.BadParameter(f"{each!r} is not NAME=VALUE with the name of a setting.")
        settings |= variables(name, value)
    return settings


def choose_servers(names: tuple[str, ...], record: Record) -> list[Server]:
    """Those that are installed; for the others, a line that says how to install them."""
    chosen = []
    for name in names:
        server = server_named(name)
        line = server.missing()
        if line is None:
            chosen.append(server)
        else:
            record.skipped[name] = line
            click.echo(f"{name}: skipped: {line}", err=True)
    return chosen


def measure(record: Record, scenario: str, server: Server, limit: int, alternation: int) -> None:
    """One run; a failure is noted and the others go on."""
    series = record.add(scenario, server.name)
    started = time.monotonic()
    what = SCENARIOS[scenario]
    signal.alarm(round(what.seconds(record.sizes)))
    try:
        with running(server, what.setup.with_settings(record.settings)) as process:
            result = what.run(process, record.sizes, limit, alternation)
    except (BenchmarkError, OSError, httpx.HTTPError) as error:
        series.failures.append(f"{type(error).__name__}: {error}" if not str(error) else str(error))
        click.echo(f"{scenario} {server.name}: FAILED: {error}", err=True)
        for note in getattr(error, "__notes__", ()):
            click.echo(note, err=True)
        return
    finally:
        signal.alarm(0)
    series.runs.append(result)
    series.failures += result.failures
    for failure in result.failures:
        click.echo(f"{scenario} {server.name}: FAILED: {failure}", err=True)
    seconds = time.monotonic() - started
    click.echo(
        f"{scenario} {server.name} #{alternation + 1}: {seconds:.1f} s, {result.checked} deliveries", err=True
    )


def run_all(
    record: Record, scenarios: tuple[str, ...], servers: list[Server], limit: int, deadline: float
) -> None:
    """Scenario by scenario, the servers take turns; every other turn goes backwards."""
    for scenario in scenarios:
        taking_part = [server for server in servers if scenario in server.scenarios]
        for server in taking_part:
            record.add(scenario, server.name)
        for alternation in range(record.alternations):
            for server in taking_part if alternation % 2 == 0 else reversed(taking_part):
                if time.monotonic() > deadline:
                    raise BenchmarkError("the time limit is over; see --time-limit")
                measure(record, scenario, server, limit, alternation)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--quick", is_flag=True, help="Small sizes and one alternation: does it all work?")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Choice(list(SCENARIOS)),
    help="Only this; repeatable.",
)
@click.option("--engines", is_flag=True, help="Only the memory engine, Redis and workers beside each other.")
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="NAME",
    callback=read_servers,
    help=f"Only this; repeatable. One of {', '.join(SERVERS)}; or NAME@REV, the daemon as it was.",
)
@click.option(
    "--beside",
    is_flag=False,
    flag_value=revisions.OLDER,
    metavar="[REV]",
    help=f"Also measure the daemon as it was at this revision.  [without REV: {revisions.OLDER}]",
)
@click.option(
    "--size", "changes", multiple=True, metavar="NAME=VALUE", help="Change a size of the run; repeatable."
)
@click.option(
    "--setting",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=read_setting,
    help="A setting of the daemon, in all its releases; repeatable.",
)
@click.option(
    "--alternations",
    type=click.IntRange(1, 20),
    help="Turns of each server.  [default: 3; quick, and where only soak is measured: 1]",
)
@click.option(
    "--max-connections", default=20_000, show_default=True, type=click.IntRange(100), help="Never more."
)
@click.option(
    "--time-limit", default=7200, show_default=True, type=click.IntRange(10), help="Seconds for all."
)
@click.option("--check", is_flag=True, help="Exit with 1 if a target that was measured is missed.")
@click.option(
    "--report", "old", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Only print this."
)
@click.option(
    "--readme", is_flag=True, help="Write tables and plots of the run, or of --report, into the README."
)
def main(
    *,
    quick: bool,
    scenarios: tuple[str, ...],
    engines: bool,
    servers: tuple[str, ...],
    beside: str | None,
    changes: tuple[str, ...],
    settings: dict[str, str],
    alternations: int | None,
    max_connections: int,
    time_limit: int,
    check: bool,
    old: Path | None,
    readme: bool,
) -> None:
    """Measure the daemon beside its peers, alternately, with the same client."""
    failed = False
    if engines:
        scenarios = scenarios or tuple(name for name in SCENARIOS if name in ENGINES)
        servers = servers or ENGINE_SERVERS
    if old is not None:
        figures = json.loads(old.read_text())
    else:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        signal.signal(signal.SIGALRM, out_of_time)
        for ending in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, interrupted)
        try:
            sizes = (QUICK if quick else Sizes()).changed(changes)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--size") from None
        record = Record(
            alternations=alternations or (1 if quick or scenarios == ("soak",) else 3),
            quick=quick,
            complete=not (scenarios or servers or changes or settings),
            sizes=sizes,
            settings=settings,
        )
        if not scenarios:
            scenarios = tuple(name for name, each in SCENARIOS.items() if quick or not each.is_apart)
        servers = servers or tuple(SERVERS)
        if beside is not None:
            servers += (f"localful@{beside}",)
        try:
            chosen = choose_servers(servers, record)
            run_all(record, scenarios, chosen, max_connections, time.monotonic() + time_limit)
        except (BenchmarkError, KeyboardInterrupt) as error:
            click.echo(f"stopped: {str(error) or 'interrupted'}", err=True)
            failed = True
            record.complete = False
        failed = failed or record.failed()
        path = record.save()
        click.echo(f"written: {path.relative_to(Path(__file__).parent.parent)}\n", err=True)
        figures = record.to_dict()
    click.echo(report(figures))
    if readme:
        from benchmarks.readme import update  # noqa: PLC0415 - needs matplotlib, which a run does not

        update(figures)
    if failed or (
        check and not figures["quick"] and any(verdict.holds is False for verdict in judge(figures))
    ):
        sys.exit(1)


if __name__ == "__main__":
    main()
