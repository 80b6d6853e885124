"""How one task wakes others, and how it hands one of them what came of something."""

from collections.abc import Callable
from typing import Generic, TypeVar

import trio
from attrs import define, field

T = TypeVar("T")


class Signal:
    """Wakes all tasks that wait; for those that come later nothing is kept.

    Look, wait, and look again: no change is missed as long as no checkpoint lies between looking and waiting.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        # There only while somebody waits: most signals are set far more often than they are waited for.
        self._event: trio.Event | None = None

    def set(self) -> None:
        """Say that something changed."""
        event, self._event = self._event, None
        if event is not None:
            event.set()

    async def wait(self) -> None:
        """Wait until something changes from now on."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


@define(eq=False)
class Future(Generic[T]):
    """What came of something: one task waits for it, and another one says it, once.

    Whoever was cancelled while waiting does not want it any more: what is said then is dropped. So is what is
    said a second time.
    """

    _is_wanted: bool = field(default=True, init=False)
    _waiting: trio.lowlevel.Task | None = field(default=None, init=False)
    _value: T = field(init=False)
    _error: Exception | None = field(default=None, init=False)

    def set(self, value: T) -> None:
        """Have `wait` return this."""
        if self._is_wanted:
            self._value = value
            self._say()

    def fail(self, error: Exception) -> None:
        """Have `wait` raise this."""
        if self._is_wanted:
            self._error = error
            self._say()

    def set_by(self, act: Callable[[], T]) -> None:
        """Do something, and have `wait` return or raise what it does. If nobody wants it, it is not done."""
        if self._is_wanted:
            try:
                self.set(act())
            except Exception as error:
                self.fail(error)

    async def wait(self) -> T:
        """Wait for what came of it. Nobody is cancelled any more to whom it was said."""
        if self._is_wanted:
            self._waiting = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if self._error is not None:
            raise self._error
        return self._value

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        # At the moment of the cancellation, not when the task runs next: something may be said in between.
        self._is_wanted = False
        return trio.lowlevel.Abort.SUCCEEDED

    def _say(self) -> None:
        self._is_wanted = False
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
