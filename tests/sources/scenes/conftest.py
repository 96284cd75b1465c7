"""One scene by level names."""

import numpy as np
import pytest

from audit_plugin.sources.scenes import CONCEPTS, render

PLAIN = {
    "shape": "circle", "colour": "red", "size": "large", "background": "grass", "ruler": "absent", "snowman": "absent",
    "lighting": "bright",
}  # fmt: skip


@pytest.fixture
def scene():
    def draw(seed, **levels):
        said = PLAIN | levels
        return render(seed, [concept.levels.index(said[concept.name]) for concept in CONCEPTS])

    return draw


@pytest.fixture
def behind(scene):
    """Pixels that four backgrounds leave alike, so something stands in front of them."""

    def mask(seed, **levels):
        walls = np.stack([scene(seed, **levels, background=wall) for wall in ("grass", "water", "sand", "brick")])
        return (walls == walls[:1]).all(axis=(0, 3))

    return mask


@pytest.fixture
def differ():
    def mask(a, b):
        return (a != b).any(axis=-1)

    return mask
