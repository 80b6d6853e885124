"""What MkDocs is told beyond mkdocs.yml: pages from elsewhere in the repository, and links for both.

Every page is written for a reader of the repository: links are relative to the file. The site shows docs/ at
its root and everything else at its path in the repository, so links between the two are put right here. Files
that are no pages, such as units and schemas, are shown as pages with their text.
"""

import json
import logging
import posixpath
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from localful_ws.protocol import TRANSITIONS

ROOT: Final = Path(__file__).parents[2]
_log: Final = logging.getLogger("mkdocs.hooks.site")

_PAGES: Final = (
    "spec/*.md",
    "spec/transcripts/README.md",
    "benchmarks/README.md",
    "changes/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)
_ELSEWHERE: Final = ("spec/", "benchmarks/", "packaging/", "changes/")
_ASSETS: Final = (
    *("benchmarks/results/*.svg", "spec/*.json", "LICENSE"),
    *("spec/transcripts/*.json", "spec/transcripts/device/*.json", "spec/transcripts/publisher/*.json"),
)
_SHOWN: Final = ("packaging/*/*", "docs/examples/*.*")
_LANGUAGES: Final = {
    ".service": "ini",
    ".conf": "nginx",
    ".yaml": "yaml",
    ".py": "python",
    ".mjs": "js",
    ".sh": "sh",
    ".html": "html",
    "Dockerfile": "dockerfile",
}
_SCHEMAS: Final = "spec/schemas"
_ABOUT_SCHEMAS: Final = (
    "A schema for each message, event, body and answer of the [protocol](protocol.md), from the files in "
    "`spec/schemas/`; each is complete in itself. They allow unknown extra keys, since the protocol grows by "
    "them."
)

_FENCE: Final = re.compile(r"^(?P<marks>`{3,}).*?^(?P=marks)$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[(?P<text>[^]\[]*)\]\((?![a-z]+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_LIST_AFTER_TEXT: Final = re.compile(r"^(?![-\s|>#`])(.+)\n(?=- )", re.MULTILINE)
_STATES: Final = re.compile(r"^```mermaid\nstateDiagram.*?^```$", re.MULTILINE | re.DOTALL)
_UNRELEASED: Final = "<!-- towncrier release notes start -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in docs/."""

    for patterns, level in ((_PAGES, InclusionLevel.UNDEFINED), (_ASSETS, InclusionLevel.NOT_IN_NAV)):
        for path in _found(patterns):
            place = _repository(path)
            files.append(File.generated(config, place, abs_src_path=str(path), inclusion=level))
    for path in _found(_SHOWN):
        place = _place(_repository(path))
        shown = File.generated(config, place, content=_as_page(path), inclusion=InclusionLevel.NOT_IN_NAV)
        files.append(shown)
    files.append(File.generated(config, f"{_SCHEMAS}.md", content=_schemas()))
    return files


def on_page_markdown(markdown: str, /, *, page: Page, files: Files, **_: object) -> str:
    """Make a page of the repository one of the site."""
    here = page.file.src_uri
    if here == "CHANGELOG.md":
        markdown = markdown.replace(_UNRELEASED, _unreleased())
    markdown = _STATES.sub(_transitions(), markdown)
    # What stands after the language is for the tests.
    markdown = re.sub(r"^```(\w+) .*$", r"```\1", markdown, flags=re.MULTILINE)
    markdown = re.sub(r"^```(jsonl|redis|sequence)$", "```text", markdown, flags=re.MULTILINE)
    parts = []
    end = 0
    for fence in _FENCE.finditer(markdown):
        parts += [_prose(markdown[end : fence.start()], here, files), fence[0]]
        end = fence.end()
    return "".join([*parts, _prose(markdown[end:], here, files)])


def on_post_build(config: MkDocsConfig) -> None:
    """Complain of pages that load something from elsewhere."""
    site = Path(config.site_dir)
    for path in site.rglob("*.html"):
        loads = _Loads()
        loads.feed(path.read_text(encoding="utf-8"))
        for url in loads.found:
            _log.warning("%s loads %s from elsewhere", path.relative_to(site), url)
    for path in site.rglob("*.css"):
        for url in re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", path.read_text(encoding="utf-8")):
            _log.warning("%s loads %s from elsewhere", path.relative_to(site), url)


class _Loads(HTMLParser):
    """Finds what a browser would load by itself; links that people may follow are left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            loaded = name in ("src", "srcset", "data") or (tag, name) == ("link", "href")
            if loaded and value is not None and re.match(r"(https?:)?//", value):
                self.found.append(value)


def _found(patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())


def _repository(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _is_shown(path: str) -> bool:
    return path.startswith(("packaging/", "docs/examples/"))


def _place(path: str) -> str:
    """Where the site has what is at this path of the repository."""
    if path == _SCHEMAS:
        return f"{path}.md"
    if (ROOT / path / "README.md").is_file():
        path += "/README.md"
    if _is_shown(path):
        path += ".md"
    return path.removeprefix("docs/")


def _prose(text: str, here: str, files: Files) -> str:
    """Make relative links between files of the repository such between places of the site.

    What is in the repository and not on the site is named there, but no link.
    """
    elsewhere = here.startswith(_ELSEWHERE) or here in _PAGES
    directory = posixpath.dirname(here if elsewhere else f"docs/{here}")

    def replace(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(directory, link["path"]))
        place = _place(target)
        if place not in files.src_uris and (ROOT / target).exists():
            return link["text"]
        relative = posixpath.relpath(place, posixpath.dirname(here) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"

    # In the repository a list may follow a line of text at once.
    return _LIST_AFTER_TEXT.sub(r"\1\n\n", _LINK.sub(replace, text))


def _as_page(path: Path) -> str:
    language = _LANGUAGES.get(path.suffix or path.name, "text")
    text = path.read_text(encoding="utf-8").rstrip("\n")
    return f"# {path.name}\n\n`{_repository(path)}`\n\n````{language}\n{text}\n````\n"


def _schemas() -> str:
    parts = [
        "# JSON Schemas",
        _ABOUT_SCHEMAS,
    ]
    documents = [path.name for path in _found(("spec/*.json",))]
    if documents:
        links = ", ".join(f"[{name}]({name})" for name in documents)
        parts.append(f"Both interfaces as a whole, for programs: {links}.")
    for directory in sorted(path for path in (ROOT / _SCHEMAS).iterdir() if path.is_dir()):
        parts.append(f"## {directory.name}")
        for path in sorted(directory.glob("*.json")):
            schema = json.loads(path.read_text(encoding="utf-8"))
            text = json.dumps(schema, indent=2, ensure_ascii=False)
            parts.append(f"### {directory.name}/{path.stem}\n\n```json\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def _transitions() -> str:
    """The table of states as a table; a diagram would take a program from elsewhere."""
    lines = ["| state | what happens | next state |", "|---|---|---|"]
    for state, row in TRANSITIONS.items():
        for happening, target in row.items():
            lines.append(f"| {state.value} | {happening.value} | {target.value} |")
    return "\n".join(lines)


def _unreleased() -> str:
    """What the next release will say, out of the fragments."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "Unreleased"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout
