"""The fragments of the changelog: well formed, and all of them in the next release's text."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec_document import ROOT

CHANGES = ROOT / "changes"
FRAGMENTS = sorted(CHANGES.glob("+*.md"))


def draft(directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def unreleased() -> str:
    done = draft()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_is_in_the_draft_as_it_is_written(fragment: Path, unreleased: str) -> None:
    text = fragment.read_text(encoding="utf-8").strip()
    assert text
    assert not text.startswith(("-", "*", "#"))
    kind = fragment.name.split(".")[-2].capitalize()
    section = unreleased.partition(f"### {kind}\n")[2].partition("\n### ")[0]
    assert f"\n- {text.replace(chr(10), chr(10) + '  ')}\n" in f"\n{section}\n"


@pytest.mark.parametrize("name", ["+something.news.md", "something.md", "+.txt"])
def test_a_fragment_that_would_be_overlooked_is_a_mistake(name: str, tmp_path: Path) -> None:
    shutil.copytree(CHANGES, tmp_path / "changes")
    for file in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / file, tmp_path)
    assert draft(tmp_path).returncode == 0
    (tmp_path / "changes" / name).write_text("Something.")
    done = draft(tmp_path)
    assert done.returncode != 0
    assert name in done.stderr


def test_a_release_is_put_above_those_before() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert text.count("\n<!-- towncrier release notes start -->\n") == 1
