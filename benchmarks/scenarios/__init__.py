"""What is measured: each scenario runs against one server and returns its figures."""

from benchmarks.scenarios import connections, fanout, latency, load, others, resume, storm, users
from benchmarks.scenarios.common import Scenario

SCENARIOS: dict[str, Scenario] = {
    "connections": connections.run,
    "fanout": fanout.run,
    "users": users.run,
    "latency": latency.run,
    "storm": storm.run,
    "load": load.run,
    "others": others.run,
    "resume": resume.run,
}
