"""Fine-tuning on a GPU: half-precision arithmetic, checkpointed gradients, and what is written is what a CPU reads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engines.pipeline import load_pipeline
from engines.training import CaptionedImages, LoraRecipe, TrainingError, train_lora

GENERATOR = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


@pytest.fixture(scope="module")
def data() -> CaptionedImages:
    """Noise on two grounds, in words of the shipped generator."""
    rng = np.random.default_rng(0)
    images = rng.normal(0, 20, (16, 64, 64, 3)) + np.where(np.arange(16) % 2, 60, 200)[:, None, None, None]
    return CaptionedImages(np.clip(images, 0, 255).astype(np.uint8), [["a photo on sand"], ["a photo on grass"]] * 8)


def adapter(out: Path) -> torch.Tensor:
    """All factors in one row."""
    return torch.cat(
        [value.flatten() for _, value in sorted(load_file(out / "adapter" / "pytorch_lora_weights.safetensors").items())]
    )


def test_half_precision_comes_near_single(data: CaptionedImages, tmp_path: Path) -> None:
    """Twenty steps by each; the adapters themselves are float32 in both."""
    found = {}
    for precision in ("bf16", "fp32"):
        recipe = LoraRecipe(steps=20, rank=4, learning_rate=1e-3, precision=precision)
        train_lora(data, GENERATOR, recipe, tmp_path / precision, work=tmp_path / f"{precision}.work", device="cuda")
        found[precision] = adapter(tmp_path / precision)
    assert found["bf16"].dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(found["bf16"], found["fp32"], dim=0) > 0.99


def test_what_a_gpu_trained_a_cpu_draws(data: CaptionedImages, tmp_path: Path) -> None:
    """With text encoders adapted and gradients checkpointed, as is usual there."""
    recipe = LoraRecipe(steps=5, rank=4, text_encoder=True, mirror=True, ema_decay=0.9)
    report = train_lora(data, GENERATOR, recipe, tmp_path / "out", work=tmp_path / "work", device="cuda")
    assert np.isfinite(report.spent.loss)
    assert load_pipeline(tmp_path / "out", backend="torch").generate(["a photo on sand"], [0]).shape == (1, 3, 64, 64)


def test_a_device_that_is_too_small_is_said(data: CaptionedImages, tmp_path: Path) -> None:
    """By what to lower."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        with pytest.raises(TrainingError, match="too little memory"):
            train_lora(data, GENERATOR, LoraRecipe(batch=4096), tmp_path / "out", work=tmp_path / "work", device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
