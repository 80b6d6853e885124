"""Every scene that is about the pure parts, played on them alone."""

import pytest

from localful_ws.conform.play import play
from localful_ws.conform.scenes import Scene, read_scenes
from tests.scenes.core_stage import can_play, core_stage

SCENES = [scene for scene in read_scenes() if can_play(scene)]


def test_most_scenes_are_about_the_pure_parts() -> None:
    assert len(SCENES) >= 80


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_scene_on_the_core(scene: Scene) -> None:
    stage, terms = core_stage(scene)
    await play(scene, stage, terms)
