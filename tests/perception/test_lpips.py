"""Perceptual distances: the formula on a hand-made network, and what is called LPIPS."""

import os
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.lpips import PerceptualOptions, open_perceptual
from tests.perception.image_text_world import save

DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[3] / "shared" / "data")
FEATURES, HEADS = DATA / "squeezenet-v1.1-features/squeezenet_v1.1_features.onnx", DATA / "lpips-heads/lpips_heads_v0.1.npz"
RNG = np.random.default_rng(3)
FIRST, SECOND = RNG.random((3, 3, 32, 40), dtype=np.float32), RNG.random((3, 3, 32, 40), dtype=np.float32)


@pytest.fixture
def network(tmp_path):
    """Two taps: the pictures themselves, and twice the first two channels at half size."""
    save(
        tmp_path / "net.onnx",
        [
            ("Identity", ["x"], "tap0", {}),
            ("Slice", ["x", "start", "end", "axis"], "some", {}),
            ("AveragePool", ["some"], "tap1", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ],
        [("x", "f", ["n", 3, "h", "w"])],
        [("tap0", ["n", 3, "h", "w"]), ("tap1", ["n", 2, "h2", "w2"])],
        {"start": np.array([0]), "end": np.array([2]), "axis": np.array([1])},
    )
    np.savez(
        tmp_path / "heads.npz",
        **{
            "vgg.lin0": np.float32([1, 2, 3]),
            "vgg.lin1": np.float32([0.5, 0]),
            "alex.lin0": np.float32([1]),
            "alex.lin1": np.float32([1]),
        },
    )
    return tmp_path


def by_hand(a, b, weights):
    """One pair, position by position."""
    taps = [(a, b), tuple(x[:2].reshape(2, 16, 2, 20, 2).mean((2, 4)) for x in (a, b))]
    total = 0.0
    for (f, g), weight in zip(taps, weights, strict=True):
        sites = [
            sum(w * (u - v) ** 2 for w, u, v in zip(weight, p / np.sqrt(p @ p), q / np.sqrt(q @ q), strict=True))
            for p, q in zip(f.reshape(len(f), -1).T.astype(float), g.reshape(len(g), -1).T.astype(float), strict=True)
        ]
        total += np.mean(sites)
    return total


def test_lpips_is_equation_one(network):
    """Unit channels, squared differences by weight, mean over space, sum over layers."""
    distance = open_perceptual(PerceptualOptions(graph=str(network / "net.onnx"), heads=str(network / "heads.npz"), net="vgg"))
    wanted = [by_hand(a, b, ([1, 2, 3], [0.5, 0])) for a, b in zip(FIRST, SECOND, strict=True)]
    np.testing.assert_allclose(distance.between(FIRST, SECOND), wanted, rtol=1e-5)
    assert distance.name == "LPIPS(vgg)"
    assert distance.between(FIRST, FIRST).tolist() == [0, 0, 0]


def test_without_heads_it_is_one_minus_cosine_and_not_lpips(network):
    distance = open_perceptual(PerceptualOptions(graph=str(network / "net.onnx")))
    wanted = [by_hand(a, b, ([0.25] * 3, [0.25] * 2)) for a, b in zip(FIRST, SECOND, strict=True)]
    np.testing.assert_allclose(distance.between(FIRST, SECOND), wanted, rtol=1e-5)
    assert "LPIPS" not in distance.name


def test_a_whole_lpips_is_given_pictures_from_minus_one_to_one(tmp_path):
    """This one says how far the means are apart, by the range that it is given."""
    nodes = [
        ("Sub", ["a", "b"], "apart", {}),
        ("Abs", ["apart"], "off", {}),
        ("ReduceMean", ["off"], "distance", {"axes": [1, 2, 3]}),
    ]
    save(tmp_path / "pair.onnx", nodes, [(name, "f", ["n", 3, "h", "w"]) for name in "ab"], [("distance", ["n", 1, 1, 1])], {})
    distance = open_perceptual(PerceptualOptions(graph=str(tmp_path / "pair.onnx")))
    np.testing.assert_allclose(distance.between(FIRST, SECOND), 2 * np.abs(FIRST - SECOND).mean((1, 2, 3)), rtol=1e-4)
    assert "LPIPS" not in distance.name
    named = (tmp_path / "pair.onnx").rename(tmp_path / "LPIPS_alex.onnx")
    assert open_perceptual(PerceptualOptions(graph=str(named))).name == "LPIPS"


def test_the_identity_is_that_of_network_and_heads(network):
    first = PerceptualOptions(graph=str(network / "net.onnx"), heads=str(network / "heads.npz"), net="vgg")
    plain = PerceptualOptions(graph=first.graph)
    assert open_perceptual(first).fingerprint == open_perceptual(first).fingerprint != open_perceptual(plain).fingerprint


def test_what_does_not_fit_is_refused(network, tmp_path):
    """Heads of another network by their channels, or by their number; pictures that are too small; a graph without maps."""
    save(
        tmp_path / "flat.onnx",
        [("ReduceMean", ["a"], "mean", {"axes": [2, 3], "keepdims": 0})],
        [("a", "f", ["n", 3, "h", "w"])],
        [("mean", ["n", 3])],
        {},
    )
    with pytest.raises(DetectorError, match=r"no feature maps .* as mean"):
        open_perceptual(PerceptualOptions(graph=str(tmp_path / "flat.onnx"))).between(FIRST, SECOND)
    graph, heads = str(network / "net.onnx"), str(network / "heads.npz")
    with pytest.raises(DetectorError, match="3 channels, the heads 1"):
        open_perceptual(PerceptualOptions(graph=graph, heads=heads, net="alex")).between(FIRST, SECOND)
    with pytest.raises(DetectorError, match="cannot be read for 2 taps of 'squeeze'"):
        open_perceptual(PerceptualOptions(graph=graph, heads=heads, net="squeeze"))
    with pytest.raises(DetectorError, match="too small"):
        open_perceptual(PerceptualOptions(graph=graph)).between(FIRST[..., :16], SECOND[..., :16])


@pytest.mark.skipif(not FEATURES.exists() or not HEADS.exists(), reason="the SqueezeNet features and LPIPS heads are not there")
def test_real_features_order_pictures_and_are_not_called_lpips():
    """Their channels are not those that the heads were fitted on, although the numbers of channels agree."""
    with pytest.raises(DetectorError, match="other weights"):
        open_perceptual(PerceptualOptions(graph=str(FEATURES), heads=str(HEADS), net="squeeze"))
    distance = open_perceptual(PerceptualOptions(graph=str(FEATURES)), threads=1)
    waves = np.sin(np.arange(64) / 5)[:, None] * np.cos(np.arange(64) / 7)
    picture = np.stack([waves, np.roll(waves, 9, 0), waves.T])[None].astype(np.float32) / 2 + 0.5
    noisy = [
        np.clip(picture + sd * np.random.default_rng(0).standard_normal(picture.shape), 0, 1).astype(np.float32)
        for sd in (0.02, 0.1)
    ]
    near, far = (distance.between(picture, other)[0] for other in noisy)
    assert 0 < near < far < 1
    assert distance.name == "perceptual distance (squeezenet_v1.1_features)"
