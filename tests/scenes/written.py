"""What is written from the scenes: their files in one form, their page, the sequences in protocol.md.

``make transcripts``, or ``python -m tests.scenes.written``, writes it; tests look whether it is as written.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localful_ws.conform.render import render
from localful_ws.conform.report import section_title
from localful_ws.conform.scenes import Scene, read_scenes
from tests.spec_document import SPEC, anchor

TRANSCRIPTS = SPEC / "transcripts"
PAGE = TRANSCRIPTS / "README.md"
PROTOCOL = SPEC / "protocol.md"

_SEQUENCE = re.compile(r"^```sequence ([\w-]+)\n.*?^```$", re.MULTILINE | re.DOTALL)
_HEAD = """# The scenes

<!-- Written by `make transcripts` from the files beside it. -->

Every scene in these files, for people. [How to read them](../protocol.md#sequences) is said in the protocol,
how to run them against a server in [the specification's README](../README.md#transcripts).

"""


def files() -> list[Path]:
    """The files with scenes."""
    return sorted(path for path in TRANSCRIPTS.glob("*.json") if path.name != "schema.json")


def formatted(text: str) -> str:
    """A file of scenes with a line for each step."""
    whole = json.loads(text)
    return "".join(f"{line}\n" for line in _file_lines(whole))


def _file_lines(whole: dict[str, Any]) -> Iterator[str]:
    yield "{"
    for key, value in whole.items():
        if key != "scenes":
            yield f'  "{key}": {_json(value)},'
    yield '  "scenes": ['
    for number, scene in enumerate(whole["scenes"], 1):
        yield "    {"
        for key, value in scene.items():
            if key != "steps":
                yield f'      "{key}": {_json(value)},'
        yield '      "steps": ['
        steps = [f"        {_json(step)}" for step in scene["steps"]]
        yield ",\n".join(steps)
        yield "      ]"
        yield "    }," if number < len(whole["scenes"]) else "    }"
    yield "  ]"
    yield "}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def page(scenes: list[Scene]) -> str:
    """The page with all scenes, file by file."""
    abouts = {path.stem: json.loads(path.read_text(encoding="utf-8"))["about"] for path in files()}
    lines = [_HEAD.rstrip("\n"), ""]
    lines += [f"- [{about}](#{anchor(about)})" for about in abouts.values()]
    for file, about in abouts.items():
        lines += ["", f"## {about}"]
        for scene in scenes:
            if scene.file == file:
                lines += ["", *_scene_lines(scene)]
    return "\n".join(lines) + "\n"


def _scene_lines(scene: Scene) -> Iterator[str]:
    sections = dict.fromkeys(row.partition("/")[0] for row in scene.about)
    links = ", ".join(f"[{section_title(section)}](../protocol.md#{section})" for section in sections)
    yield f"### {scene.title}"
    yield ""
    yield f"{scene.story} About: {links}."
    yield ""
    yield f"```sequence {scene.name}"
    yield render(scene)
    yield "```"


def with_sequences(protocol: str, scenes: list[Scene]) -> str:
    """The text of protocol.md with its sequences as the scenes of their names are."""
    by_name = {scene.name: scene for scene in scenes}
    return _SEQUENCE.sub(lambda match: f"```sequence {match[1]}\n{render(by_name[match[1]])}\n```", protocol)


def write() -> None:
    """Write everything."""
    for path in files():
        path.write_text(formatted(path.read_text(encoding="utf-8")), encoding="utf-8")
    scenes = read_scenes()
    PAGE.write_text(page(scenes), encoding="utf-8")
    PROTOCOL.write_text(with_sequences(PROTOCOL.read_text(encoding="utf-8"), scenes), encoding="utf-8")


if __name__ == "__main__":
    write()
