"""The contract of the Localful WebSocket server on asyncio: `websockets`, uvloop, aiohttp.

Written the way its documentation suggests: a handler coroutine per connection, a set of connections for each
user, `broadcast` for an event, compression off, keepalive pings on.
"""

import asyncio
import hmac
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import uvloop
from aiohttp import web
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

PATH = "/v1/sync"
SUBPROTOCOL = Subprotocol("localful.v1")
AUTH_TIMEOUT = 3.0
MAX_MESSAGE = 64 * 1024
MAX_BODY = 64 * 1024 * 1024
MAX_BATCH = 1000
MAX_VAULTS = 1000
SEND_BUFFER_BYTES = 4 * 1024 * 1024
BACKLOG = 4096

USER_EVENTS = frozenset({"user-update", "user-password-change", "user-email-change", "user-delete"})
VAULT_EVENTS = frozenset({"vault-create", "vault-update", "vault-delete"})
DATA_EVENTS = frozenset({"item-create", "item-delete", "version-create", "version-delete"})

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class RefusedError(Exception):
    """What a device sent ends its connection with this code."""

    def __init__(self, close_code: int, code: str, message: str) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.code = code
        self.message = message


class Device:
    """An authenticated connection: what is asked when an event arrives."""

    __slots__ = ("connection", "expires_at", "group", "user", "vaults")

    def __init__(self, connection: ServerConnection, user: str, group: str, expires_at: int) -> None:
        self.connection = connection
        self.user = user
        self.group = group
        self.expires_at = expires_at
        self.vaults: frozenset[str] = frozenset()


def is_id(value: Any) -> bool:
    """Whether this can be the id of a user, a group or a vault."""
    return isinstance(value, str) and 1 <= len(value) <= 128


def read_object(raw: str | bytes) -> dict[str, Any]:
    """A device's message as a dict."""
    if isinstance(raw, bytes):
        raise RefusedError(4400, "bad-message", "A message must be text.")
    try:
        message = decode(raw)
    except msgspec.DecodeError:
        message = None
    if not isinstance(message, dict):
        raise RefusedError(4400, "bad-message", "A message must be a JSON object.")
    return message


def read_vaults(vaults: Any) -> frozenset[str]:
    """The subscription that a device asks for."""
    if not isinstance(vaults, list) or len(vaults) > MAX_VAULTS or not all(map(is_id, vaults)):
        raise RefusedError(4400, "bad-message", "vaults must be a list of vault ids.")
    return frozenset(vaults)


def is_event(event: Any) -> bool:
    """Whether a publisher may send this."""
    if not isinstance(event, dict) or not is_id(event.get("user")):
        return False
    if "group" in event and not is_id(event["group"]):
        return False
    name = event.get("event")
    if name in USER_EVENTS:
        return "vault" not in event
    return (name in VAULT_EVENTS or name in DATA_EVENTS) and is_id(event.get("vault"))


def keeps_up(connection: ServerConnection) -> bool:
    """Whether the connection takes what it is sent; if not, it is cut off, as nobody may wait for it."""
    if connection.transport.get_write_buffer_size() <= SEND_BUFFER_BYTES:
        return True
    connection.transport.abort()
    return False


