"""Every scene that a server can be asked to play, over real sockets: ``localful-ws conform``."""

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import Factory, define, evolve

from localful_ws.conform.given import values_of
from localful_ws.conform.network import Target, open_site
from localful_ws.conform.report import violated_sections
from localful_ws.conform.run import TOLERANCE, Outcome, Result, run_scenes, why_not
from localful_ws.conform.scenes import Scene, read_scenes
from localful_ws.conform.terms import Issuer
from localful_ws.server.daemon import Daemon
from tests.end_to_end.process import PUBLISHER_KEY, SECRET, DaemonProcess
from tests.printed import clean_environment
from tests.world import make_settings

pytestmark = [pytest.mark.sockets, pytest.mark.slow]

SCENES = read_scenes()
# Other tests may share this machine.
PATIENT = evolve(TOLERANCE, late=5.0)
# A server that waits three seconds too long has to be told from one that is busy.
LESS_PATIENT = evolve(TOLERANCE, late=2.0)
TELLING = {"02-authentication", "03-subscribing", "04-routing", "05-events", "06-resuming"}
"""The files whose scenes are played on broken servers."""

BROKEN = {
    "echo": {"who-gets-an-event"},
    "subscribe": {"subscribe"},
    "auth-timer": {"authentication"},
}


def said(results: list[Result]) -> list[str]:
    return [
        f"{result.scene.name}: {result.step}: {result.message}"
        for result in results
        if result.outcome is Outcome.VIOLATED
    ]


def target_of(websocket: int, internal: int, given: Mapping[str, Any]) -> Target:
    url, internal_url = f"ws://127.0.0.1:{websocket}/v1/sync", f"http://127.0.0.1:{internal}"
    return Target(url, internal_url, PUBLISHER_KEY, Issuer(SECRET.encode()), given)


@define
class Performances:
    """What came of everything that is played here.

    Attributes:
        status: The exit status of ``localful-ws conform --json`` against a daemon as it is by default.
        report: What it printed.
        others: Of scenes that need other settings, or in which the server drains.
        broken: By what is broken.
    """

    status: int = -1
    report: str = ""
    others: list[Result] = Factory(list)
    broken: dict[str, list[Result]] = Factory(lambda: {what: [] for what in BROKEN})


@pytest.fixture(scope="module")
def performances() -> Performances:
    played = Performances()
    script = str(Path(__file__).with_name("broken_server.py"))
    with ExitStack() as stack:
        # The collector is the process's, and not for so many daemons to tune.
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr("localful_ws.server.daemon.tuned_collector", lambda *_: nullcontext())
        whole = stack.enter_context(DaemonProcess())
        broken = {what: stack.enter_context(DaemonProcess(program=(script, what))) for what in BROKEN}
        trio.run(play_all, played, whole, broken)
    return played


async def play_all(played: Performances, whole: DaemonProcess, broken: Mapping[str, DaemonProcess]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conform, whole, played)
        # It mostly waits, so that there is room for all this meanwhile.
        await play_others(played.others)
        for what, daemon in broken.items():
            nursery.start_soon(play_on, daemon, played.broken[what])


async def conform(daemon: DaemonProcess, played: Performances) -> None:
    environment = clean_environment(
        LOCALFUL_WS_JWT_SECRET=SECRET,
        LOCALFUL_WS_PUBLISHER_KEY=PUBLISHER_KEY,
        LOCALFUL_WS_PORT=str(daemon.ports["websocket"]),
        LOCALFUL_WS_INTERNAL_PORT=str(daemon.ports["internal"]),
    )
    with trio.fail_after(120):
        done = await trio.run_process(
            [sys.executable, "-m", "localful_ws", "conform", "--slack", "5", "--json"],
            env=environment,
            capture_stdout=True,
            check=False,
        )
    played.status, played.report = done.returncode, done.stdout.decode()


async def play_on(daemon: DaemonProcess, results: list[Result]) -> None:
    scenes = [scene for scene in SCENES if scene.file in TELLING and not why_not(scene, {})]
    target = target_of(daemon.ports["websocket"], daemon.ports["internal"], {})
    async with open_site(target) as site:
        await run_scenes(site, target, scenes, results.append, tolerance=LESS_PATIENT, at_a_time=12)


async def play_others(results: list[Result]) -> None:
    groups: dict[str, list[Scene]] = {}
    for scene in SCENES:
        if scene.wants <= {"drain"} and (scene.given or scene.wants):
            groups.setdefault(scene.name if scene.wants else json.dumps(scene.given), []).append(scene)
    curtain = trio.Event()
    async with trio.open_nursery() as nursery:
        for scenes in groups.values():
            await nursery.start(play_with, scenes[0].given, scenes, results, curtain)
        curtain.set()


async def play_with(
    given: Mapping[str, Any],
    scenes: list[Scene],
    results: list[Result],
    curtain: trio.Event,
    *,
    task_status: trio.TaskStatus[None],
) -> None:
    settings = make_settings(
        port=0,
        internal_port=0,
        jwt_secret=SECRET.encode(),
        publisher_key=PUBLISHER_KEY,
        **values_of(given),
    )
    daemon = Daemon(settings)

    async def drain() -> None:
        daemon.shut_down()

    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.serve)
        target = target_of(daemon.addresses.websocket[1], daemon.addresses.internal[1], given)
        async with open_site(target) as site:
            site.befalls = {"drain": drain}
            task_status.started()
            await curtain.wait()
            await run_scenes(site, target, scenes, results.append, tolerance=PATIENT)
        nursery.cancel_scope.cancel()


def test_conform_against_the_daemon(performances: Performances) -> None:
    report = json.loads(performances.report)
    violated = [scene for scene in report["scenes"] if scene["outcome"] == "violated"]
    assert violated == []
    assert (performances.status, report["ok"], report["violated"]) == (0, True, [])
    outcomes = {scene["name"]: scene["outcome"] for scene in report["scenes"]}
    assert outcomes == {scene.name: "not-played" if why_not(scene, {}) else "holds" for scene in SCENES}
    assert list(outcomes.values()).count("holds") >= 120


def test_scenes_that_need_other_settings_or_drain(performances: Performances) -> None:
    assert said(performances.others) == []
    assert len(performances.others) >= 25


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_server_is_told_what_it_violates(what: str, performances: Performances) -> None:
    results = performances.broken[what]
    assert set(violated_sections(results)) == BROKEN[what], said(results)
    assert len(results) >= 60
