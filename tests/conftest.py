"""Fixtures shared by all tests; each family lives in its own module."""

import os
import signal

import pytest

pytest_plugins = ["tests.fixtures.mlserver", "tests.fixtures.triton"]

# A shell that starts the tests in the background has this signal ignored, and every process that a test interrupts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Long versions only when they are asked for, so that the suite ends in time on two cores."""
    if item.get_closest_marker("long") and not os.environ.get("AUDIT_PLUGIN_LONG"):
        pytest.skip("a shorter test shows the same; AUDIT_PLUGIN_LONG=1 runs it")
