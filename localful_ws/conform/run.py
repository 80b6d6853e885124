"""Plays scenes side by side against a server somewhere, and says what came of each."""

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import trio
from attrs import frozen

from localful_ws.conform.given import lacking
from localful_ws.conform.live import LiveStage, Tolerance
from localful_ws.conform.network import NetworkSite, Target
from localful_ws.conform.play import SceneFailedError, play
from localful_ws.conform.scenes import Scene, Step
from localful_ws.conform.terms import Terms

LONGEST: Final = 40.0
"""Scenes that take longer, in seconds, are not played in real time."""

AT_A_TIME: Final = 40
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
    scenes: Iterable[Scene],
    tell: Callable[[Result], None],
    *,
    tolerance: Tolerance = TOLERANCE,
    at_a_time: int = AT_A_TIME,
) -> None:
    """Play scenes side by side, each with users of its own; those that have to be alone, one after the other.

    Args:
        site: The server.
        target: The same.
        scenes: What to play.
        tell: Is told of each as it ends.
        tolerance: How exactly things have to come.
        at_a_time: How many may be under way.
    """
    run = _Run(site, target, tolerance, secrets.token_hex(4), tell)
    # The longest first, so that none is left for the end.
    together = sorted((scene for scene in scenes if not scene.is_alone), key=lambda scene: -scene.seconds)
    places = trio.CapacityLimiter(at_a_time)

    async def play_in_place(scene: Scene, number: int) -> None:
        async with places:
            await run.play(scene, number)

    async with trio.open_nursery() as nursery:
        for number, scene in enumerate(together):
            nursery.start_soon(play_in_place, scene, number)
    for number, scene in enumerate(scene for scene in scenes if scene.is_alone):
        await run.play(scene, len(together) + number)


@frozen
class _Run:
    site: NetworkSite
    target: Target
    tolerance: Tolerance
    name: str
    tell: Callable[[Result], None]

    async def play(self, scene: Scene, number: int) -> None:
        reason = why_not(scene, self.target.given, self.site.befalls)
        if reason:
            self.tell(Result(scene, Outcome.NOT_PLAYED, message=reason))
            return
        began, unix = await _begin(scene)
        terms = Terms(self.target.issuer, unix, f"{self.name}-{number}-")
        try:
            with trio.fail_after(scene.seconds + _SPARE_SECONDS):
                async with trio.open_nursery() as nursery:
                    stage = LiveStage(self.site, scene, nursery, began, self.tolerance)
                    try:
                        await play(scene, stage, terms)
                    except SceneFailedError as error:
                        self.tell(Result(scene, Outcome.VIOLATED, error.step, error.message))
                    else:
                        self.tell(Result(scene, Outcome.HOLDS))
                    finally:
                        with trio.CancelScope(shield=True):
                            await stage.leave()
                        nursery.cancel_scope.cancel()
        except trio.TooSlowError:
            self.tell(Result(scene, Outcome.VIOLATED, message="It did not come to an end."))


async def _begin(scene: Scene) -> tuple[float, int]:
    """When a scene begins, on Trio's clock and in Unix seconds.

    Times in tokens are whole seconds. A scene that looks at when one of them is over begins with a second.
    """
    now = time.time()
    if _minds_seconds(scene):
        await trio.sleep(int(now) + 1 - now)
        return trio.current_time(), int(now) + 1
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
