"""Every backend is named once, in order of preference, and none is loaded before it is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from engines.backends.registry import all_backends, choosable
from engines.backends.trt.request import HIGHEST_LEVEL
from engines.cache import BuildCache

CPU = ("torch-compiled", "ort", "torch-prepared", "torch")
CUDA = ("tensorrt", "torch-compiled", "ort-tensorrt", "ort", "torch")


@pytest.mark.parametrize(("device", "names"), [("cpu", CPU), ("cuda", CUDA)])
def test_order_of_preference(tmp_path, device, names):
    """Each answers to its probe with a reason or with what it offers, whatever is installed."""
    backends = all_backends(BuildCache(tmp_path), device)
    assert tuple(backend.name for backend in backends if backend.name in names) == names
    assert len({backend.name for backend in backends}) == len(backends)
    for backend in backends:
        capability = backend.probe()
        assert capability.backend == backend.name
        assert capability.usable == bool(capability.reason is None and capability.precisions)


def test_auto_does_not_compile_for_a_cpu(tmp_path):
    """By its name it can be had all the same, and on a GPU it is among the first."""
    names = {
        (wanted, device): [each.name for each in choosable(wanted, BuildCache(tmp_path), device)]
        for wanted in ("auto", "torch-compiled")
        for device in ("cpu", "cuda")
    }
    assert "torch-compiled" not in names["auto", "cpu"]
    assert all("torch-compiled" in found for key, found in names.items() if key != ("auto", "cpu"))


def test_most_raises_the_level_of_tensorrt(tmp_path):
    levels = [all_backends(BuildCache(tmp_path), "cuda", most=most)[0].options.level for most in (False, True)]
    assert levels[0] < levels[1] == HIGHEST_LEVEL


def test_asking_for_backends_loads_no_vendor():
    """Nor does importing pipelines and builds: libraries that one backend or one file format needs come late."""
    code = (
        "import sys, engines.pipeline, engines.build; from engines.backends.registry import all_backends; from engines.cache import BuildCache; from pathlib import Path; "
        "all_backends(BuildCache(Path('unused')), 'cuda'); "
        "print({'onnxruntime', 'onnx', 'tensorrt', 'diffusers', 'transformers', 'triton'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "set()\n"
