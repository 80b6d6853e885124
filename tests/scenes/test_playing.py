"""That a scene which goes otherwise is noticed: on a stage where devices see what the test says."""

import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from attrs import define, field
from jwt.types import Options

from localful_ws.conform.given import lacking
from localful_ws.conform.matching import Answer, Seen
from localful_ws.conform.play import SceneFailedError, play
from localful_ws.conform.report import as_json, report, violated_sections
from localful_ws.conform.run import AT_A_TIME, TOLERANCE, Outcome, Result, why_not
from localful_ws.conform.scenes import Scene, parse_file, read_scenes
from localful_ws.conform.terms import Issuer, Terms

SECRET = b"a secret of at least thirty-two bytes"
BEGAN = 1_000_000
AUTHENTICATED = {
    "event": "authenticated",
    "user": "run-alice",
    "group": "run-phone",
    "expiresAt": BEGAN + 60,
    "vaults": [],
    "cursor": "c.1",
}
ITEM = {"event": "item-create", "vault": "v1", "data": {"id": 1}, "cursor": "c.2"}


def make_scene(*steps: dict[str, Any], **given: Any) -> Scene:
    scene = {
        "name": "a-scene",
        "title": "A scene",
        "story": "Told.",
        "about": ["expiry", "limits/x"],
        "steps": steps,
    }
    [parsed] = parse_file(json.dumps({"scenes": [scene | ({"given": given} if given else {})]}), "file")
    return parsed


def step(at: float, action: str, value: Any, who: str = "phone", **more: Any) -> dict[str, Any]:
    return {"at": at, "who": who, action: value, **more}


@define
class Script:
    """A stage on which a device sees what the script says, and the publisher is answered so."""

    sees: deque[Seen]
    answers: Sequence[Answer] = ()
    strict: bool = False
    early: float = 0.05
    late: float = 0.5
    done: list[tuple[str, Any]] = field(factory=list)

    async def wait_until(self, at: float) -> None:
        pass

    async def act(self, who: str, action: str, value: Any) -> str | None:
        self.done.append((action, value))
        return None

    async def request(self, action: str, value: Any) -> Answer:
        self.done.append((action, value))
        return self.answers[0]

    async def happen(self, what: str) -> None:
        self.done.append(("happens", what))

    async def look(self, who: str, at: float) -> Seen | None:
        return self.unread(who)

    def unread(self, who: str) -> Seen | None:
        return self.sees[0] if self.sees else None

    def take(self, who: str) -> None:
        self.sees.popleft()

    async def finish(self) -> dict[str, Seen]:
        return {"phone": self.sees[0]} if self.sees else {}


def terms() -> Terms:
    return Terms(Issuer(SECRET), BEGAN, "run-")


async def complaint(scene: Scene, *sees: Seen, answer: Answer | None = None, strict: bool = False) -> str:
    """What there is to complain about; empty if the scene goes as it is written."""
    try:
        await play(scene, Script(deque(sees), () if answer is None else (answer,), strict=strict), terms())
    except SceneFailedError as error:
        return error.message
    return ""


RECEIVES = make_scene(step(1.0, "receives", {"event": "item-create", "vault": "v1", "data": {"id": 1}}))


@pytest.mark.parametrize(
    ("message", "complains"),
    [
        (ITEM, ""),
        (ITEM | {"sent-at": 5}, ""),  # the protocol may grow
        (ITEM | {"vault": "v2"}, "Instead it was this"),
        (ITEM | {"data": {"id": "1"}}, "Instead it was this"),
        (ITEM | {"data": {"id": True}}, "Instead it was this"),
        (ITEM | {"data": {"id": 1, "more": 2}}, "Instead it was this"),
        (ITEM | {"user": "run-alice"}, "Instead it was this"),
        (ITEM | {"group": "run-laptop"}, "Instead it was this"),
        (ITEM | {"cursor": "no cursor"}, "There is no cursor"),
        ({key: value for key, value in ITEM.items() if key != "cursor"}, "There is no cursor"),
        ({key: value for key, value in ITEM.items() if key != "vault"}, "Instead it was this"),
        ([ITEM], "Instead it was this"),
    ],
)
async def test_messages(message: Any, complains: str) -> None:
    said = await complaint(RECEIVES, Seen(1.0, "receives", message))
    assert said.startswith(complains)
    assert bool(said) == bool(complains)


