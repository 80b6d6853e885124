"""Programs beside Python that some tests need."""

import os
import shutil

import pytest


def find_program(name: str) -> str:
    """Find a program.

    Without it the test that asks is skipped; if the environment says CI or LOCALFUL_WS_REQUIRE_<NAME>, it
    fails.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    sentence = f"there is no {name} on the PATH (.ci/services installs it)"
    variable = f"LOCALFUL_WS_REQUIRE_{name.upper().replace('-', '_')}"
    if os.environ.get("CI") or os.environ.get(variable):
        pytest.fail(sentence)
    pytest.skip(sentence)
