"""A pytest plugin for runs in which the code under test is a mutant."""

import os

import hypothesis
import pytest

from localful_ws.protocol import codec
from localful_ws.tokens import signatures

# The same examples for every mutant, and none saved. A failure is enough: nobody reads the smallest one.
hypothesis.settings.register_profile(
    "mutants",
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.load_profile("mutants")


_SUSPICIOUS = 35
"""What mutmut takes for neither killed nor survived."""


def pytest_sessionfinish(exitstatus: int) -> None:
    """If the tests that mutmut names are not there, the mutant is not killed, as mutmut would have it."""
    if exitstatus == pytest.ExitCode.USAGE_ERROR and "__mutmut_" in os.environ.get("MUTANT_UNDER_TEST", ""):
        os._exit(_SUSPICIOUS)


@pytest.fixture(autouse=True)
def _made_by_the_mutant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutants are chosen when a function is called, and these were called when their module was imported."""
    if "codec" in request.node.nodeid:
        monkeypatch.setattr(codec, "_converter", codec._make_converter())
    if "tokens/" in request.node.nodeid:
        monkeypatch.setattr(signatures, "_jws", signatures._make_jws())
