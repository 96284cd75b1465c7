"""The TensorRT provider, as far as it can be judged without TensorRT."""

from dataclasses import replace

import pytest

from engines.backends.ort import OrtTensorrtBackend
from engines.backends.ort.provider import LIBRARY, check_placement, tensorrt_missing
from engines.cache import BuildCache
from engines.errors import BackendUnavailableError
from tests.engines.conformance.networks import make_cases
from tests.engines.ort.test_elf import crafted

SPEC = make_cases()["forward"].spec


def lacking(*absent):
    def load(name):
        if name in absent:
            raise OSError(name)

    return load


@pytest.mark.parametrize(
    ("absent", "reason"),
    [((), None), (("libcudart.so.13",), None), (("libnvinfer.so.10",), "needs libnvinfer.so.10, which the loader does not find")],
)
def test_the_library_says_which_tensorrt_it_needs(tmp_path, absent, reason):
    """Its own requirement is read, whatever the release; other libraries are not our business."""
    (tmp_path / LIBRARY).write_bytes(crafted())
    found = tensorrt_missing(tmp_path, lacking(*absent))
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(("content", "reason"), [(None, "install onnxruntime-gpu"), (b"damaged", "cannot be read")])
def test_a_missing_or_damaged_library_is_a_reason(tmp_path, content, reason):
    if content is not None:
        (tmp_path / LIBRARY).write_bytes(content)
    assert reason in tensorrt_missing(tmp_path, lacking())


def test_without_it_the_backend_declines(tmp_path):
    """With a reason, and before anything of TensorRT is loaded."""
    backend = OrtTensorrtBackend(BuildCache(tmp_path))
    if backend.probe().usable:
        pytest.skip("TensorRT can be used here")
    assert backend.unusable(SPEC)
    assert "not on 'cpu'" in replace(backend, device="cpu").unusable(SPEC)


def test_a_session_that_fell_apart_is_refused():
    """More than one node in a hundred elsewhere, and TensorRT is not what was measured."""
    check_placement(0.01, SPEC, "ort-tensorrt")
    with pytest.raises(BackendUnavailableError, match="2% of the nodes of 'forward'"):
        check_placement(0.02, SPEC, "ort-tensorrt")