async def test_a_strict_stage_knows_version_1_only() -> None:
    message = Seen(1.0, "receives", ITEM | {"sent-at": 5})
    assert (await complaint(RECEIVES, message, strict=True)).startswith("Instead it was this")


@pytest.mark.parametrize(
    ("seen", "complains"),
    [
        ([], "phone saw nothing."),
        ([Seen(0.9, "receives", ITEM)], "It came 0.10 s too early."),
        ([Seen(0.96, "receives", ITEM)], ""),
        ([Seen(1.4, "receives", ITEM)], ""),
        ([Seen(1.6, "receives", ITEM)], "It came 0.60 s too late."),
        ([Seen(1.0, "dropped")], "Instead it was this: dropped null."),
        (
            [Seen(1.0, "receives", ITEM), Seen(1.1, "dropped")],
            "phone saw something at 1.10 that is not to be",
        ),
    ],
)
async def test_times_and_what_is_not_to_be(seen: list[Seen], complains: str) -> None:
    said = await complaint(RECEIVES, *seen)
    assert said.startswith(complains)
    assert bool(said) == bool(complains)


async def test_names_and_times_are_those_of_the_run() -> None:
    written = {
        "event": "authenticated",
        "user": "alice",
        "group": "phone",
        "expiresAt": {"$time": 60},
        "vaults": [],
    }
    scene = make_scene(step(0.0, "receives", written))
    assert await complaint(scene, Seen(0.0, "receives", AUTHENTICATED)) == ""
    assert await complaint(scene, Seen(0.0, "receives", AUTHENTICATED | {"user": "alice"})) != ""
    assert await complaint(scene, Seen(0.0, "receives", AUTHENTICATED | {"expiresAt": BEGAN + 61})) != ""


async def test_a_cursor_keeps_its_name() -> None:
    event = {"event": "user-update", "data": 1, "cursor": {"$cursor": "one"}}
    scene = make_scene(step(0.0, "receives", event), step(0.0, "receives", event))
    first = Seen(0.0, "receives", {"event": "user-update", "data": 1, "cursor": "c.1"})
    other = Seen(0.0, "receives", {"event": "user-update", "data": 1, "cursor": "c.2"})
    assert await complaint(scene, first, first) == ""
    assert await complaint(scene, first, other) != ""


async def test_an_error_has_a_message() -> None:
    scene = make_scene(step(0.0, "receives", {"event": "error", "code": "bad-message"}))
    error = {"event": "error", "code": "bad-message"}
    assert await complaint(scene, Seen(0.0, "receives", error | {"message": "No."})) == ""
    assert (await complaint(scene, Seen(0.0, "receives", error))).startswith("There is no message")
    assert await complaint(scene, Seen(0.0, "receives", error | {"message": "No.", "id": "1"})) != ""


async def test_closes() -> None:
    scene = make_scene(step(0.0, "closed", {"code": 4408, "reason": "authentication-timeout"}))
    any_reason = make_scene(step(0.0, "closed", {"code": 1002}))
    assert (
        await complaint(scene, Seen(0.0, "closed", {"code": 4408, "reason": "authentication-timeout"})) == ""
    )
    assert (
        await complaint(scene, Seen(0.0, "closed", {"code": 4408, "reason": "late"})) == "It was 4408 late."
    )
    assert (
        await complaint(scene, Seen(0.0, "closed", {"code": 4401, "reason": "authentication-timeout"})) != ""
    )
    assert await complaint(any_reason, Seen(0.0, "closed", {"code": 1002, "reason": "whatever"})) == ""


