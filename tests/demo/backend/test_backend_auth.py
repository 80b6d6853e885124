"""Log in, refresh, log out; and who may not."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import jwt
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.demo.backend import auth_routes, build_backend, user_routes
from localful_ws.demo.backend.tokens import ACCESS, Claims, sign_token
from localful_ws.tokens.claims import TokenRules
from localful_ws.tokens.errors import TokenRejectedError
from localful_ws.tokens.static import StaticKeyVerifier
from tests.demo.backend.backend_world import (
    SECRET,
    STARTED,
    ApiDevice,
    FakeIntake,
    World,
    client_of,
    make_settings,
    open_backend,
)

T = TypeVar("T")


def check_error(response: httpx.Response, status: int, identifier: str) -> None:
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["statusCode", "identifier", "message", "context"]
    assert (body["statusCode"], body["identifier"]) == (status, identifier)


async def refresh(world: World, device: ApiDevice, token: str | None = None) -> httpx.Response:
    body = {"refreshToken": token or device.tokens["refreshToken"]}
    return await world.client.post("/v1/auth/refresh", json=body)


async def test_each_login_has_a_group_of_its_own(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        first, second = await world.login(), await world.login()
    assert first.user == second.user
    assert first.group != second.group


async def test_the_websocket_server_takes_the_access_token_only(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with open_backend(tmp_path, FakeIntake(), access_seconds=60) as world:
        device = await world.login()
    verifier = StaticKeyVerifier(SECRET, "HS256", TokenRules(), lambda: STARTED + trio.current_time())
    session = await verifier.verify(device.tokens["accessToken"])
    assert (session.user, session.group) == (device.user, device.group)
    assert session.expires_at == device.tokens["accessExpiresAt"] == pytest.approx(STARTED + 60, abs=1)
    with pytest.raises(TokenRejectedError, match="refresh token"):
        await verifier.verify(device.tokens["refreshToken"])


@pytest.mark.parametrize(
    ("email", "password"),
    [("ada@example.org", "wrong"), ("nobody@example.org", "ada's password"), ("ada@example.org", "")],
)
async def test_wrong_credentials(
    tmp_path: Path, autojump_clock: MockClock, email: str, password: str
) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        response = await world.client.post("/v1/auth/login", json={"email": email, "password": password})
        check_error(response, 403, "wrong-credentials")
        assert world.rows("logins") == []


async def test_refresh_keeps_the_group_and_rotates(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        device = await world.login()
        await trio.sleep(10)
        response = await refresh(world, device)
        tokens = response.json()
        claims = jwt.decode(tokens["accessToken"], options={"verify_signature": False})
        assert (claims["gid"], claims["type"]) == (device.group, "accessToken")
        assert tokens["refreshToken"] != device.tokens["refreshToken"]
        assert tokens["accessExpiresAt"] > device.tokens["accessExpiresAt"]
        # The next one works as well.
        assert (await refresh(world, device, tokens["refreshToken"])).status_code == 200


async def test_refresh_again_after_a_lost_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake, refresh_grace_seconds=30) as world:
        device = await world.login()
        assert (await refresh(world, device)).status_code == 200
        await trio.sleep(20)
        again = await refresh(world, device)
        assert again.status_code == 200
        assert (await refresh(world, device, again.json()["refreshToken"])).status_code == 200
        await wait_all_tasks_blocked()
    assert intake.disconnected == []


async def test_a_used_refresh_token_ends_the_login(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake, refresh_grace_seconds=30) as world:
        device = await world.login()
        new = (await refresh(world, device)).json()
        await trio.sleep(30)
        check_error(await refresh(world, device), 401, "unauthorized")
        # The one that was good is so no more, nor the access token.
        check_error(await refresh(world, device, new["refreshToken"]), 401, "unauthorized")
        check_error(await device.call("GET", "/v1/users"), 401, "unauthorized")
        await wait_all_tasks_blocked()
    assert intake.disconnected == [(device.user, device.group)]


async def test_the_grace_is_not_prolonged(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake(), refresh_grace_seconds=30) as world:
        device = await world.login()
        for seconds, status in ((0, 200), (20, 200), (20, 401)):
            await trio.sleep(seconds)
            assert (await refresh(world, device)).status_code == status


async def test_logout_revokes_the_group(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        device, other = await world.login(), await world.login()
        for _ in range(2):
            response = await world.client.post(
                "/v1/auth/logout", json={"refreshToken": device.tokens["refreshToken"]}
            )
            assert (response.status_code, response.content) == (204, b"")
        check_error(await device.call("GET", "/v1/users"), 401, "unauthorized")
        check_error(await refresh(world, device), 401, "unauthorized")
        assert (await other.call("GET", "/v1/users")).status_code == 200
        await wait_all_tasks_blocked()
    expected = {"user": device.user, "group": device.group, "issuedBefore": STARTED}
    assert intake.requests == [("/v1/disconnect", expected)]


async def test_tokens_expire(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake(), access_seconds=60, refresh_seconds=600) as world:
        device = await world.login()
        await trio.sleep(59)
        assert (await device.call("GET", "/v1/users")).status_code == 200
        await trio.sleep(1)
        check_error(await device.call("GET", "/v1/users"), 401, "unauthorized")
        await trio.sleep(540)
        check_error(await refresh(world, device), 401, "unauthorized")


async def test_no_token_is_taken_for_another(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with open_backend(tmp_path, FakeIntake()) as world:
        device = await world.login()
        access, refreshing = device.tokens["accessToken"], device.tokens["refreshToken"]
        wrong = await refresh(world, device, access)
        check_error(wrong, 401, "unauthorized")
        assert "refreshToken" in wrong.json()["message"]
        claims = Claims(device.user, device.group)
        forged = sign_token(ACCESS, claims, b"another secret of thirty-two bytes", STARTED, 900)
        unsigned = jwt.encode({"sub": device.user, "gid": device.group}, "", "none")
        for token in ("", "x", "\u00e9", refreshing, forged, unsigned):
            headers = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
            response = await world.client.get("/v1/users", headers=headers)
            check_error(response, 401, "unauthorized")
            assert response.headers["WWW-Authenticate"] == "Bearer"
        check_error(await world.client.get("/v1/users"), 401, "unauthorized")
        assert (await device.call("GET", "/v1/users")).status_code == 200


async def test_too_many_logins_end_the_oldest(tmp_path: Path, autojump_clock: MockClock) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake, max_logins=2) as world:
        devices = []
        for _ in range(3):
            devices.append(await world.login())
            await trio.sleep(1)
        assert {row["gid"] for row in world.rows("logins")} == {device.group for device in devices[1:]}
    assert intake.disconnected == [(devices[0].user, devices[0].group)]


async def test_a_password_that_is_changed_while_it_is_checked(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake = FakeIntake()
    async with open_backend(tmp_path, intake) as world:
        ada = await world.login()
        changes = iter(range(10))

        def check(password: str, hashed: str) -> bool:
            new = f"scrypt$2${next(changes):02}$00"
            world.backend.database.connection.execute("UPDATE users SET password_hash = ?", (new,))
            return True

        for module in (auth_routes, user_routes):
            monkeypatch.setattr(module, "check_password", check)
        body = {"email": "ada@example.org", "password": "ada's password"}
        check_error(await world.client.post("/v1/auth/login", json=body), 403, "wrong-credentials")
        body = {"email": "ada@example.com", "password": "ada's password"}
        check_error(await ada.call("PUT", "/v1/users/email", body), 403, "wrong-credentials")
        body = {"currentPassword": "ada's password", "newPassword": "a new password"}
        check_error(await ada.call("PUT", "/v1/users/password", body), 403, "wrong-credentials")
        body = {"password": "ada's password"}
        check_error(await ada.call("DELETE", "/v1/users", body), 403, "wrong-credentials")
        assert (await ada.call("GET", "/v1/users")).json()["email"] == "ada@example.org"
        await wait_all_tasks_blocked()
    assert intake.requests == []


async def test_who_waits_too_long_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    async def slow(work: Callable[[], T], /) -> T:
        await trio.sleep(2)
        return work()

    backend = build_backend(make_settings(tmp_path, busy_seconds=1), transport=FakeIntake(), offload=slow)
    answers: list[httpx.Response] = []
    async with client_of(backend.app) as client, trio.open_nursery() as nursery:

        async def log_in() -> None:
            body = {"email": "ada@example.org", "password": "ada's password"}
            answers.append(await client.post("/v1/auth/login", json=body))

        nursery.start_soon(log_in)
        nursery.start_soon(log_in)
    backend.close()
    check_error(answers[0], 503, "busy")
    assert answers[1].status_code == 200
