"""Every scene that a server can be asked to play, over real sockets: ``localful-ws conform``."""

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from end_to_end.process import PUBLISHER_KEY, SECRET, DaemonProcess
from world import make_settings

from localful_ws.conform.given import values_of
from localful_ws.conform.network import Target, open_site
from localful_ws.conform.report import violated_sections
from localful_ws.conform.run import TOLERANCE, Outcome, Result, run_scenes, why_not
from localful_ws.conform.scenes import Scene, read_scenes
from localful_ws.conform.terms import Issuer
from localful_ws.server.daemon import Daemon

pytestmark = pytest.mark.sockets

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


async def play_on(daemon: DaemonProcess, scenes: list[Scene], results: list[Result]) -> None:
    target = target_of(daemon.ports["websocket"], daemon.ports["internal"], {})
    async with open_site(target) as site:
        await run_scenes(site, target, scenes, results.append, tolerance=LESS_PATIENT)


def test_conform_against_the_daemon() -> None:
    with DaemonProcess() as daemon:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LOCALFUL_WS_")},
            "LOCALFUL_WS_JWT_SECRET": SECRET,
            "LOCALFUL_WS_PUBLISHER_KEY": PUBLISHER_KEY,
        }
        websocket, internal = daemon.ports["websocket"], daemon.ports["internal"]
        addresses = [
            *("--url", f"ws://127.0.0.1:{websocket}/v1/sync"),
            *("--internal-url", f"http://127.0.0.1:{internal}"),
        ]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "localful_ws", "conform", *addresses, "--slack", "5", "--json"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert time.monotonic() - began < 60
    report = json.loads(done.stdout)
    assert [scene for scene in report["scenes"] if scene["outcome"] == "violated"] == []
    assert (done.returncode, report["ok"], report["violated"]) == (0, True, [])
    outcomes = {scene["name"]: scene["outcome"] for scene in report["scenes"]}
    assert outcomes == {scene.name: "not-played" if why_not(scene, {}) else "holds" for scene in SCENES}
    assert list(outcomes.values()).count("holds") >= 120


@asynccontextmanager
async def running_daemon(given: Mapping[str, Any]) -> AsyncIterator[Daemon]:
    settings = make_settings(
        port=0,
        internal_port=0,
        jwt_secret=SECRET.encode(),
        publisher_key=PUBLISHER_KEY,
        **values_of(given),
    )
    daemon = Daemon(settings)
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.serve)
        yield daemon
        nursery.cancel_scope.cancel()


async def play_with(given: Mapping[str, Any], scenes: list[Scene], results: list[Result]) -> None:
    async with running_daemon(given) as daemon:
        target = target_of(daemon.addresses.websocket[1], daemon.addresses.internal[1], given)
        async with open_site(target) as site:

            async def drain() -> None:
                daemon.shut_down()

            site.befalls = {"drain": drain}
            await run_scenes(site, target, scenes, results.append, tolerance=PATIENT)


async def test_scenes_that_need_other_settings_or_end_the_server() -> None:
    groups: dict[str, list[Scene]] = {}
    for scene in SCENES:
        if scene.wants <= {"drain"} and (scene.given or scene.wants):
            groups.setdefault(scene.name if scene.wants else json.dumps(scene.given), []).append(scene)
    results: list[Result] = []
    async with trio.open_nursery() as nursery:
        for scenes in groups.values():
            nursery.start_soon(play_with, scenes[0].given, scenes, results)
    assert said(results) == []
    assert len(results) >= 25


async def test_broken_servers_are_told_what_they_violate() -> None:
    scenes = [scene for scene in SCENES if scene.file in TELLING and not why_not(scene, {})]
    results: dict[str, list[Result]] = {broken: [] for broken in BROKEN}
    script = str(Path(__file__).with_name("broken_server.py"))
    daemons = {broken: DaemonProcess(program=(script, broken)) for broken in BROKEN}
    with daemons["echo"] as echo, daemons["subscribe"] as subscribe, daemons["auth-timer"] as auth_timer:
        async with trio.open_nursery() as nursery:
            for broken, daemon in (("echo", echo), ("subscribe", subscribe), ("auth-timer", auth_timer)):
                nursery.start_soon(partial(play_on, daemon, scenes, results[broken]))
    violated = {broken: set(violated_sections(results[broken])) for broken in BROKEN}
    assert violated == BROKEN, {broken: said(some) for broken, some in results.items()}
