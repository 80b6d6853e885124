"""Plays scenes side by side against a server somewhere, and says what came of each."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import trio
from attrs import define, frozen

from localful_ws.conform.given import lacking
from localful_ws.conform.live import LiveStage, Tolerance
from localful_ws.conform.network import NetworkSite, Target
from localful_ws.conform.play import SceneFailedError, play
from localful_ws.conform.scenes import Scene, Step
from localful_ws.conform.terms import Terms

LONGEST: Final = 40.0
"""Scenes that take longer, in seconds, are not played in real time."""

AT_A_TIME: Final = 40
_AGAIN_AT_A_TIME: Final = 4
_TRIES: Final = 3
# If this machine was later than that, in seconds, what went otherwise may have been its own fault.
_BUSY: Final = 0.1
TOLERANCE: Final = Tolerance(early=0.05, late=1.0, quiet=0.3)
# Beyond what it takes itself, a scene may be held up so long by waits that fail.
_SPARE_SECONDS: Final = 60.0
# What a server has to do with times as short as this has to be seen to the second.
_SHORT_TIME: Final = 120


class Outcome(Enum):
    """What came of a scene."""

    HOLDS = "holds"
    VIOLATED = "violated"
    NOT_PLAYED = "not-played"


@frozen
class Result:
    """What came of a scene.

    Attributes:
        scene: The scene.
        outcome: What came of it.
        step: The step that went otherwise; None if it was after the last one.
        message: What was different, or why it was not played; a sentence.
    """

    scene: Scene
    outcome: Outcome
    step: Step | None = None
    message: str = ""


def why_not(scene: Scene, given: Mapping[str, Any], befalls: Collection[str] = ()) -> str:
    """Why a scene can't be played against a server on a network; empty if it can.

    Args:
        scene: The scene.
        given: The server's settings, as it is said.
        befalls: What can be made to happen to it.
    """
    wants = sorted(scene.wants - set(befalls))
    if wants:
        return f"nobody can ask a server from outside for what happens to it: {', '.join(wants)}"
    settings = lacking(scene, given)
    if settings:
        return f"it needs {', '.join(settings)}"
    if scene.seconds > LONGEST:
        return f"it takes {scene.seconds:g} s"
    return ""


async def run_scenes(
    site: NetworkSite,
    target: Target,
    scenes: Sequence[Scene],
    tell: Callable[[Result], None],
    *,
    tolerance: Tolerance = TOLERANCE,
    at_a_time: int = AT_A_TIME,
) -> None:
    """Play scenes side by side, each with users of its own; those that have to be alone, one after the other.

    One that was late, or went otherwise while this machine was busy, is played again, with few beside it.

    Args:
        site: The server.
        target: The same.
        scenes: What to play.
        tell: Is told of each as it ends.
        tolerance: How exactly things have to come.
        at_a_time: How many may be under way.
    """
    run = _Run(site, target, tolerance, secrets.token_hex(4))
    # The longest first, so that none is left for the end.
    left = sorted((scene for scene in scenes if not scene.is_alone), key=lambda scene: -scene.seconds)
    for attempt in range(_TRIES):
        again: list[Scene] = []
        places = trio.CapacityLimiter(_AGAIN_AT_A_TIME if attempt else at_a_time)
        is_last = attempt + 1 == _TRIES
        async with trio.open_nursery() as nursery:
            for scene in left:
                nursery.start_soon(_play_in_place, run, scene, places, tell, None if is_last else again)
        left = again
    for scene in scenes:
        if scene.is_alone:
            tell((await run.play(scene))[0])


async def _play_in_place(
    run: "_Run",
    scene: Scene,
    places: trio.CapacityLimiter,
    tell: Callable[[Result], None],
    again: list[Scene] | None,
) -> None:
    async with places:
        result, is_doubtful = await run.play(scene)
    if is_doubtful and again is not None:
        again.append(scene)
    else:
        tell(result)


@define
class _Run:
    site: NetworkSite
    target: Target
    tolerance: Tolerance
    name: str
    count: int = 0

    async def play(self, scene: Scene) -> tuple[Result, bool]:
        """Play a scene; also says whether what went otherwise may have been a matter of a busy machine."""
        reason = why_not(scene, self.target.given, self.site.befalls)
        if reason:
            return Result(scene, Outcome.NOT_PLAYED, message=reason), False
        self.count += 1
        prefix = f"{self.name}-{self.count}-"
        began, unix = await _begin(scene)
        terms = Terms(self.target.issuer, unix, prefix)
        async with trio.open_nursery() as nursery:
            stage = LiveStage(self.site, scene, nursery, began, self.tolerance)
            failure: SceneFailedError | None
            failure = SceneFailedError(None, "It did not come to an end.", is_late=True)
            with trio.move_on_after(scene.seconds + _SPARE_SECONDS):
                failure = await _failure_of(scene, stage, terms)
            await stage.leave()
            nursery.cancel_scope.cancel()
        if failure is None:
            return Result(scene, Outcome.HOLDS), False
        result = Result(scene, Outcome.VIOLATED, failure.step, failure.message)
        return result, failure.is_late or stage.behind > _BUSY


async def _failure_of(scene: Scene, stage: LiveStage, terms: Terms) -> SceneFailedError | None:
    try:
        await play(scene, stage, terms)
    except SceneFailedError as error:
        return error
    return None


async def _begin(scene: Scene) -> tuple[float, int]:
    """When a scene begins, on Trio's clock and in Unix seconds.

    Times in tokens are whole seconds. A scene that looks at when one of them is over begins with a second.
    """
    now = time.time()
    if _minds_seconds(scene):
        second = int(now) + 1
        await trio.sleep(second - now)
        # It may have been a longer sleep than that.
        return trio.current_time() - (time.time() - second), second
    return trio.current_time(), int(now)


def _minds_seconds(scene: Scene) -> bool:
    return any(time < _SHORT_TIME for step in scene.steps for time in _times(step.value))


def _times(value: Any) -> Sequence[float]:
    """The times that a value speaks of: of tokens, and by themselves."""
    if isinstance(value, list):
        return [time for item in value for time in _times(item)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("$time", "expires") if isinstance(value.get(key), int)]
    return own + [time for item in value.values() for time in _times(item)]
