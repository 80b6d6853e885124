"""One target under atheris; libFuzzer's arguments follow its name. `python -m tests.fuzz` starts this."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["localful_ws", "wsproto"]):
    import trio
    import trio.testing

    from fuzz.frames import FrameWorld, open_frame_world
    from fuzz.targets import CHECKS, FRAMES


class FramesInAThread:
    """The world of `fuzz.frames` in a thread of its own: libFuzzer keeps the main thread and doesn't wait."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait()

    def _run(self) -> None:
        trio.run(self._live, clock=trio.testing.MockClock(autojump_threshold=0))

    async def _live(self) -> None:
        async with open_frame_world() as world:
            self._world: FrameWorld = world
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    def check(self, data: bytes) -> None:
        """Have an input checked there."""
        trio.from_thread.run(self._world.check, data, trio_token=self._token)


def main() -> None:
    """Fuzz until libFuzzer has enough; it ends the process."""
    program, target, *arguments = sys.argv
    check: Callable[[bytes], None] = FramesInAThread().check if target == FRAMES else CHECKS[target]
    atheris.Setup([program, *arguments], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
