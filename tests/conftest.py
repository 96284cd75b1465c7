"""Fixtures shared by all tests; each family lives in its own module."""

import signal

pytest_plugins = ["tests.fixtures.mlserver", "tests.fixtures.triton"]

# A shell that starts the tests in the background has this signal ignored, and every process that a test interrupts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
