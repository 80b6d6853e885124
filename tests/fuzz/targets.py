"""The fuzz targets by name, and where their corpora are."""

from collections.abc import Callable
from pathlib import Path

from tests.fuzz import frame_reader, http_requests, messages, publishing, tokens

HERE = Path(__file__).parent
CORPORA = HERE / "corpora"
FRAMES = "frames"
"""The one target that needs a world to run in; see `fuzz.frames`."""

CHECKS: dict[str, Callable[[bytes], None]] = {
    "frame_reader": frame_reader.check,
    "http": http_requests.check,
    "messages": messages.check,
    "publishing": publishing.check,
    "tokens": tokens.check,
}
"""What the other targets do with an input. It raises nothing unless something is wrong."""

TARGETS = (*CHECKS, FRAMES)


def corpus(target: str) -> list[Path]:
    """The inputs that are kept for a target."""
    return sorted((CORPORA / target).iterdir())
