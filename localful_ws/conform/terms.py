"""What the words of a scene stand for in one run of it: tokens, times, names, cursors, long texts."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import jwt
from attrs import Factory, define, field, frozen

from localful_ws.conform.scenes import is_word
from localful_ws.tokens.claims import TOKEN_TYPE

_CURSOR: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Names up to this length are lengthened by a prefix; longer ones, which are about length, are overwritten.
_SHORT_NAME: Final = 64
_ANOTHER_SECRET: Final = b"another secret, with which nothing is signed"


@frozen
class Issuer:
    """Signs access tokens as the HTTP API beside the server does.

    Attributes:
        secret: The shared secret.
        group_claim: The claim that holds the token group.
        issuer: The ``iss`` claim, if the server wants one.
        audience: The ``aud`` claim, if the server wants one.
    """

    secret: bytes = field(repr=False)
    group_claim: str = "gid"
    issuer: str | None = None
    audience: str | None = None

    def mint(self, described: Mapping[str, Any], began: int) -> str:
        """Make the token that a scene describes; see spec/README.md, "Tokens".

        Args:
            described: The description, its user and group already being those of this run.
            began: When the scene began, in Unix seconds.
        """
        claims: dict[str, Any] = {
            "sub": described["user"],
            self.group_claim: described["group"],
            "type": TOKEN_TYPE,
            "iat": began + described.get("issued", 0),
            "exp": began + described["expires"],
        }
        if "not-before" in described:
            claims["nbf"] = began + described["not-before"]
        if self.issuer is not None:
            claims["iss"] = self.issuer
        if self.audience is not None:
            claims["aud"] = self.audience
        claims |= described.get("claims", {})
        for name in described.get("without", ()):
            del claims[self.group_claim if name == "gid" else name]
        match described.get("signed", "rightly"):
            case "with-another-secret":
                return jwt.encode(claims, _ANOTHER_SECRET, "HS256")
            case "with-another-algorithm":
                return jwt.encode(claims, self.secret + bytes(32), "HS512")
            case "not-at-all":
                return jwt.encode(claims, "", "none")
            case "before-it-was-changed":
                head, _, signature = jwt.encode(claims | {"exp": 1}, self.secret, "HS256").split(".")
                changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
                return f"{head}.{changed}.{signature}"
        return jwt.encode(claims, self.secret, "HS256")


@define
class Terms:
    """What the words of a scene stand for in one run.

    Attributes:
        issuer: Signs the tokens.
        began: When the scene began, in Unix seconds.
        prefix: What the names of users and token groups begin with in this run, so that runs that share a
            server don't meet.
        cursors: The cursors that have a name by now.
    """

    issuer: Issuer
    began: int
    prefix: str = ""
    cursors: dict[str, str] = Factory(dict)

    def name(self, written: Any) -> Any:
        """The user or token group of this run that a scene calls so."""
        if not isinstance(written, str) or not written:
            return written
        return self.prefix + (written if len(written) <= _SHORT_NAME else written[len(self.prefix) :])

    def make(self, written: Any) -> Any:
        """A value as it goes over the wire."""
        if isinstance(written, list):
            return [self.make(item) for item in written]
        if not isinstance(written, dict):
            return written
        if not is_word(written):
            return {key: self.make(value) for key, value in written.items()}
        [(word, said)] = written.items()
        return self._words[word](self, said)

    def token(self, described: Any) -> str:
        """The token that a scene describes, or text that is none."""
        if not isinstance(described, dict) or "$text" in described:
            return str(self.make(described))
        made = self.make(described)
        return self.issuer.mint(made | {key: self.name(made[key]) for key in ("user", "group")}, self.began)

    def body(self, written: Any) -> Any:
        """The body of a request: users and groups in it are those of this run."""
        made = self._named(self.make(written))
        if isinstance(made, dict) and isinstance(made.get("events"), list):
            made["events"] = [self._named(event) for event in made["events"]]
        return made

    _words: ClassVar[dict[str, Callable[["Terms", Any], Any]]] = {
        "$token": lambda terms, value: terms.token(value),
        "$time": lambda terms, value: terms.began + value,
        "$cursor": lambda terms, value: terms.cursors[value],
        "$text": lambda _, value: "".join(
            part if isinstance(part, str) else part[0] * part[1] for part in value
        ),
        "$vaults": lambda _, value: [f"v{number}" for number in range(1, value + 1)],
        "$times": lambda terms, value: [terms.make(value[1])] * value[0],
    }

    def _named(self, made: Any) -> Any:
        if not isinstance(made, dict):
            return made
        return made | {key: self.name(made[key]) for key in ("user", "group") if key in made}

    def agrees(self, written: Any, seen: Any) -> bool:
        """Whether what was seen is what a scene says; a cursor's name is given at its first sight."""
        if isinstance(written, dict) and "$cursor" in written:
            return is_cursor(seen) and self.cursors.setdefault(written["$cursor"], seen) == seen
        if isinstance(written, dict) and not is_word(written):
            return (
                isinstance(seen, dict)
                and written.keys() == seen.keys()
                and all(self.agrees(value, seen[key]) for key, value in written.items())
            )
        if isinstance(written, list):
            return (
                isinstance(seen, list)
                and len(written) == len(seen)
                and all(self.agrees(*pair) for pair in zip(written, seen, strict=True))
            )
        return same(self.make(written), seen)


def is_cursor(value: object) -> bool:
    """Whether a value has the form of a cursor."""
    return isinstance(value, str) and _CURSOR.fullmatch(value) is not None


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; unlike in Python, ``true`` is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
