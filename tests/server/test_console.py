"""The console's API: who may ask, what is answered, and within which bounds."""

from collections.abc import Mapping

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws import __version__
from localful_ws.engine import EngineUnavailableError, Position, entry_of
from localful_ws.metrics import Family, Figure, Gauges, Metrics
from localful_ws.protocol import Event, EventName
from localful_ws.server import watching as watching_module
from localful_ws.server.console.overview import build_overview, name_engine
from localful_ws.server.console.routes import ALIVE_SECONDS
from localful_ws.server.survey import questions, respondent
from localful_ws.server.survey.questions import Question
from localful_ws.server.watching import MOST_DATA_BYTES, MOST_LINES, MOST_WATCHERS, Watcher
from tests.redis_world import settle
from tests.server.consoles import app_of, ask, fetch, watching
from tests.world import ENGINES, PUBLISHER_KEY, STARTED, TRANSPORTS, World, open_world

APIS = ["overview", "users", "devices?user=ada", "watch?user=ada"]
EVENT = {"event": "item-create", "user": "ada", "vault": "v1", "group": "phone", "data": {"id": 1}}


# --- who may ask ---


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer " + PUBLISHER_KEY[:-1]},
        {"Authorization": "Basic " + PUBLISHER_KEY},
        {"Cookie": "key=" + PUBLISHER_KEY},
    ],
)
async def test_without_the_key_nothing_is_told(
    autojump_clock: MockClock, api: str, headers: dict[str, str]
) -> None:
    async with open_world() as world:
        app = app_of(world)
        answer = await fetch(app, f"/console/api/{api}", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["identifier"] == "unauthorized"
        in_query = await fetch(app, f"/console/api/{api}", headers=headers, params={"key": PUBLISHER_KEY})
        assert in_query.status_code == 401
        kind = "with a wrong" if "Authorization" in headers else "without the"
        # The second one is not told of: it came at the same moment.
        assert world.take_failures() == [f"a request {kind} publisher key was refused"]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT"])
async def test_other_methods_are_refused(autojump_clock: MockClock, api: str, method: str) -> None:
    async with open_world() as world:
        answer = await fetch(app_of(world), f"/console/api/{api}", method=method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


async def test_a_foreign_page_is_told_nothing(autojump_clock: MockClock) -> None:
    """Its browser asks first whether the header with the key may go along, and gets no leave."""
    preflight = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    async with open_world() as world:
        app = app_of(world)
        for path in ("/console/api/overview", "/v1/events", "/v1/disconnect", "/console"):
            answer = await fetch(app, path, method="OPTIONS", headers=preflight)
            assert answer.status_code == 405
            assert not [name for name in answer.headers if name.startswith("access-control")]
        page = await fetch(app, "/console", headers={})
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_the_page_is_served_without_the_key(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        app = app_of(world)
        page = await fetch(app, "/console", headers={})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "'unsafe-inline'" not in page.headers["content-security-policy"]
        for path in ("/console/console.js", "/console/console.css", "/client.js", "/style.css", "/rows.js"):
            assert (await fetch(app, path, headers={})).status_code == 200
        slash = await fetch(app, "/console/", headers={})
        assert (slash.status_code, slash.headers["location"]) == (307, "../console")
        assert (await fetch(app, "/console/index.html", headers={})).status_code == 404
        assert (await fetch(app, "/console/..%2f..%2fapi.py", headers={})).status_code == 404


# --- what is asked ---


@pytest.mark.parametrize(
    ("api", "key"),
    [
        ("users?limit=0", "limit"),
        ("users?limit=1001", "limit"),
        ("users?limit=ten", "limit"),
        ("users?limit=%C2%B2", "limit"),
        ("users?limit=" + "9" * 5000, "limit"),
        ("users?limit=0000000009999", "limit"),
        ("users?prefix=" + "x" * 129, "prefix"),
        ("users?after=" + "x" * 129, "after"),
        ("devices", "user"),
        ("devices?user=", "user"),
        ("devices?user=" + "x" * 129, "user"),
        ("devices?user=ada&vaults=-1", "vaults"),
        ("devices?user=ada&vaults=1001", "vaults"),
        ("devices?user=ada&vaults=0000000009999", "vaults"),
        ("watch", "user"),
        ("watch?user=ada&since=" + "x" * 129, "since"),
    ],
)
async def test_a_query_that_cannot_be(autojump_clock: MockClock, api: str, key: str) -> None:
    async with open_world() as world:
        answer = await fetch(app_of(world), f"/console/api/{api}")
        assert answer.status_code == 422
        assert answer.json()["identifier"] == "invalid-query"
        assert answer.json()["context"] == {"key": key}


@pytest.mark.parametrize("api", APIS[:3])
async def test_workers_that_do_not_answer(autojump_clock: MockClock, api: str) -> None:
    async def nothing(_: Question) -> None:
        return None

    async with open_world() as world:
        answer = await fetch(app_of(world, nothing), f"/console/api/{api}")
        assert (answer.status_code, answer.json()["identifier"]) == (503, "answer-unavailable")
        assert "retry-after" in answer.headers


# --- overview ---


async def test_the_overview_of_a_node(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        app = app_of(world)
        before = await ask(app, "overview")
        assert before["connections"] == {"awaiting-auth": 0, "authenticated": 0, "closed": 0}
        await world.device("ada", "laptop", "v1")
        await world.device("ada", "phone", "v1")
        await world.device("bob", "tablet")
        await world.open()
        await world.publish(EVENT, EVENT | {"id": "once"}, EVENT | {"id": "once"})
        await world.disconnect(group="tablet")
        after = await ask(app, "overview")
    assert (after["version"], after["time"]) == (__version__, STARTED)
    assert (after["unavailable"], after["draining"]) == (None, False)
    assert after["workers"] == {"serving": 1, "missing": 0, "restarts": 0}
    assert after["connections"] == {"awaiting-auth": 1, "authenticated": 2, "closed": 0}
    assert (after["users"], after["connectionsOpened"]) == (1, 4)
    assert after["events"]["accepted"]["item-create"] == 3
    assert (after["events"]["duplicates"], after["events"]["delivered"], after["events"]["echoes"]) == (
        1,
        2,
        2,
    )
    assert after["closes"]["forbidden"] == 1
    assert after["publishToWrite"]["count"] == 2
    assert after["publishToWrite"]["upTo"]["5.0"] == 2
    assert after["engine"]["name"] == "memory"
    assert after["engine"]["up"] is True
    figures = {figure["name"]: figure["value"] for figure in after["engine"]["figures"]}
    assert (figures["history_events"], figures["publish_ids"]) == (2, 1)


async def test_the_overview_says_why_a_node_is_not_ready(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        app = app_of(world)
        await world.node.drain(0)
        overview = await ask(app, "overview")
        assert (overview["draining"], overview["unavailable"]) == (True, "The server is shutting down.")


def test_the_overview_is_made_of_the_metrics_of_all() -> None:
    metrics = Metrics(
        gauges=lambda: Gauges(
            {"authenticated": 7},
            send_buffer_peak_events=3,
            send_buffer_peak_bytes=4000,
            engine_up=False,
            users=5,
            missed_events_lately=1500,
        )
    )
    metrics.accepted([EventName.ITEM_CREATE])
    metrics.handshake_refused(404)
    families = metrics.families()
    for name, value in (("workers", 3), ("workers_missing", 1), ("own_bytes", 9)):
        families.append(Family(f"localful_ws_{name}", "A text.", "gauge", {("", ""): value}))
    refused = {"OOM": 2.0, "timeout": 1.0}
    figures = [
        Figure("own_bytes", "A text.", 1),
        Figure("elsewhere", "Another.", 2, total=True),
        Figure("refused", "A third.", refused, total=True, label="reason"),
    ]
    engine = name_engine("redis://127.0.0.1:6379")
    overview = build_overview(families, figures, engine, now=5.0, unavailable="A sentence.")
    assert overview["workers"] == {"serving": 3, "missing": 1, "restarts": 0}
    assert overview["handshakesRefused"] == {"404": 1}
    assert overview["sendBuffer"] == {"peakEvents": 3, "peakBytes": 4000}
    assert overview["missedEventsLately"] == 1500
    assert overview["engine"] == {
        "name": "redis",
        "place": "127.0.0.1:6379",
        "up": False,
        "figures": [
            {"name": "own_bytes", "text": "A text.", "value": 9, "total": False},
            {"name": "elsewhere", "text": "Another.", "value": 2, "total": True},
            {"name": "refused", "text": "A third.", "value": 3, "total": True},
        ],
    }


@pytest.mark.parametrize(
    ("url", "kind", "place"),
    [
        ("memory", "memory", ""),
        ("redis://user:pass%40word@cache.example:6380/2", "redis", "cache.example:6380"),
        ("rediss+sentinel://u:p@a:1,b:2/main?sentinel_password=s", "rediss+sentinel", "a:1, b:2"),
        ("unix:///run/redis.sock", "unix", "/run/redis.sock"),
    ],
)
def test_the_engine_is_named_without_its_secrets(url: str, kind: str, place: str) -> None:
    assert name_engine(url) == {"name": kind, "place": place}


# --- users ---


async def test_users_page_by_page(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(respondent, "_USERS_AT_A_TIME", 3)
    async with open_world() as world:
        app = app_of(world)
        assert await ask(app, "users") == {"users": []}
        names = ["zoe", "ada", "\N{SNOWMAN}", "adam", "Ada", "bob", "ad", "eve"]
        for name in names:
            await world.device(name)
        await world.device("adam", "other")
        everybody = (await ask(app, "users"))["users"]
        assert [row["user"] for row in everybody] == sorted(names)
        assert {row["user"]: row["connections"] for row in everybody}["adam"] == 2
        pages, following = [], {"after": ""}
        while following:
            page = await ask(app, "users", limit=3, **following)
            pages.append([row["user"] for row in page["users"]])
            following = {"after": page["next"]} if "next" in page else {}
        assert pages == [["Ada", "ad", "ada"], ["adam", "bob", "eve"], ["zoe", "\N{SNOWMAN}"]]
        begin_so = (await ask(app, "users", prefix="ada", limit=2))["users"]
        assert [row["user"] for row in begin_so] == ["ada", "adam"]
        assert await ask(app, "users", prefix="x") == {"users": []}


# --- devices ---


async def test_the_devices_of_a_user(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        app = app_of(world)
        await world.device("ada", "laptop", "v2", "v1", ttl=100)
        await trio.sleep(2)
        phone = await world.device("ada", "phone", *(f"v{number}" for number in range(30)))
        await world.device("bob", "tablet", "v1")
        answer = await ask(app, "devices", user="ada")
        assert (answer["user"], answer["total"], answer["time"]) == ("ada", 2, STARTED + 2)
        laptop, other = answer["devices"]
        assert laptop == {
            "group": "laptop",
            "state": "authenticated",
            "connectedAt": STARTED,
            "issuedAt": STARTED,
            "expiresAt": STARTED + 100,
            "subscribed": 2,
            "vaults": ["v2", "v1"],
            "waitingEvents": 0,
            "waitingBytes": 0,
        }
        assert (other["group"], other["connectedAt"], other["subscribed"]) == ("phone", STARTED + 2, 30)
        assert other["vaults"] == [f"v{number}" for number in range(20)]
        (alone,) = (await ask(app, "devices", user="ada", group="phone", vaults=1000))["devices"]
        assert len(alone["vaults"]) == 30
        await phone.say({"event": "subscribe", "vaults": []})
        (alone,) = (await ask(app, "devices", user="ada", group="phone"))["devices"]
        assert (alone["subscribed"], alone["vaults"]) == (0, [])
        assert (await ask(app, "devices", user="nobody"))["devices"] == []


@pytest.mark.kinds(*TRANSPORTS)
async def test_what_waits_for_a_device(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        app = app_of(world)
        authorization = (b"authorization", f"Bearer {world.token()}".encode())
        device = await world.open(
            headers=[authorization], read=False, make_pair=trio.testing.lockstep_stream_pair
        )
        for _ in range(20):
            await world.publish({"event": "user-update", "user": "ada", "data": "x" * 100})
        (view,) = (await ask(app, "devices", user="ada"))["devices"]
        assert view["waitingEvents"] > 5
        assert view["waitingBytes"] > 500
        world.nursery.start_soon(device.read)
        await settle()
        (view,) = (await ask(app, "devices", user="ada"))["devices"]
        assert (view["waitingEvents"], view["waitingBytes"]) == (0, 0)


async def test_an_answer_names_a_bounded_number_of_vaults(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "MOST_VAULTS", 5)
    monkeypatch.setattr(questions, "MOST_DEVICES", 4)
    async with open_world() as world:
        for number in range(6):
            await world.device("ada", f"g{number}", "v1", "v2")
        answer = await ask(app_of(world), "devices", user="ada")
        assert answer["total"] == 6
        assert [(len(device["vaults"]), device["subscribed"]) for device in answer["devices"]] == [
            (2, 2),
            (2, 2),
            (1, 2),
            (0, 2),
        ]


# --- watching ---


@pytest.mark.kinds(*ENGINES)
async def test_a_watch_is_told_everything_of_its_user(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world, watching(app_of(world), "user=ada") as watch:
        (began,) = watch.take()
        assert (watch.status, began["type"], began["user"]) == (200, "watching", "ada")
        assert began["time"] == STARTED
        assert "resumed" not in began
        # Nobody is connected.
        await world.publish(EVENT | {"id": "e1"}, {"event": "user-update", "user": "ada"})
        await world.publish(EVENT | {"user": "bob"})
        first, second = watch.take()
        assert first == {
            "type": "event",
            "time": STARTED,
            "event": "item-create",
            "vault": "v1",
            "group": "phone",
            "cursor": first["cursor"],
            "bytes": len('{"id": 1}'),
            "data": {"id": 1},
        }
        assert first["cursor"] != began["cursor"]
        assert (second["event"], "vault" in second, second["data"]) == ("user-update", False, None)


@pytest.mark.kinds(*ENGINES)
async def test_a_watch_beside_devices(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        app = app_of(world)
        device = await world.device("ada", "laptop", "v1")
        async with watching(app, "user=ada") as watch:
            watch.take()
            await world.publish(EVENT, EVENT | {"group": "laptop"})
            assert [line["group"] for line in watch.take()] == ["phone", "laptop"]
            assert device.events == ["item-create"]
        await world.publish(EVENT)
        assert device.events == ["item-create"] * 2
        async with watching(app, "user=ada") as watch:
            await device.socket.aclose()
            watch.take()
            await world.publish(EVENT)
            assert len(watch.take()) == 1


@pytest.mark.kinds(*ENGINES)
async def test_a_watch_goes_on_where_it_was(autojump_clock: MockClock, kind: str) -> None:
    async with open_world(kind) as world:
        app = app_of(world)
        async with watching(app, "user=ada") as watch:
            await world.publish(EVENT)
            cursor = watch.take()[-1]["cursor"]
        await world.publish(EVENT | {"data": 2}, EVENT | {"data": 3})
        async with watching(app, f"user=ada&since={cursor}") as watch:
            began, *missed = watch.take()
            assert began["resumed"] is True
            assert [line["data"] for line in missed] == [2, 3]
            await world.publish(EVENT | {"data": 4})
            assert [line["data"] for line in watch.take()] == [4]
        async with watching(app, "user=ada&since=unknown") as watch:
            (began,) = watch.take()
            assert began["resumed"] is False


async def test_a_watch_says_that_it_is_alive(autojump_clock: MockClock) -> None:
    async with open_world() as world, watching(app_of(world), "user=ada") as watch:
        watch.take()
        await trio.sleep(3.5 * ALIVE_SECONDS)
        assert [line["type"] for line in watch.take()] == ["alive"] * 3
        await world.publish(EVENT)
        await trio.sleep(0.9 * ALIVE_SECONDS)
        assert [line["type"] for line in watch.take()] == ["event"]


async def test_who_does_not_read_misses_and_is_told_how_much(autojump_clock: MockClock) -> None:
    async with open_world() as world, watching(app_of(world), "user=ada", reads=False) as watch:
        device = await world.device("ada", "laptop", "v1")
        # The first line waits as well.
        await world.publish(*[EVENT | {"data": number} for number in range(MOST_LINES + 7)])
        assert len(device.messages) == MOST_LINES + 7
        watch.reads.set()
        await settle()
        _, *events, missed = watch.take()
        assert [line["data"] for line in events] == list(range(MOST_LINES - 1))
        assert (missed["type"], missed["count"]) == ("missed", 8)
        await world.publish(EVENT | {"data": "after"})
        assert [line["data"] for line in watch.take()] == ["after"]


def test_what_is_missed_is_told_where_it_is_missing() -> None:
    watcher = Watcher("ada", lambda: STARTED)
    entry = entry_of(Event(EventName.USER_UPDATE, "ada"), "c")
    watcher.begin(Position("c", [entry] * (MOST_LINES + 1)), resumes=True)
    watcher.lose()
    watcher.end()
    watcher.tell(entry)
    taken = trio.run(watcher.take).splitlines()
    assert len(taken) == MOST_LINES + 2
    assert [msgspec.json.decode(line)["type"] for line in taken[-3:]] == ["event", "missed", "end"]
    assert msgspec.json.decode(taken[-2])["count"] == 3
    assert trio.run(watcher.take) == b""


async def test_data_is_shown_up_to_a_size(autojump_clock: MockClock) -> None:
    async with open_world() as world, watching(app_of(world), "user=ada") as watch:
        watch.take()
        await world.node.publish(
            world.decode(b'{"event": "user-update", "user": "ada", "data": {\n "a":\r\n "\\n"}}')
        )
        for size in (MOST_DATA_BYTES, MOST_DATA_BYTES + 1):
            await world.publish({"event": "user-update", "user": "ada", "data": "x" * (size - 2)})
        pretty, fits, too_big = watch.take()
        assert pretty["data"] == {"a": "\n"}
        assert (fits["bytes"], len(fits["data"])) == (MOST_DATA_BYTES, MOST_DATA_BYTES - 2)
        assert too_big["bytes"] == MOST_DATA_BYTES + 1
        assert "data" not in too_big


async def test_watchers_are_bounded_in_number(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching_module, "MOST_WATCHERS", 2)
    assert MOST_WATCHERS > 2
    async with open_world() as world:
        app = app_of(world)
        async with watching(app, "user=ada"), watching(app, "user=ada") as other:
            async with watching(app, "user=bob") as third:
                assert third.status == 503
                assert b"too-many-watchers" in third.body
            await world.publish(EVENT)
            assert [line["type"] for line in other.take()] == ["watching", "event"]
        async with watching(app, "user=bob") as third:
            assert third.status == 200


async def test_a_watch_ends_with_the_drain(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        app = app_of(world)
        async with watching(app, "user=ada") as watch:
            await world.node.drain(1)
            await watch.ended.wait()
            assert [line["type"] for line in watch.take()] == ["watching", "end"]
        async with watching(app, "user=ada") as watch:
            await watch.ended.wait()
            assert [line["type"] for line in watch.take()] == ["watching", "end"]


async def test_a_watch_that_hears_of_a_loss(autojump_clock: MockClock) -> None:
    async with open_world() as world, watching(app_of(world), "user=ada") as watch:
        watch.take()
        world.node.subscriber.lose("bob")
        world.node.subscriber.lose("ada")
        await trio.testing.wait_all_tasks_blocked()
        assert [line["type"] for line in watch.take()] == ["lost"]


@pytest.mark.kinds(*ENGINES)
async def test_watches_leave_nothing_behind(autojump_clock: MockClock, kind: str) -> None:
    def followed(world: World) -> float | Mapping[str, float]:
        return {figure.name: figure.value for figure in world.node.metrics.gauges().engine}.get(
            "redis_followed_users", 0
        )

    async with open_world(kind) as world:
        app = app_of(world)
        for _ in range(3 * MOST_WATCHERS):
            async with watching(app, "user=ada") as watch:
                assert watch.status == 200
        assert followed(world) == 0
        assert not world.node.watching._watchers


async def test_while_the_engine_is_away_nothing_can_be_watched(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def join(*_: object) -> None:
        raise EngineUnavailableError("The engine is away.", retry_after=7)

    async with open_world() as world:
        app = app_of(world)
        monkeypatch.setattr(world.node.watching._engine, "join", join)
        async with watching(app, "user=ada") as watch:
            assert watch.status == 503
            assert b"The engine is away." in watch.body
        monkeypatch.undo()
        async with watching(app, "user=ada") as watch:
            assert watch.status == 200
