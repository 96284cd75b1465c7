"""Where there is no driver, asking for TensorRT ends with a reason, never with the process.

TensorRT's libraries cannot be had everywhere, its bindings can: with libraries of ours that export the few functions they need, the
real bindings are imported, and their runtime is as dead as it is without a driver.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engines.driver import cuda_driver
from tests.engines.trt import tables

WHEELS = os.environ.get("AUDIT_PLUGIN_TENSORRT_WHEELS", "")
FULL = [(path, major) for path, major, lean in tables.wheels(WHEELS or "absent") if not lean]

without_driver = pytest.mark.skipif(cuda_driver() is None, reason="this machine has a CUDA driver")
with_bindings = [
    pytest.mark.skipif(
        not FULL, reason="set AUDIT_PLUGIN_TENSORRT_WHEELS to a folder of bindings wheels; tables.py says how to fill it"
    ),
    pytest.mark.skipif(not all(map(shutil.which, ("gcc", "nm", "readelf"))), reason="needs gcc and binutils"),
]

PROBE = """
import sys
from pathlib import Path
from engines.backends.trt.backend import TensorrtBackend
from engines.cache import BuildCache
print(TensorrtBackend(BuildCache(Path("none"))).probe().reason)
print(sorted(name for name in sys.modules if "tensorrt" in name))
"""

PRETEND = """
from pathlib import Path
from engines.backends.trt.backend import TensorrtBackend, Ways
from engines.cache import BuildCache
from tests.engines.trt.host import HostDevice
backend = TensorrtBackend(BuildCache(Path("none")), HostDevice(), ways=Ways(driver=lambda: None))
print(backend._found)
"""


def run(code, environment=None):
    """(exit code, output) of a Python process that can import what we can."""
    path = os.pathsep.join(
        [*(environment or {}).get("PYTHONPATH", "").split(os.pathsep), *(each or str(Path.cwd()) for each in sys.path)]
    )
    env = {**os.environ, **(environment or {}), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr[-500:]


@pytest.fixture(params=FULL or [(None, 0)], ids=lambda each: f"bindings-{each[1]}")
def bindings(request, tmp_path):
    """Environment of a process that can import the real bindings, over functions that answer as asked."""

    def bindings(body):
        tables.unpacked(request.param[0], tmp_path, body)
        return tables.environment(tmp_path)

    return bindings


@without_driver
def test_without_a_driver_tensorrt_is_unavailable():
    """A value, exit code 0, no signal."""
    code, said = run(PROBE)
    assert code == 0, said
    assert "driver" in said.splitlines()[0]
    assert said.splitlines()[1] == "[]"


class TestRealBindings:
    """With the vendor's own module."""

    pytestmark = with_bindings

    @without_driver
    def test_without_a_driver_they_are_not_imported(self, bindings):
        """Although they could be."""
        environment = bindings(tables.DEAD)
        assert run("import tensorrt_bindings", environment)[0] == 0
        code, said = run(PROBE, environment)
        assert (code, said.splitlines()[1]) == (0, "[]"), said

    def test_they_have_every_name_we_touch(self, bindings):
        """The module is found and accepted; only its runtime does not start, and that is told as a value."""
        code, said = run(PRETEND, bindings(tables.NULL))
        assert code == 0, said
        assert (
            "tensorrt_bindings does not start: exit code 1: TypeError: pybind11::init(): factory function returned nullptr" in said
        )

    def test_a_dead_runtime_ends_its_trial_and_not_us(self, bindings):
        """What the trial is for: the same two lines in our own process would be its last."""
        environment = bindings(tables.DEAD)
        own, _ = run("import tensorrt_bindings as t; t.Runtime(t.Logger()).deserialize_cuda_engine(b'x')", environment)
        assert own < 0
        code, said = run(PRETEND, environment)
        assert code == 0, said
        assert "tensorrt_bindings does not start: ended by SIG" in said

    def test_our_logger_is_one_to_them(self, bindings):
        """A subclass of the real class hears also what is sent from the other side."""
        code = """
import tensorrt_bindings as trt
from engines.backends.trt.messages import listener
heard = listener(trt)
assert isinstance(heard, trt.ILogger)
trt.ILogger.log(heard, trt.ILogger.ERROR, "no kernel")
heard.log(trt.ILogger.ERROR, "no memory")
heard.log(trt.ILogger.WARNING, "slow")
print(list(heard.errors))
"""
        assert "['no kernel', 'no memory']" in run(code, bindings(tables.NULL))[1]

    def test_types_and_weights_are_real(self, bindings):
        """What is made without a device: our table of types, and a pointer to weights."""
        code = """
import tensorrt_bindings as trt
import torch
from engines.backends.trt.opening import torch_types
value = torch.arange(3, dtype=torch.bfloat16)
weights = trt.Weights(trt.DataType.BF16, value.data_ptr(), value.numel())
print(torch_types(trt)[weights.dtype], weights.size, weights.nbytes, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
"""
        said = run(code, bindings(tables.NULL))[1]
        assert said.strip() in {"torch.bfloat16 3 6 2", "torch.bfloat16 3 6 1"}  # 10, 11: the flag before this one is gone


def test_the_builder_process_brings_no_torch():
    """It would cost seconds and memory that the build needs."""
    code, said = run("import sys, engines.backends.trt.child; print('torch' in sys.modules)")
    assert (code, said.strip()) == (0, "False"), said
