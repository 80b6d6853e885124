"""What is measured: each scenario runs against one server and returns its figures."""

from benchmarks.scenarios import connections, fanout, latency, storm, users
from benchmarks.scenarios.common import Scenario

SCENARIOS: dict[str, Scenario] = {
    "connections": connections.run,
    "fanout": fanout.run,
    "users": users.run,
    "latency": latency.run,
    "storm": storm.run,
}
