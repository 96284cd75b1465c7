"""Fixtures shared by all tests; each family lives in its own module."""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.fixtures.mlserver", "tests.fixtures.scheduling", "tests.fixtures.triton"]

# A shell that starts the tests in the background has this signal ignored, and every process that a test interrupts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


KERNELS = "TORCHINDUCTOR_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """What torch compiles in one test serves all others, of all workers: the compiler's headers alone take many seconds."""
    if KERNELS not in os.environ:
        folder = os.environ[KERNELS] = tempfile.mkdtemp(prefix="kernels-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Libraries and collected tests stay, millions of objects: no search for garbage during a test needs to look at them again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
