"""The scenes of spec/transcripts as documents: well-formed, named, and about something that is there."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from localful_ws.conform.scenes import ACTIONS, Scene, folder, read_scenes
from localful_ws.conform.terms import Issuer, Terms
from localful_ws.settings import OPTIONS
from tests.scenes.written import TRANSCRIPTS, files
from tests.spec_document import anchor, headings, page, schema, schema_names, validator

SCHEMA = json.loads((TRANSCRIPTS / "schema.json").read_text(encoding="utf-8"))
FILES = files()
FILES_OF_ONE_SIDE = sorted(path for path in TRANSCRIPTS.glob("*/*.json") if path.name != "schema.json")
SCENES = read_scenes()


def by_name(scene: Scene) -> str:
    return scene.name


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    properties = set(SCHEMA["$defs"]["step"]["properties"])
    assert properties == set(ACTIONS) | {"at", "who", "times", "because", "answer"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file_fits_the_schema(file: Any) -> None:
    Draft202012Validator(SCHEMA).validate(json.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", FILES_OF_ONE_SIDE, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_file_about_one_side_fits_its_schema(file: Any) -> None:
    its = json.loads((file.parent / "schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(its)
    Draft202012Validator(its).validate(json.loads(file.read_text(encoding="utf-8")))


def test_all_files_are_read() -> None:
    assert folder() == TRANSCRIPTS
    assert {scene.file for scene in SCENES} == {file.stem for file in FILES}
    assert len(SCENES) >= 80


def test_names_are_used_once() -> None:
    assert [name for name, count in Counter(scene.name for scene in SCENES).items() if count > 1] == []


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
def test_scene_goes_forward_in_time(scene: Scene) -> None:
    times = [step.at for step in scene.steps]
    assert times == sorted(times)


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
def test_scene_is_about_sections_that_are_there(scene: Scene) -> None:
    anchors = {anchor(title) for title in headings(page("protocol.md"))}
    assert {row.partition("/")[0] for row in scene.about} <= anchors


@pytest.mark.parametrize("scene", [scene for scene in SCENES if scene.given], ids=by_name)
def test_settings_of_a_scene_can_be(scene: Scene) -> None:
    for name, value in scene.given.items():
        OPTIONS[name].read(value, name)


LEFT_OUT = {"cursor": "c.1", "message": "No."}
"""What a message has, and a step about it may leave out."""


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
def test_what_is_received_in_a_scene_fits_the_schemas(scene: Scene) -> None:
    terms = Terms(Issuer(b""), 0, cursors=defaultdict(lambda: "c.1"))
    for step in scene.steps:
        if step.action in ("receives", "receives-some"):
            message = terms.make(step.value)
            [name] = {f"{sender}:{message['event']}" for sender in ("server", "event")} & {*schema_names()}
            needed = {key: LEFT_OUT[key] for key in LEFT_OUT.keys() & schema(name)["required"]}
            validator(name).validate(needed | message)
