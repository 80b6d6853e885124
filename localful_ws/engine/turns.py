"""What is done at a moment of its own, in its place among the events."""

from collections.abc import Callable

import trio
from attrs import define, field


@define(eq=False)
class Turn:
    """Something that one task wants done and another one does.

    Attributes:
        taken: Whether it has been done.
    """

    _do: Callable[[], object]
    taken: bool = field(default=False, init=False)
    _wanted: bool = field(default=True, init=False)
    _failure: Exception | None = field(default=None, init=False)
    _over: trio.Event = field(factory=trio.Event, init=False)

    def take(self) -> None:
        """Do it, unless it is not wanted any more."""
        if not self._wanted:
            return
        self._wanted = False
        try:
            self._do()
        except Exception as error:
            self._failure = error
        else:
            self.taken = True
        self._over.set()

    async def wait(self) -> None:
        """Wait until it has been done; what it raises is raised here. Cancelled before, it won't be done."""
        try:
            await self._over.wait()
        finally:
            self._wanted = False
        if self._failure is not None:
            raise self._failure
