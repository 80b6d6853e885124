"""The demo itself: a daemon, three devices, a publisher, and a check of who got what."""

import signal
from collections.abc import AsyncIterator, Sequence

import click
import httpx
import trio
from attrs import define

from localful_ws.demo import by_hand, screen
from localful_ws.demo.daemon import PUBLISHER_KEY, SERVE, DaemonProcess, running_daemon
from localful_ws.demo.devices import DemoDevice
from localful_ws.demo.errors import DemoError
from localful_ws.demo.story import ACTORS, SAMPLE, SCENES, Change, Fate, changes
from localful_ws.protocol import CloseCode

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REQUEST_SECONDS = 10.0


async def play(*, keep: bool = False, command: Sequence[str] = SERVE) -> None:
    """Play the demo.

    Args:
        keep: Whether to keep the daemon running until a signal comes.
        command: What starts the daemon.

    Raises:
        DemoError: If something did not go as it should.
        click.Abort: If a signal ended it early.
    """
    with trio.open_signal_receiver(*_SIGNALS) as signals, trio.CancelScope() as performance:
        interruption = _Interruption(performance)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interruption.watch, signals)
            async with running_daemon(command) as daemon:
                devices = await _perform(daemon, nursery)
                if keep:
                    _explain("Go on by hand: the daemon keeps running until Ctrl-C", daemon)
                    with trio.CancelScope() as interruption.scope:
                        await trio.sleep_forever()
                await _end(daemon, devices[-1])
            nursery.cancel_scope.cancel()
        if not keep:
            _explain("Go on by hand")
    if performance.cancelled_caught:
        raise click.Abort


@define
class _Interruption:
    """What a signal ends.

    Attributes:
        scope: What it ends now.
    """

    scope: trio.CancelScope

    async def watch(self, signals: AsyncIterator[int]) -> None:
        """End it at every signal."""
        async for _ in signals:
            self.scope.cancel()


async def _perform(daemon: DaemonProcess, nursery: trio.Nursery) -> list[DemoDevice]:
    url, api = daemon.websocket_url, daemon.internal_url
    screen.title("A real daemon, with made-up secrets")
    screen.fact("process", str(daemon.pid))
    screen.fact("devices", url)
    screen.fact("publishers", f"{api}/v1/events")

    screen.title("Three devices of two users connect and subscribe")
    devices = [DemoDevice(actor) for actor in ACTORS]
    for device in devices:
        await nursery.start(device.run, url)
        actor = device.actor
        screen.fact(actor.name, f"user {actor.user}", f"group {actor.group:<11}", " ".join(actor.vaults))
    screen.aside(
        "The vault notes is Ada's. Bob's tablet may ask for it all the same, and will get nothing of it."
    )

    published = changes()
    screen.title(f"{len(published)} events are published over HTTP")
    await _publish(api, published)
    screen.json_lines("published", SAMPLE.published())
    screen.json_lines("delivered", SAMPLE.delivered())

    laptop, phone, tablet = devices
    endings = [(device, await device.wait_ended()) for device in (laptop, phone)]
    await tablet.catch_up()
    screen.title("Who got what")
    _show(devices)
    check(devices)
    screen.line()
    for device, (code, reason) in endings:
        screen.fact(device.actor.name, f"closed with {code} {reason}: its user is deleted")
        if code != CloseCode.FORBIDDEN:
            raise DemoError(f"{device.actor.name} should have been closed with 4403, not {code}.")
    screen.fact(tablet.actor.name, "stays connected")
    screen.good("Every device got what it should, in order, and nothing else.")
    return devices


async def _publish(api: str, published: Sequence[Change]) -> None:
    headers = {"Authorization": f"Bearer {PUBLISHER_KEY}"}
    try:
        async with httpx.AsyncClient(
            base_url=api, headers=headers, timeout=_REQUEST_SECONDS, trust_env=False
        ) as client:
            for change in published:
                response = await client.post("/v1/events", json=change.published())
                if response.status_code != 202:
                    raise DemoError(
                        f"{change.event.value} was not accepted: HTTP {response.status_code} {response.text}"
                    )
    except httpx.HTTPError as error:
        raise DemoError(f"The events could not be published: {error}") from None


def _show(devices: Sequence[DemoDevice]) -> None:
    screen.heading()
    for scene in SCENES:
        screen.scene(scene)
        for change in scene.changes:
            screen.row(change, [change.delivered() in device.received for device in devices])


def check(devices: Sequence[DemoDevice]) -> None:
    """See that each device got exactly what it should, in order.

    Raises:
        DemoError: If one did not.
    """
    for index, device in enumerate(devices):
        wanted = [change.delivered() for change in changes() if change.fates[index] is Fate.RECEIVED]
        if device.received == wanted:
            continue
        missing = [event["event"] for event in wanted if event not in device.received]
        surplus = [event["event"] for event in device.received if event not in wanted]
        complaints = [
            *([f"did not get {', '.join(missing)}"] if missing else []),
            *([f"got {', '.join(surplus)}, which is not for it"] if surplus else []),
        ]
        complaint = " and ".join(complaints) or "got its events in another order, or some of them twice"
        raise DemoError(f"{device.actor.name} {complaint}.")


async def _end(daemon: DaemonProcess, last: DemoDevice) -> None:
    screen.title("SIGTERM: the daemon says goodbye")
    status = await daemon.stop()
    code, reason = await last.wait_ended()
    screen.fact(last.actor.name, f"closed with {code} {reason}: come back later")
    screen.fact("the daemon", f"ended with exit status {status}")
    if code != CloseCode.SERVER_SHUTDOWN:
        raise DemoError(f"{last.actor.name} should have been closed with 1001, not {code}.")
    if status != 0:
        raise DemoError(f"The daemon should have ended with exit status 0, not {status}.")


def _explain(title: str, daemon: DaemonProcess | None = None) -> None:
    screen.title(title)
    for step in by_hand.steps(by_hand.program_here(), daemon):
        screen.line(step.what)
        for command in step.commands:
            screen.command(command)
    screen.aside("The README goes on from here: a browser, Python, curl, settings, proxies.")
