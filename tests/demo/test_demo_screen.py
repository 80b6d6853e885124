"""What the demo shows, with and without colour."""

import io

import pytest
from click.testing import CliRunner

from localful_ws.demo import screen
from localful_ws.demo.story import Change, changes

ROW = changes()[0]


def shown(*, color: bool) -> str:
    with CliRunner().isolation(color=color) as streams:
        screen.heading()
        screen.row(ROW, [False, True, False])
        return streams[0].getvalue().decode()


def test_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m✓ received" in shown(color=True)


def test_no_colour_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b" not in shown(color=False)


def test_no_colour_if_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(color=True)
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b" in shown(color=True)


@pytest.mark.parametrize("change", changes(), ids=lambda change: change.event.value)
def test_rows_stand_below_the_heading_and_fit_80_columns(
    change: Change, capsys: pytest.CaptureFixture[str]
) -> None:
    screen.heading()
    screen.row(change, [fate.value == "received" for fate in change.fates])
    heading, row = capsys.readouterr().out.splitlines()
    for place in ("Ada's laptop", "Ada's phone", "Bob's tablet"):
        assert row[heading.index(place)] in "✓-"
        assert row[heading.index(place) - 1] == " "
    assert len(row) <= 80
    assert row == row.rstrip()


def test_what_went_wrong_stands_out(capsys: pytest.CaptureFixture[str]) -> None:
    screen.row(ROW, [True, False, False])
    assert " ".join(capsys.readouterr().out.split()) == "user-update ✗ received ✗ missing - another user"


def test_marks_that_the_terminal_lacks_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    out = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)
    screen.row(ROW, [True, True, False])
    out.flush()
    assert b" ".join(written.getvalue().split()) == b"user-update ! received + received - another user"


def test_json_breaks_between_values_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen.json_lines("published", {"event": "version-create", "data": ["a-b"] * 30})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 80 for line in lines)
    assert not any(line.rstrip().endswith("-") for line in lines)