async def test_hearing_nothing() -> None:
    scene = make_scene(
        step(0.5, "hears-nothing", {}), step(1.0, "receives", {"event": "user-update", "data": 1})
    )
    message = Seen(0.4, "receives", {"event": "user-update", "data": 1, "cursor": "c.1"})
    assert (await complaint(scene, message)).startswith("phone saw this at 0.40: receives")


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_any_number_of_the_same(count: int) -> None:
    some = {"event": "user-update", "data": 1}
    scene = make_scene(step(0.0, "receives-some", some), step(0.0, "closed", {"code": 4412}))
    seen = [Seen(0.0, "receives", some | {"cursor": f"c.{number}"}) for number in range(count)]
    closed = Seen(0.0, "closed", {"code": 4412, "reason": "slow-consumer"})
    assert await complaint(scene, *seen, closed) == ""
    other = Seen(0.0, "receives", {"event": "user-update", "data": 2, "cursor": "c.9"})
    assert (await complaint(scene, *seen, other, closed)).startswith("Instead it was this")


def http_error(status: int, identifier: str, **context: Any) -> Answer:
    body = {"statusCode": status, "identifier": identifier, "message": "No.", "context": context}
    return Answer(status, body, {"retry-after": "5"})


@pytest.mark.parametrize(
    ("written", "answer", "complains"),
    [
        (None, Answer(202, {"accepted": 1}), ""),
        (None, http_error(422, "invalid-body"), "It was 422"),
        ({"status": 202, "body": {"accepted": 1}}, Answer(202, {"accepted": 1}), ""),
        ({"status": 202, "body": {"accepted": 1}}, Answer(202, {"accepted": 2}), "It was 202"),
        ({"status": 422, "identifier": "invalid-body"}, http_error(422, "invalid-body", key="user"), ""),
        ({"status": 422, "identifier": "invalid-body"}, http_error(422, "not-json"), "It was 422"),
        (
            {"status": 422, "identifier": "invalid-body"},
            Answer(422, "no"),
            "The body is not that of an HTTP error",
        ),
        (
            {"status": 422, "identifier": "invalid-body", "context": {"index": 1}},
            http_error(422, "invalid-body"),
            "It",
        ),
        (
            {"status": 422, "identifier": "a", "context": {"index": 1}},
            http_error(422, "a", index=1, key="x"),
            "",
        ),
        ({"status": 503, "identifier": "draining"}, http_error(503, "draining"), ""),
        (
            {"status": 503, "identifier": "draining"},
            Answer(503, http_error(503, "draining").body, {}),
            "The answer 503",
        ),
    ],
)
async def test_answers(written: dict[str, Any] | None, answer: Answer, complains: str) -> None:
    more = {} if written is None else {"answer": written}
    scene = make_scene(step(0.0, "publishes", {"event": "user-update", "user": "alice"}, who="api", **more))
    said = await complaint(scene, answer=answer)
    assert said.startswith(complains)
    assert bool(said) == bool(complains)


# --- words ---


async def test_what_is_done_is_made_of_the_words() -> None:
    token = {"user": "alice", "group": "phone", "expires": 60}
    event = {"event": "user-update", "user": "alice", "group": "phone", "data": {"user": "alice"}}
    scene = make_scene(
        step(0.0, "opens", {"header": token}),
        step(0.0, "sends", {"event": "authenticate", "token": {"$token": token}, "vaults": {"$vaults": 2}}),
        step(0.0, "sends-text", {"$text": ["a", ["xy", 2]]}, times=2),
        step(0.0, "publishes", {"events": {"$times": [2, event]}}, who="api"),
        step(0.0, "disconnects", {"group": "phone", "until": {"$time": 9}}, who="api"),
        step(0.0, "happens", "drain", who="server"),
    )
    script = Script(deque(), (Answer(202, {}),))
    await play(scene, script, terms())
    (_, opened), (_, sent), *texts, (_, published), (_, disconnected), happened = script.done
    claims = {"sub": "run-alice", "gid": "run-phone", "type": "accessToken", "iat": BEGAN, "exp": BEGAN + 60}
    options: Options = {"verify_exp": False}
    assert jwt.decode(opened["header"], SECRET, ["HS256"], options=options) == claims
    assert jwt.decode(sent["token"], SECRET, ["HS256"], options=options) == claims
    assert sent["vaults"] == ["v1", "v2"]
    assert texts == [("sends-text", "axyxy")] * 2
    named = event | {"user": "run-alice", "group": "run-phone"}
    assert published == {"events": [named, named]}
    assert disconnected == {"group": "run-phone", "until": BEGAN + 9}
    assert happened == ("happens", "drain")


