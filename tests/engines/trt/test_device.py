"""What can be said of the CUDA device without one."""

import pytest
import torch

from engines.backends.trt.device import CudaDevice, Facts, visible


def test_torch_without_cuda_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "install a build of torch for CUDA" in CudaDevice().unavailable()


def test_a_device_too_many_is_a_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert CudaDevice("cuda:1").unavailable() is None
    assert "there are 2 devices" in CudaDevice("cuda:2").unavailable()


@pytest.mark.parametrize(
    ("index", "chosen", "name"), [(0, None, "0"), (1, "", "1"), (1, "2, 3", "3"), (0, "GPU-77ab", "GPU-77ab"), (2, "5", "2")]
)
def test_a_child_sees_the_same_device(index, chosen, name):
    assert visible(index, chosen) == name


def test_facts_are_text():
    assert Facts("NVIDIA H200", (9, 0), 132, "13.0").note() == {
        "name": "NVIDIA H200",
        "capability": "9.0",
        "multiprocessors": "132",
        "cuda": "13.0",
    }
