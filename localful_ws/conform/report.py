"""What came of the scenes, for people and for programs."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from localful_ws.conform.render import step_line
from localful_ws.conform.run import Outcome, Result

_PROTOCOL: Final = "spec/protocol.md"
_SIGNS: Final = {Outcome.HOLDS: "✓", Outcome.VIOLATED: "✗", Outcome.NOT_PLAYED: "·"}


def section_title(anchor: str) -> str:
    """The heading of a section, about as it is written there."""
    return anchor.replace("-", " ").capitalize()


def section_link(anchor: str) -> str:
    """Where the section is."""
    return f"{_PROTOCOL}#{anchor}"


def violated_sections(results: Sequence[Result]) -> list[str]:
    """The anchors of the sections that do not hold, the one with the most such scenes first."""
    violated = [result.scene.section for result in results if result.outcome is Outcome.VIOLATED]
    return sorted(set(violated), key=lambda anchor: (-violated.count(anchor), anchor))


def report(results: Sequence[Result], seconds: float) -> Iterator[str]:
    """The lines of a report: section by section, what does not hold in it, and a summary.

    Args:
        results: What came of each scene.
        seconds: How long it took.
    """
    sections = dict.fromkeys(result.scene.section for result in results)
    for anchor in sections:
        yield from _section(anchor, [result for result in results if result.scene.section == anchor])
    yield from _not_played(results)
    yield ""
    yield _summary(results, seconds)


def as_json(results: Sequence[Result], seconds: float) -> dict[str, Any]:
    """The report for programs."""
    return {
        "ok": not violated_sections(results),
        "seconds": round(seconds, 1),
        "violated": [section_link(anchor) for anchor in violated_sections(results)],
        "scenes": [
            {
                "name": result.scene.name,
                "section": section_link(result.scene.section),
                "about": list(result.scene.about),
                "outcome": result.outcome.value,
                "step": None if result.step is None else step_line(result.step),
                "message": result.message,
            }
            for result in results
        ],
    }


def _section(anchor: str, results: Sequence[Result]) -> Iterator[str]:
    played = [result for result in results if result.outcome is not Outcome.NOT_PLAYED]
    holding = [result for result in played if result.outcome is Outcome.HOLDS]
    if not played:
        sign = _SIGNS[Outcome.NOT_PLAYED]
    else:
        sign = _SIGNS[Outcome.HOLDS if len(holding) == len(played) else Outcome.VIOLATED]
    count = f"{len(holding)} of {len(played)}" if played else "not played"
    yield f"{sign} {section_title(anchor):<36} {count:<11} {section_link(anchor)}"
    for result in played:
        if result.outcome is Outcome.VIOLATED:
            yield f"    {result.scene.name}: {result.scene.title}"
            yield f"      {'at the end' if result.step is None else step_line(result.step)}"
            yield f"      {result.message}"


def _not_played(results: Sequence[Result]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for result in results:
        if result.outcome is Outcome.NOT_PLAYED:
            reasons.setdefault(result.message, []).append(result.scene.name)
    if reasons:
        yield ""
        yield "Not played:"
    for reason, names in sorted(reasons.items()):
        yield f"  {', '.join(names)}: {reason}"


def _summary(results: Sequence[Result], seconds: float) -> str:
    counts = {outcome: sum(result.outcome is outcome for result in results) for outcome in Outcome}
    words = [
        f"{counts[Outcome.HOLDS]} scenes hold",
        f"{counts[Outcome.VIOLATED]} don't",
        f"{counts[Outcome.NOT_PLAYED]} were not played",
    ]
    violated = violated_sections(results)
    sections = f" Violated: {', '.join(map(section_title, violated))}." if violated else ""
    return f"{', '.join(words)}; {seconds:.0f} s.{sections}"
