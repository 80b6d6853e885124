"""How large a run is: the sizes of a full run, of a quick one, and changes of single ones."""

from collections.abc import Iterable

import attrs
import msgspec

from benchmarks.rubbish import KINDS
from benchmarks.servers import open_files

RESERVED_FILES = 300
"""Open files that a server needs besides its connections; the daemon keeps 256 of them."""


@attrs.frozen
class Sizes:
    """How large a run is."""

    levels: tuple[int, ...] = (100, 1000, 5000, 10_000, 20_000)
    """Connections; cut to what the open-file limit allows."""
    level_events: int = 1000
    beyond: int = 5000
    """From this level to the highest, a further connect is given as one figure."""
    settle_seconds: float = 2.0
    fanout_devices: int = 2000
    fanout_single: int = 150
    fanout_bursts: int = 15
    burst: int = 20
    users: int = 4000
    user_batches: int = 100
    batch: int = 250
    single_users: int = 1000
    single_serial: int = 4000
    single_together: int = 15_000
    """Takes some seconds, and stays below `delivery_timeout` where only 500 a second get through."""
    latency_idle: int = 5000
    latency_rate: int = 200
    latency_seconds: float = 25.0
    storm_devices: int = 5000
    storm_rate: int = 200
    storm_calm_seconds: float = 3.0
    load_users: int = 1000
    load_single: int = 4000
    load_batches: int = 300
    load_batch: int = 50
    load_rate: int = 1500
    """Events a second, one request each: more than one process takes through Redis."""
    load_seconds: float = 5.0
    others_devices: int = 1000
    others_rate: int = 50
    others_rates: tuple[int, ...] = (0, 200, 2000)
    """Events a second that another node publishes for users that the measured one doesn't have."""
    others_batch: int = 20
    others_seconds: float = 8.0
    resume_devices: int = 1000
    resume_missed: int = 20
    ping_devices: int = 2000
    ping_interval: float = 1.0
    """In whole seconds, or nchan can't be told."""
    ping_seconds: float = 10.0
    crowd_devices: int = 150_000
    crowd_window: int = 2000
    """How many devices of each process connect at the same time; a listener's queue holds 4,096."""
    crowd_rate: int = 100
    crowd_seconds: float = 20.0
    abuse_sockets: int = 400
    abuse_kinds: tuple[str, ...] = KINDS
    abuse_rate: int = 20
    abuse_least_seconds: float = 5.0
    """Each kind is watched so long, even if all sockets are closed sooner."""
    abuse_seconds: float = 15.0
    """Bounds the wait until all sockets are closed."""
    abuse_silent: int = 900
    """Devices that resume and never read."""
    abuse_silent_users: int = 12
    abuse_history: int = 500
    """Events that each of their users has missed; with their bytes below what one device is given at once."""
    abuse_event_bytes: int = 6500
    abuse_silent_seconds: float = 20.0
    soak_seconds: float = 7200.0
    soak_users: int = 100
    soak_rate: int = 200
    soak_most_bytes: int = 2000
    soak_churn: int = 20
    """Connections a second that come, and as many that go."""
    soak_stay: int = 200
    """How many of those are there at the same time."""
    soak_sample_seconds: float = 10.0
    soak_settled_seconds: float = 600.0
    leak_connects: int = 100_000
    leak_devices: int = 1000
    connect_timeout: float = 90.0
    """Bounds every wait for connections."""
    delivery_timeout: float = 30.0
    """Bounds every wait for what was published to be delivered."""

    def reachable_levels(self, limit: int) -> tuple[int, ...]:
        """The levels that fit, the last one cut to what the open-file limit and `limit` allow."""
        most = min(open_files() - RESERVED_FILES, limit)
        return tuple(sorted({min(level, most) for level in self.levels}))

    def changed(self, changes: Iterable[str]) -> "Sizes":
        """The same with some sizes changed.

        Args:
            changes: Each NAME=VALUE; a size that is several is separated by commas.

        Raises:
            ValueError: There is no such size, or it can't be that.
        """
        values: dict[str, object] = attrs.asdict(self)
        for change in changes:
            name, _equals, value = change.partition("=")
            if name not in values:
                raise ValueError(f"there is no size {name}; there are {', '.join(values)}")
            values[name] = value.split(",") if isinstance(values[name], tuple) else value
        try:
            return msgspec.convert(values, Sizes, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None


QUICK = Sizes(
    levels=(50, 200, 400),
    level_events=40,
    beyond=200,
    settle_seconds=0.3,
    fanout_devices=100,
    fanout_single=20,
    fanout_bursts=4,
    users=100,
    user_batches=4,
    batch=50,
    single_users=100,
    single_serial=200,
    single_together=400,
    latency_idle=200,
    latency_seconds=2.0,
    storm_devices=200,
    storm_calm_seconds=1.0,
    load_users=100,
    load_single=100,
    load_batches=10,
    load_batch=20,
    load_rate=200,
    load_seconds=1.0,
    others_devices=50,
    others_rates=(0, 40, 200),
    others_seconds=1.0,
    resume_devices=50,
    resume_missed=5,
    ping_devices=100,
    ping_seconds=4.0,
    crowd_devices=600,
    crowd_window=50,
    crowd_seconds=2.0,
    abuse_sockets=20,
    abuse_kinds=("one-byte-fragments", "pings", "tls-hello"),
    abuse_least_seconds=2.0,
    abuse_silent=30,
    abuse_silent_users=2,
    abuse_history=100,
    abuse_silent_seconds=2.0,
    soak_seconds=6.0,
    soak_users=10,
    soak_stay=20,
    soak_sample_seconds=1.0,
    soak_settled_seconds=2.0,
    leak_connects=500,
    leak_devices=50,
    connect_timeout=20.0,
)
