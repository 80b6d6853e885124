"""What ``localful-ws check`` looks at, each part in a module of its own.

A check does no harm to what runs: it reads, opens and closes, and in Redis writes keys of its own that lapse.
Each has bounded time, and tells what it found as a `Finding`.
"""

from localful_ws.checks.finding import Finding, Outcome, failed, ok, warning
from localful_ws.checks.run import CheckOptions, run_checks

__all__ = ["CheckOptions", "Finding", "Outcome", "failed", "ok", "run_checks", "warning"]
