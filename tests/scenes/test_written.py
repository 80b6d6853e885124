"""What is written from the scenes is as it would be written now; `make transcripts` writes it."""

from pathlib import Path

import pytest

import tests.scenes.written as written
from localful_ws.conform.scenes import read_scenes
from tests.spec_document import blocks, page

SCENES = read_scenes()


@pytest.mark.parametrize("path", written.files(), ids=lambda path: path.stem)
def test_file_has_a_line_for_each_step(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == written.formatted(text)


def test_page_is_that_of_the_scenes() -> None:
    assert written.PAGE.read_text(encoding="utf-8") == written.page(SCENES)


def test_sequences_in_the_protocol_are_scenes() -> None:
    protocol = page("protocol.md")
    shown = [block.label for block in blocks(protocol) if block.language == "sequence"]
    assert len(shown) == len(set(shown)) >= 15
    assert protocol == written.with_sequences(protocol, SCENES)