class Peer:
    """All connections, by user, and the two listeners' handlers."""

    auth_timeout: float | None = AUTH_TIMEOUT

    def __init__(self, secret: str, publisher_key: str) -> None:
        self.secret = secret.encode()
        self.authorization = f"Bearer {publisher_key}".encode()
        self.users: dict[str, set[Device]] = {}
        self.closing: set[asyncio.Task[None]] = set()
        self.epoch = secrets.token_urlsafe(9)
        self.position = 0

    # Devices

    async def handle(self, connection: ServerConnection) -> None:
        """One connection's life."""
        device: Device | None = None
        try:
            device = await self.admit(connection)
            async for raw in connection:
                await self.receive(device, read_object(raw))
        except RefusedError as refused:
            await connection.send(
                encode({"event": "error", "code": refused.code, "message": refused.message}), text=True
            )
            await connection.close(refused.close_code, refused.code)
        except TimeoutError:
            await connection.close(4408, "authentication-timeout")
        except ConnectionClosed:
            pass  # the device left
        finally:
            if device is not None:
                self.forget(device)

    async def admit(self, connection: ServerConnection) -> Device:
        """Wait for the first message; what it took is let go of when this returns."""
        async with asyncio.timeout(self.auth_timeout):
            first = await connection.recv()
        message = read_object(first)
        if message.get("event") != "authenticate":
            raise RefusedError(4401, "unauthorized", "The first message must be authenticate.")
        device = self.authenticate(connection, message)
        await self.acknowledge(device, message)
        self.users.setdefault(device.user, set()).add(device)
        return device

    async def receive(self, device: Device, message: dict[str, Any]) -> None:
        """A message on an authenticated connection."""
        name = message.get("event")
        if name == "authenticate":
            renewed = self.authenticate(device.connection, message)
            if renewed.user != device.user:
                raise RefusedError(4403, "forbidden", "A renewal must be for the same user.")
            device.group, device.expires_at = renewed.group, renewed.expires_at
            if "vaults" in message:
                device.vaults = renewed.vaults
            await self.acknowledge(device, message)
        elif name == "subscribe" or (name is None and "vaults" in message):
            device.vaults = read_vaults(message.get("vaults"))
            answer = {"event": "subscribed", "vaults": list(device.vaults)}
            if "id" in message:
                answer["id"] = message["id"]
            await device.connection.send(encode(answer), text=True)
        else:
            raise RefusedError(4400, "bad-message", "This event is not known.")

    def authenticate(self, connection: ServerConnection, message: dict[str, Any]) -> Device:
        """What the token of this message says."""
        try:
            claims = jwt.decode(
                message.get("token", ""),
                self.secret,
                algorithms=["HS256"],
                options={"require": ["exp", "sub"]},
            )
        except (jwt.InvalidTokenError, TypeError):
            raise RefusedError(4401, "unauthorized", "The token is not valid.") from None
        if not is_id(claims["sub"]) or not is_id(claims.get("gid")):
            raise RefusedError(4401, "unauthorized", "The token lacks a claim.")
        if claims.get("type", "accessToken") != "accessToken":
            raise RefusedError(4401, "unauthorized", "This is not an access token.")
        device = Device(connection, claims["sub"], claims["gid"], int(claims["exp"]))
        if "vaults" in message:
            device.vaults = read_vaults(message["vaults"])
        return device

    async def acknowledge(self, device: Device, message: dict[str, Any]) -> None:
        """Say what is now in force."""
        answer: dict[str, Any] = {
            "event": "authenticated",
            "user": device.user,
            "group": device.group,
            "expiresAt": device.expires_at,
            "vaults": list(device.vaults),
            "cursor": f"{self.epoch}.{self.position}",
        }
        if "id" in message:
            answer["id"] = message["id"]
        await device.connection.send(encode(answer), text=True)

    def forget(self, device: Device) -> None:
        """The connection is gone."""
        devices = self.users.get(device.user)
        if devices is not None:
            devices.discard(device)
            if not devices:
                del self.users[device.user]

    # Events

    def deliver(self, event: dict[str, Any]) -> None:
        """Give it a cursor, as long as the daemon's, and pass it on; nothing is kept."""
        self.position += 1
        self.tell_devices(event, f"{self.epoch}.{self.position}")

    def tell_devices(self, event: dict[str, Any], cursor: str) -> None:
        """Tell the devices that want it."""
        devices = self.users.get(event["user"])
        if not devices:
            return
        name, vault, group = event["event"], event.get("vault"), event.get("group")
        body = {"event": name, "data": event.get("data"), "cursor": cursor}
        if vault is not None:
            body["vault"] = vault
        is_data = name in DATA_EVENTS
        wanting = [
            device.connection
            for device in devices
            if (group is None or device.group != group)
            and (not is_data or vault in device.vaults)
            and keeps_up(device.connection)
        ]
        if wanting:
            broadcast(wanting, encode(body), text=True)
        if name == "vault-delete":
            for device in devices:
                device.vaults -= {vault}
        elif name == "user-delete":
            for device in devices:
                self.close_soon(device, 4403, "forbidden")

    async def publish(self, request: web.Request) -> web.Response:
        """`POST /v1/events`."""
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self.authorization):
            return failure(401, "unauthorized", "The publisher key is missing or wrong.")
        try:
            body = decode(await request.read())
        except msgspec.DecodeError:
            return failure(400, "not-json", "The body must be JSON.")
        events = body["events"] if isinstance(body, dict) and "events" in body else [body]
        if not isinstance(events, list) or len(events) > MAX_BATCH:
            return failure(422, "bad-event", "events must be a list of at most 1,000.")
        for index, event in enumerate(events):
            if not is_event(event):
                return failure(422, "bad-event", "This event cannot be.", {"index": index})
        for event in events:
            self.deliver(event)
        return answer_json(202, {"accepted": len(events)})

    async def sweep(self) -> None:
        """Close what has expired, once a second."""
        while True:
            await asyncio.sleep(1)
            now = time.time()
            expired = [
                device for devices in self.users.values() for device in devices if device.expires_at <= now
            ]
            for device in expired:
                self.close_soon(device, 4410, "token-expired")

    def close_soon(self, device: Device, close_code: int, reason: str) -> None:
        """Start the closing handshake of a device that nobody waits for."""
        task = asyncio.create_task(device.connection.close(close_code, reason))
        self.closing.add(task)
        task.add_done_callback(self.closing.discard)


