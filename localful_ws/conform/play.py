"""Plays a scene on a stage, and says at which step it went otherwise."""

from typing import Any, Protocol

from attrs import frozen

from localful_ws.conform.matching import Answer, Seen, answer_difference, difference
from localful_ws.conform.scenes import Scene, Sort, Step
from localful_ws.conform.terms import Terms


class Stage(Protocol):
    """A server, and everybody who talks to it. Times are seconds since the scene began.

    Attributes:
        strict: Whether keys that version 1 does not have are a difference.
    """

    strict: bool

    @property
    def early(self) -> float:
        """How much earlier than written something may be seen."""
        ...

    @property
    def late(self) -> float:
        """How much later."""
        ...

    async def wait_until(self, at: float) -> None:
        """Wait until it is that late, and whatever was begun before has had its effect."""
        ...

    async def act(self, who: str, action: str, value: Any) -> str | None:
        """Have a device do something; a sentence if it can't because the server does not play along."""
        ...

    async def request(self, action: str, value: Any) -> Answer:
        """Have the publisher ask for something."""
        ...

    async def happen(self, what: str) -> None:
        """Have something happen to the server."""
        ...

    async def look(self, who: str, at: float) -> Seen | None:
        """The next thing that a device sees; None if there is nothing by then, or as late as may be."""
        ...

    def unread(self, who: str) -> Seen | None:
        """The next thing that a device has seen, if there is one by now."""
        ...

    def take(self, who: str) -> None:
        """Go on from the next thing that a device has seen to the one after it."""
        ...

    async def finish(self) -> dict[str, Seen]:
        """Wait a moment longer, and say what each device saw of which the scene does not speak."""
        ...


class SceneFailedError(Exception):
    """A scene went otherwise than it is written.

    Attributes:
        step: The step, or None if it was after the last one.
        message: What was different, as a sentence.
        is_late: Whether something was only not there in time.
    """

    def __init__(self, step: Step | None, message: str, *, is_late: bool = False) -> None:
        super().__init__(message)
        self.step = step
        self.message = message
        self.is_late = is_late

    def __str__(self) -> str:
        return f"{'at the end' if self.step is None else self.step}: {self.message}"


async def play(scene: Scene, stage: Stage, terms: Terms) -> None:
    """Play a scene.

    Args:
        scene: The scene.
        stage: Where it is played.
        terms: What its words stand for.

    Raises:
        SceneFailedError: If it goes otherwise.
    """
    performance = _Performance(stage, terms)
    for step in scene.steps:
        match step.sort:
            case Sort.DEED:
                await performance.do(step)
            case Sort.REQUEST:
                await performance.ask(step)
            case Sort.EVENT:
                await stage.wait_until(step.at)
                await stage.happen(step.value)
            case Sort.SIGHT:
                await performance.see(step)
    for who, seen in (await stage.finish()).items():
        raise SceneFailedError(None, f"{who} saw something at {seen.at:.2f} that is not to be: {seen}.")


@frozen
class _Performance:
    stage: Stage
    terms: Terms

    async def do(self, step: Step) -> None:
        await self.stage.wait_until(step.at)
        complaint = await self.stage.act(step.who, step.action, self._made(step))
        if complaint is not None:
            raise SceneFailedError(step, complaint)

    def _made(self, step: Step) -> Any:
        if step.action != "opens":
            return self.terms.make(step.value)
        tokens = {"header", "subprotocol"} & step.value.keys()
        return step.value | {key: self.terms.token(step.value[key]) for key in tokens}

    async def ask(self, step: Step) -> None:
        await self.stage.wait_until(step.at)
        value = self.terms.body(step.value)
        if step.action == "requests" and "json" in step.value:
            value = value | {"json": self.terms.body(step.value["json"])}
        complaint = answer_difference(step, await self.stage.request(step.action, value), self.terms)
        if complaint is not None:
            raise SceneFailedError(step, complaint)

    async def see(self, step: Step) -> None:
        if step.action == "hears-nothing":
            await self.stage.wait_until(step.at)
            seen = self.stage.unread(step.who)
            if seen is not None:
                raise SceneFailedError(step, f"{step.who} saw this at {seen.at:.2f}: {seen}.")
            return
        if step.action == "receives-some":
            await self._see_some(step)
            return
        seen = await self.stage.look(step.who, step.at)
        if seen is None:
            raise SceneFailedError(step, f"{step.who} saw nothing.", is_late=True)
        complaint = difference(step, seen, self.terms, strict=self.stage.strict)
        if complaint is not None:
            raise SceneFailedError(step, complaint)
        self._check_time(step, seen)
        self.stage.take(step.who)

    async def _see_some(self, step: Step) -> None:
        """See the same any number of times, until something else is seen or it is too late for more."""
        while (seen := await self.stage.look(step.who, step.at)) is not None:
            if difference(step, seen, self.terms, strict=self.stage.strict) is not None:
                return
            self.stage.take(step.who)

    def _check_time(self, step: Step, seen: Seen) -> None:
        if seen.at < step.at - self.stage.early:
            raise SceneFailedError(step, f"It came {step.at - seen.at:.2f} s too early.")
        if seen.at > step.at + self.stage.late:
            raise SceneFailedError(step, f"It came {seen.at - step.at:.2f} s too late.", is_late=True)
