"""The command line (README, "Commands"): one module a command, and `main`, which is all of them."""

from localful_ws.cli.group import main

__all__ = ["main"]
