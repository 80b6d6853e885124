"""One day of many devices that behave as people's do: they come in the morning, and lose their connection."""

from attrs import evolve

from .network import NetworkPlan
from .plan import Plan, make_plan
from .run import Outcome, run_seed

DEVICES = 500
_DAY = 86_400.0
_USERS = 200


def day_plan(
    seed: int = 0, *, seconds: float = _DAY, devices: int = DEVICES, ping_interval: float = 120.0
) -> Plan:
    """A day's world: one node with its default settings, 500 devices of 200 users."""
    return evolve(
        make_plan(seed),
        engine="memory",
        nodes=1,
        users=_USERS,
        devices=devices,
        clients=0,
        publishers=4,
        vaults=3,
        groups=3,
        seconds=seconds,
        pace=1 / 60,
        batch=5,
        big=0.01,
        settings={"ping_interval": ping_interval},
        # What happens at about the same time happens together, which is what makes a day short.
        network=NetworkPlan(delay=(0.05, 0.05), tick=1.0),
        grid=10.0,
        away=7200.0,
        look_every=60.0,
        beginnings={"prompt": 97.0, "header": 2.0, "never": 0.5, "bad-token": 0.5},
        # So often an hour: this is given by the minute.
        deeds={
            "subscribe": 2 / 60,
            "close": 1.0 / 60,
            "reset": 0.2 / 60,
            "dark": 0.05 / 60,
            "stall": 0.05 / 60,
        },
        blows={"drain": 1 / 720, "disconnect-login": 4 / 60, "disconnect-user": 1 / 60, "redis-stall": 1e-9},
        ttl=(1800.0, 7200.0),
    )


def simulate_day() -> Outcome:
    """Live through it."""
    return run_seed(0, plan=day_plan())
