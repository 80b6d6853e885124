"""The pages in docs/ say what is so: names of metrics and settings, links, and commands, which are run."""

import re
import shutil
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio
from printed import clean_environment, output_of, with_ports
from spec_document import ROOT, blocks, headings

from localful_ws.demo.daemon import PUBLISHER_KEY, running_daemon
from localful_ws.metrics import Metrics
from localful_ws.settings import OPTIONS

PAGES = sorted(
    [
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    ]
)
PATIENCE = 30


def text_of(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = headings(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_names_settings(page: Path) -> None:
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "toml":
            assert set(tomllib.loads(block.text)) <= set(OPTIONS)


def test_metrics_are_those_that_are_exposed() -> None:
    table = text_of("operating.md").partition("<!-- metrics")[2].partition("<!-- end of metrics")[0]
    listed = set(re.findall(r"`(localful_ws_\w+)", table))
    exposed = re.findall(rb"^# TYPE (localful_ws_\w+) ", Metrics().expose(), re.MULTILINE)
    assert listed == {name.decode() for name in exposed}


def publishing_blocks(language: str) -> list[str]:
    return [block.text for block in blocks(text_of("publishing.md")) if block.language == language]


async def run_against_daemon(commands: Iterable[tuple[list[str], str]]) -> list[str]:
    """Run commands one after the other against one daemon, and say what each printed.

    Args:
        commands: Each as a program with its arguments, and the block for it, with the default ports in it.
    """
    with trio.fail_after(PATIENCE):
        async with running_daemon() as daemon:
            environment = clean_environment(LOCALFUL_WS_PUBLISHER_KEY=PUBLISHER_KEY)
            return [
                await output_of([*program, with_ports(text, daemon)], environment)
                for program, text in commands
            ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_publishing_with_curl_as_it_is_printed() -> None:
    publish, disconnect = publishing_blocks("sh")
    shell = ["sh", "-e", "-c"]
    assert await run_against_daemon([(shell, publish), (shell, disconnect)]) == [
        '{"accepted":1}',
        '{"closed":0}{"closed":0}',
    ]


async def test_publishing_with_python_as_it_is_printed() -> None:
    (text,) = publishing_blocks("python")
    accepted = text + "\nprint(response.json())"
    assert await run_against_daemon([([sys.executable, "-c"], accepted)]) == ["{'accepted': 1}\n"]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_publishing_with_node_as_it_is_printed() -> None:
    (text,) = publishing_blocks("js")
    accepted = text + "\nconsole.log(await response.text());"
    node = ["node", "--input-type=module", "-e"]
    assert await run_against_daemon([(node, accepted)]) == ['{"accepted":1}\n']
