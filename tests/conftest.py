"""Fixtures shared by all tests; each family lives in its own module."""

pytest_plugins = ["tests.fixtures.mlserver", "tests.fixtures.triton"]
