"""Every family of pipelines on a GPU: the pictures and the gradients of the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engines.noise import start_noise
from engines.pipeline import Pipeline, load_pipeline
from tests.engines.pipelines import miniatures

ASKED = {
    "stable_diffusion_2": ["a red circle", "a photo"],
    "stable_diffusion_xl": ["a red circle", "a photo"],
    "latent_consistency": ["a red circle", "a photo"],
    "stable_diffusion_3": ["a red circle", "a photo"],
    "dit": [1, 999],
    "ddpm": None,
}
SEEDS = [5, 2**63 + 1]

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


@pytest.mark.parametrize("name", ASKED)
def test_a_gpu_draws_what_a_cpu_draws(tmp_path: Path, name: str) -> None:
    """In fp32, by torch; stochastic samplers get the same noise."""
    directory = miniatures.save(getattr(miniatures, name), tmp_path)
    there, here = (load_pipeline(directory, backend="torch", device=device, steps=3) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there.generate(ASKED[name], SEEDS), here.generate(ASKED[name], SEEDS), atol=2e-3)


def test_gradients_are_those_of_the_cpu(tmp_path: Path) -> None:
    """Through the network, row by row."""
    directory = miniatures.save(miniatures.stable_diffusion_2, tmp_path)
    there, here = (_gradient(load_pipeline(directory, backend="torch", device=device)) for device in ("cuda", "cpu"))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-2, atol=1e-4)


def test_the_decoder_of_xl_stays_in_full_precision(tmp_path: Path) -> None:
    """Where the autoencoder says that it overflows in fp16."""
    directory = miniatures.save(miniatures.stable_diffusion_xl, tmp_path)
    pipeline = load_pipeline(directory, backend="torch", device="cuda", precision="fp16", steps=2)
    assert [engine.spec.precision for engine in pipeline.engines] == ["fp16", "fp32"]
    assert np.isfinite(pipeline.generate(["a photo"], [1])).all()


def _gradient(pipeline: Pipeline) -> torch.Tensor:
    ours = pipeline.diffusion.judged(lambda clean, target: (clean - target).square().mean((1, 2, 3)))
    x, target = (start_noise(seeds, pipeline.latent_shape).to(pipeline.device) for seeds in ([1, 2], [3, 4]))
    weight = torch.tensor([1.0, 2.0], device=pipeline.device)
    return ours.guided(x, [300, 700], pipeline.told(["a photo", "a circle"]), target, weight).grad
