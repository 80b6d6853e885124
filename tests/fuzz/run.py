"""One target under atheris; libFuzzer's arguments follow its name. `python -m tests.fuzz` starts this."""

import queue
import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["localful_ws", "wsproto"]):
    import trio
    import trio.testing

    from tests.fuzz.frames import open_frame_world
    from tests.fuzz.targets import CHECKS, FRAMES


class FramesFromOutside:
    """The world of `fuzz.frames` within libFuzzer's loop, which waits for nobody: Trio as its guest."""

    def __init__(self) -> None:
        self._due: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._input: bytes | None = None
        self._failure: BaseException | None = None
        self._done = False
        trio.lowlevel.start_guest_run(
            self._live,
            run_sync_soon_threadsafe=self._due.put,
            done_callback=lambda outcome: outcome.unwrap(),
            clock=trio.testing.MockClock(autojump_threshold=0),
        )

    async def _live(self) -> None:
        async with open_frame_world() as world:
            while True:
                # Not idle, or Trio would look for something to wait for.
                while self._input is None:
                    await trio.lowlevel.checkpoint()
                data, self._input = self._input, None
                try:
                    await world.check(data)
                except Exception as failure:
                    self._failure = failure
                self._done = True

    def check(self, data: bytes) -> None:
        """Run the world until it is done with an input."""
        self._input, self._done = data, False
        while not self._done:
            self._due.get()()
        if self._failure is not None:
            raise self._failure


def main() -> None:
    """Fuzz until libFuzzer has enough; it ends the process."""
    program, target, *arguments = sys.argv
    check: Callable[[bytes], None] = FramesFromOutside().check if target == FRAMES else CHECKS[target]
    # To minimise, libFuzzer starts this anew, by what it takes for the name of the program.
    atheris.Setup([f"{sys.executable} {program} {target}", *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
