"""The shipped generator on a GPU: the same pictures as on the CPU, alone and in any company."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engines.pipeline import load_pipeline

GENERATOR = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"
CAPTION = "a small blue triangle on sand beside a snowman in dim light"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """Eight pictures drawn by torch float32 on the CPU."""
    return load_pipeline(GENERATOR, backend="torch").generate([CAPTION] * 8, range(8))


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("fp16", 2e-2), ("bf16", 1e-1)])
def test_gpu_pictures_equal_cpu_pictures(reference: np.ndarray, precision: str, bound: float) -> None:
    """Whole pictures agree within the precision's bound, relative to their norm."""
    drawn = load_pipeline(GENERATOR, backend="torch", device="cuda", precision=precision).generate([CAPTION] * 8, range(8))
    assert np.linalg.norm(drawn - reference) / np.linalg.norm(reference) < bound


def test_gpu_pictures_do_not_depend_on_their_batch() -> None:
    """A seed gives the same picture alone and among others."""
    pipeline = load_pipeline(GENERATOR, backend="torch", device="cuda")
    together, alone = pipeline.generate([CAPTION] * 8, range(8)), pipeline.generate([CAPTION], [5])
    assert np.abs(together[5] - alone[0]).max() < 2e-3