def test_long_names_keep_their_length() -> None:
    name = terms().name("x" * 128)
    assert (len(name), name[:5]) == (128, "run-x")
    assert terms().name("") == ""
    assert terms().name(7) == 7


TOKEN = {"user": "alice", "group": "phone", "expires": 60}


def test_tokens_that_are_wrong() -> None:
    issuer = Issuer(SECRET, group_claim="sid", issuer="me", audience="you")
    for signed in ("with-another-secret", "before-it-was-changed"):
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(issuer.mint(TOKEN | {"signed": signed}, BEGAN), SECRET, ["HS256"])
    assert jwt.get_unverified_header(issuer.mint(TOKEN | {"signed": "not-at-all"}, BEGAN))["alg"] == "none"
    other = issuer.mint(TOKEN | {"signed": "with-another-algorithm"}, BEGAN)
    assert jwt.get_unverified_header(other)["alg"] == "HS512"
    described = TOKEN | {"without": ["gid", "type"], "claims": {"sub": 7}, "not-before": 5, "issued": 3}
    claims = jwt.decode(issuer.mint(described, BEGAN), options={"verify_signature": False})
    assert claims == {
        "sub": 7,
        "iat": BEGAN + 3,
        "nbf": BEGAN + 5,
        "exp": BEGAN + 60,
        "iss": "me",
        "aud": "you",
    }


# --- settings, and the report ---


def test_settings_of_a_server() -> None:
    small = make_scene(step(0.0, "hears-nothing", {}), **{"max-vaults": 2})
    assert lacking(RECEIVES, {}) == []
    assert lacking(RECEIVES, {"max-vaults": "1000"}) == []
    assert lacking(RECEIVES, {"max-vaults": "2"}) == ["max-vaults=1000"]
    assert lacking(small, {}) == ["max-vaults=2"]
    assert lacking(small, {"max-vaults": "2"}) == []
    assert lacking(small, {"max-vaults": "2", "auth-timeout": "1"}) == ["auth-timeout=3 s"]


def test_why_a_scene_is_not_played() -> None:
    draining = make_scene(step(0.0, "happens", "drain", who="server"))
    assert why_not(RECEIVES, {}) == ""
    assert "drain" in why_not(draining, {})
    assert why_not(draining, {}, ["drain"]) == ""
    assert why_not(make_scene(step(41.0, "hears-nothing", {})), {}) == "it takes 41 s"
    assert draining.is_alone
    assert not RECEIVES.is_alone


def test_all_scenes_together_take_half_a_minute() -> None:
    scenes = [scene.seconds + TOLERANCE.quiet for scene in read_scenes() if not why_not(scene, {})]
    assert len(scenes) > 120
    assert max(scenes) < 30
    # Places are free again as soon as that, and then the last scene may still be as long as the longest.
    assert sum(scenes) / AT_A_TIME + max(scenes) < 45


def test_report() -> None:
    results = [
        Result(RECEIVES, Outcome.HOLDS),
        Result(RECEIVES, Outcome.VIOLATED, RECEIVES.steps[0], "phone saw nothing."),
        Result(RECEIVES, Outcome.VIOLATED, None, "phone saw something."),
        Result(RECEIVES, Outcome.NOT_PLAYED, message="it needs max-vaults=2"),
    ]
    assert list(report(results, 12.3)) == [
        "✗ Expiry                               1 of 3      spec/protocol.md#expiry",
        "    a-scene: A scene",
        '      1.0  phone ← {"event": "item-create", "vault": "v1", "data": {"id": 1}}',
        "      phone saw nothing.",
        "    a-scene: A scene",
        "      at the end",
        "      phone saw something.",
        "",
        "Not played:",
        "  a-scene: it needs max-vaults=2",
        "",
        "1 scenes hold, 2 don't, 1 were not played; 12 s. Violated: Expiry.",
    ]
    assert violated_sections(results) == ["expiry"]
    told = as_json(results, 12.3)
    assert (told["ok"], told["violated"]) == (False, ["spec/protocol.md#expiry"])
    assert [scene["outcome"] for scene in told["scenes"]] == ["holds", "violated", "violated", "not-played"]
    assert as_json(results[:1], 1.0)["ok"]