def answer_json(status: int, body: dict[str, Any]) -> web.Response:
    """An HTTP answer of JSON."""
    return web.Response(status=status, body=encode(body), content_type="application/json")


def failure(
    status: int, identifier: str, message: str, context: dict[str, Any] | None = None
) -> web.Response:
    """An error in Localful's own shape."""
    body = {"statusCode": status, "identifier": identifier, "message": message, "context": context or {}}
    return answer_json(status, body)


async def healthy(_request: web.Request) -> web.Response:
    """`GET /healthz`."""
    return answer_json(200, {"status": "ok"})


def route(connection: ServerConnection, request: Request) -> Response | None:
    """Refuse every path but one."""
    if request.path.partition("?")[0] != PATH:
        return connection.respond(404, "There is nothing here.\n")
    return None


def say_where(listener: str, port: int) -> None:
    """One line for each listener, as the daemon writes it."""
    line = {"event": "listening", "listener": listener, "host": "127.0.0.1", "port": port}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


async def main(make_peer: Callable[[str, str], Peer] = Peer) -> None:
    """Serve until SIGTERM."""
    peer = make_peer(os.environ["LOCALFUL_WS_JWT_SECRET"], os.environ["LOCALFUL_WS_PUBLISHER_KEY"])
    ping_interval = float(os.environ.get("LOCALFUL_WS_PING_INTERVAL", "25")) or None
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes([web.post("/v1/events", peer.publish), web.get("/healthz", healthy)])
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=600)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say_where("internal", runner.addresses[0][1])

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(
        peer.handle,
        "127.0.0.1",
        0,
        process_request=route,
        subprotocols=[SUBPROTOCOL],
        select_subprotocol=lambda _connection, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,
        compression=None,
        max_size=MAX_MESSAGE,
        ping_interval=ping_interval,
        ping_timeout=20,
        backlog=BACKLOG,
    ) as server:
        say_where("websocket", next(iter(server.sockets)).getsockname()[1])
        sweeper = asyncio.create_task(peer.sweep())
        await stop.wait()
        sweeper.cancel()
        os._exit(0)  # what 10,000 goodbyes cost is not measured


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
