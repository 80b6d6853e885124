"""Scenes for people: a line a step, and why."""

import itertools
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final

from localful_ws.conform.scenes import Scene, Step, is_word

_WIDTH: Final = 118
_INDENT: Final = 5
# Longer texts are shown by their beginning and length.
_MOST_TEXT: Final = 60
_WITHOUT_VALUE: Final = {
    "breaks": "is lost",
    "stops-reading": "stops reading",
    "reads-again": "reads again",
    "ignores-pings": "answers no pings from now on",
    "ignores-close": "answers no close from now on",
    "connects": "connects, and sends nothing",
    "dropped": "is dropped",
    "hears-nothing": "has heard nothing",
    "pinged": "← ping",
}
_HAPPENINGS: Final = {
    "drain": "drains",
    "keys-away": "cannot verify tokens",
    "keys-back": "can verify tokens again",
    "engine-away": "has lost its engine",
    "engine-back": "has its engine back",
    "events-missed": "has missed events, and can't have them any more",
    "fault": "has a fault",
}


def render(scene: Scene) -> str:
    """All lines of a scene, long ones broken."""
    lines = [f"given {name} {value}" for name, value in scene.given.items()]
    for step, same in itertools.groupby(scene.steps):
        lines.append(_wrap(step_line(step, len(list(same)))))
        if step.because:
            lines.append(_wrap(f"{' ' * _INDENT}because {step.because}"))
    return "\n".join(lines)


def step_line(step: Step, times: int = 1) -> str:
    """A step on one line; see spec/protocol.md, "Sequences"."""
    often = f" ({times} times)" if times > 1 else ""
    line = f"{f'{step.at:.1f}':<{_INDENT - 1}} {step.who} {_what(step)}{often}"
    if step.answer is None:
        return line
    answer = [str(step.answer["status"])]
    if "identifier" in step.answer:
        answer.append(step.answer["identifier"])
    answer += [_json(step.answer[key]) for key in ("body", "context") if key in step.answer]
    return f"{line} ⇒ {' '.join(answer)}"


def _what(step: Step) -> str:
    if step.action in _WITHOUT_VALUE:
        return _WITHOUT_VALUE[step.action]
    return _WITH_VALUE[step.action](step.value)


def _close(value: dict[str, Any]) -> str:
    return f"{value['code']} {value['reason']}" if "reason" in value else str(value["code"])


def _described(beginning: str, how: dict[str, Any], words: Mapping[str, Callable[[Any], str]]) -> str:
    return " ".join([beginning, *(word(how[key]) for key, word in words.items() if key in how)])


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value with its words replaced by something to read."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return _short(value)
    if not isinstance(value, dict):
        return value
    if not is_word(value):
        return {key: _plain(item) for key, item in value.items()}
    [(word, said)] = value.items()
    return _WORDS[word](said)


def _text(said: Any) -> str:
    return "".join(part if isinstance(part, str) else f"{part[0]}…({part[1]})" for part in said)


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:20]}… ({len(text)} characters)"


def _token(said: Any) -> str:
    if not isinstance(said, dict) or "$text" in said:
        return str(_plain(said))
    words = f"{_plain(said['user'])}/{_plain(said['group'])}/{said['expires']}"
    if "issued" in said:
        words += f"/{said['issued']}"
    rest = [
        f"signed {said['signed']}".replace("-", " ") if "signed" in said else "",
        f"not before {said['not-before']}" if "not-before" in said else "",
        f"without {', '.join(said['without'])}" if "without" in said else "",
        ", ".join(f"{name} {_json(claim)}" for name, claim in said.get("claims", {}).items()),
    ]
    described = "; ".join(word for word in rest if word)
    return f"{words} ({described})" if described else words


def _wrap(line: str) -> str:
    return textwrap.fill(
        line,
        _WIDTH,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


_OPENING: Final[dict[str, Callable[[Any], str]]] = {
    "path": str,
    "query": lambda value: f"with query {value}",
    "header": lambda value: f"with header {_token(value)}",
    "subprotocol": lambda value: f"with subprotocol {_token(value)}",
    "authorization": lambda value: f"with Authorization: {value}",
    "origin": lambda value: f"from {value}",
    "offers": lambda value: f"offering {', '.join(value) or 'no subprotocol'}",
    "selects": lambda value: f"and gets {value or 'none'}",
}
_REQUEST: Final[dict[str, Callable[[Any], str]]] = {
    "key": lambda value: f"({'no' if value == 'none' else 'a wrong'} key)",
    "json": _json,
    "text": lambda value: f"text {_json(value)}",
    "base64": lambda value: f"base64 {value}",
    "announces": lambda value: f"of {value} bytes, so it says",
}
_WITH_VALUE: Final[dict[str, Callable[[Any], str]]] = {
    "opens": lambda value: _described("opens", value, _OPENING),
    "sends": lambda value: f"→ {_json(value)}",
    "sends-text": lambda value: f"→ text {_json(value)}",
    "sends-binary": lambda value: f"→ binary {_json(value)}",
    "sends-bytes": lambda value: f"→ bytes {value}",
    "pings": lambda value: f"→ ping {_json(value)}",
    "closes": lambda value: f"closes with {_close(value)}",
    "receives": lambda value: f"← {_json(value)}",
    "receives-some": lambda value: f"← any number of {_json(value)}",
    "ponged": lambda value: f"← pong {_json(value)}",
    "refused": lambda value: f"refused {value['status']} {value['identifier']}",
    "closed": lambda value: f"✕ {_close(value)}",
    "publishes": lambda value: f"→ POST /v1/events {_json(value)}",
    "disconnects": lambda value: f"→ POST /v1/disconnect {_json(value)}",
    "requests": lambda value: _described(f"→ {value['method']} {value['path']}", value, _REQUEST),
    "happens": _HAPPENINGS.__getitem__,
}
_WORDS: Final[dict[str, Callable[[Any], Any]]] = {
    "$token": _token,
    "$cursor": lambda said: f"<{said}>",
    "$time": lambda said: said,
    "$text": _text,
    "$vaults": lambda said: ["v1", "v2", "…", f"v{said}"],
    "$times": lambda said: [_plain(said[1]), f"… {said[0]} of them"],
}
