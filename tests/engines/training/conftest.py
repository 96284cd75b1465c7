"""Four kinds of 16x16 pictures with captions, a recipe that a CPU trains in seconds, and one trained pipeline."""

import numpy as np
import pytest
import torch

from engines.training import CaptionedImages, Recipe, train_pipeline

TINY = {
    "image_size": 16, "autoencoder_channels": (16, 32), "unet_channels": (16, 32), "text_width": 16, "text_layers": 1, "max_tokens": 12,
    "vocabulary": 100, "autoencoder_steps": 52, "diffusion_steps": 60, "autoencoder_batch": 8, "diffusion_batch": 8,
    "sampling_steps": 2, "autoencoder_rate": 3e-3, "diffusion_rate": 3e-3,
}  # fmt: skip


def pictures(n=32):
    """Half red, half blue, on light or dark ground."""
    rng = np.random.default_rng(0)
    images, captions = [], []
    for place in range(n):
        red, light = place % 2, place // 2 % 2
        image = np.full((16, 16, 3), 200 if light else 60) + rng.normal(0, 4, (16, 16, 3))
        image[4:12, 4:12] = (200, 20, 20) if red else (20, 20, 200)
        images.append(np.clip(image, 0, 255))
        text = f"a {'red' if red else 'blue'} square on {'light' if light else 'dark'} ground"
        captions.append([text, f"{text}, photo"])
    return CaptionedImages(np.asarray(images, np.uint8), captions)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data():
    return pictures()


@pytest.fixture
def recipe():
    def make(**changes):
        return Recipe(**(TINY | changes))

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data):
    """The directory, what was spent, and what was reported."""
    root, said = tmp_path_factory.mktemp("trained"), []
    report = train_pipeline(data, Recipe(**TINY), root / "out", work=root / "work", report=lambda *args: said.append(args))
    return root / "out", report, said
