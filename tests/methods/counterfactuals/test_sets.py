"""Counterfactuals as a set: by which features, over which images, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.methods.counterfactuals.sets import Networks, set_figures
from audit_plugin.perception.features import FeatureOptions, file_features
from audit_plugin.sources.images import encode_png
from audit_plugin.statistics.frechet import KID_MINIMUM, MINIMUM
from tests.methods.counterfactuals.editing import new_studio
from tests.methods.counterfactuals.flips import flip

SQUEEZENET = Path(__file__).parents[4] / "shared/data/squeezenet-v1.1-features/squeezenet_v1.1_features.onnx"
SIDE = 32


class Means:
    """Three features: the mean of each channel."""

    fingerprint = "means"

    def __init__(self):
        self.seen = 0

    def read(self, images):
        self.seen += len(images)
        return {"features": images.mean((2, 3)).astype(np.float64)}


def pictures(root, n, *, change):
    """``n`` textures and what became of them, stored; every other one with its right label."""
    rng, studio = np.random.default_rng(0), new_studio(root, None)
    items = []
    for at in range(n):
        coarse = rng.integers(0, 200, (4, 4, 3)).repeat(SIDE // 4, 0).repeat(SIDE // 4, 1)
        before = (coarse + rng.integers(0, 40, (SIDE, SIDE, 3))).astype(np.uint8)
        shas = [studio.store.put(encode_png(pixels, synthetic=False)) for pixels in (before, change(before, rng))]
        items.append(replace(flip(at), before_sha256=shas[0], after_sha256=shas[1], label="circle" if at % 2 else "square"))
    return studio, items


def slight(before, rng):
    """Some grain, which every picture gets anew."""
    return np.clip(before.astype(int) + rng.integers(-3, 4, before.shape), 0, 255).astype(np.uint8)


def blank(before, _rng):
    return np.full_like(before, before.mean(dtype=int))


def of(studio, items, **networks):
    return {one.name: one for one in set_figures(studio, items, Networks(names=("f", "faces", "same"), **networks))}


def test_few_images_are_refused_with_the_number_that_would_do(tmp_path):
    """Every figure says how many there were; KID takes fewer than FID."""
    studio, items = pictures(tmp_path, 20, change=slight)
    told = of(studio, items, features=Means())
    assert list(told) == ["FID", "sFID", "KID"]
    assert f"FID needs {MINIMUM} images on either side, got 20" in told["FID"].refused
    assert f"KID needs {KID_MINIMUM} images" in told["KID"].refused
    assert {(one.value, one.real, one.counterfactual, one.network) for one in told.values()} == {(None, 20, 20, "f")}


def test_each_figure_has_its_own_images(tmp_path):
    """Flips alone for faces, all pictures of images that the model gets right for S3."""
    studio, items = pictures(tmp_path, 12, change=slight)
    items = [replace(item, flipped=at < 8, original="circle") for at, item in enumerate(items)]
    told = of(studio, items, faces=Means(), likeness=Means())
    assert {name: (one.real, one.counterfactual, one.subset) for name, one in told.items()} == {
        "FVA": (12, 8, "CC+IC, CCF"),
        "FS": (12, 8, "CC+IC, CCF"),
        "S3": (6, 6, "CC, CCF+ICF"),
    }
    assert told["FVA"].value == 1
    assert 0.99 < told["FS"].low < told["FS"].value <= told["FS"].high
    assert told["S3"].value > 0.99
    nameless = of(studio, [replace(item, label="") for item in items], likeness=Means())["S3"]
    assert "the table gives no classes" in nameless.refused
    none = of(studio, [replace(item, flipped=False) for item in items], faces=Means())["FVA"]
    assert (none.value, none.counterfactual) == (None, 0)
    assert none.refused


def test_features_are_read_once(tmp_path):
    studio, items = pictures(tmp_path, 6, change=slight)
    means = Means()
    first = set_figures(studio, items, Networks(features=means, likeness=means, names=("f", "", "f")))
    assert means.seen == 12
    assert set_figures(studio, items, Networks(features=means, likeness=means, names=("f", "", "f"))) == first
    assert means.seen == 12
    assert set_figures(studio, [], Networks(features=means)) == ()


def test_kernel_distance_on_real_features(tmp_path):
    """SqueezeNet's, of 56 textures: a little grain is nearer to the originals than blank pictures are, by far."""
    if not SQUEEZENET.is_file():
        pytest.skip("needs the SqueezeNet features of the development data, which are not there")
    network = file_features(FeatureOptions(file=str(SQUEEZENET), output="tap6"), threads=1)
    near, far = (
        of(*pictures(tmp_path / change.__name__, 56, change=change), features=network)["KID"] for change in (slight, blank)
    )
    assert near.network == "f"
    assert near.low < near.value < near.high < far.low
    assert (far.real, far.counterfactual) == (56, 56)
    assert network.name == "squeezenet_v1.1_features:tap6"


def test_frechet_distance_on_real_features(tmp_path, monkeypatch):
    """The same network; with fewer images than are fit to be quoted, which the lower bound here allows."""
    if not SQUEEZENET.is_file():
        pytest.skip("needs the SqueezeNet features of the development data, which are not there")
    from audit_plugin.methods.counterfactuals import sets

    monkeypatch.setattr(sets, "frechet", lambda real, after: frechet(real, after, minimum=20))
    from audit_plugin.statistics.frechet import frechet

    network = file_features(FeatureOptions(file=str(SQUEEZENET), output="tap1"), threads=1)
    near, far = (
        of(*pictures(tmp_path / change.__name__, 24, change=change), features=network)["FID"].value for change in (slight, blank)
    )
    assert 0 < near < far / 5
