"""A daemon for the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.process import DaemonProcess


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """One daemon; it must be ready at the end."""
    with DaemonProcess() as daemon:
        yield daemon
        assert daemon.http.get("/readyz").status_code == 200
