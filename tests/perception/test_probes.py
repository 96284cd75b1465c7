"""Small detectors of one word, taught by pairs of pictures."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception import probes
from audit_plugin.perception.probes import LEVELS, TogetherDetectors, open_probes, reads, train_probe
from audit_plugin.perception.training import macro_auroc


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "OPTIONS", replace(probes.OPTIONS, size=16, epochs=12, shift_px=1))
        yield


def pairs(count, seed, *, drawn=True):
    """Grey noise, and the same with a red spot somewhere, if the generator draws it."""
    rng = np.random.default_rng(seed)
    without = rng.uniform(0.3, 0.7, (count, 3, 16, 16)).astype(np.float32)
    said = without.copy()
    if drawn:
        for picture in said:
            y, x = rng.integers(0, 11, 2)
            picture[:, y : y + 5, x : x + 5] = np.array([0.95, 0.05, 0.05])[:, None, None]
    return without, said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A probe of a word that is drawn, and one of a word that is not."""
    found = tmp_path_factory.mktemp("probes")
    for name, drawn in (("spot", True), ("ghost", False)):
        train_probe(*pairs(80, 0, drawn=drawn), name, found / f"{name}.onnx", seed=1)
    return found


def test_a_word_that_is_drawn_is_read_and_one_that_is_not_is_left_out(folder):
    """The held-out pairs of the card tell them apart."""
    (probe,) = open_probes(sorted(folder.glob("*.onnx")))
    assert probe.card.concepts == {"spot": LEVELS}
    read = probe.read(np.concatenate(pairs(60, 5)))["spot"]
    assert macro_auroc(read, np.repeat([0, 1], 60)) > 0.9


def test_a_probe_that_could_not_be_judged_does_not_read(folder):
    (probe,) = open_probes([folder / "spot.onnx"])
    assert reads(probe.card)
    assert not reads(replace(probe.card, auroc={"spot": None}))


def test_too_few_pairs_are_refused(tmp_path):
    with pytest.raises(DetectorError):
        train_probe(*pairs(3, 0), "spot", tmp_path / "spot.onnx", seed=1)


def test_several_detectors_read_as_one(folder):
    """Of what two of them read, the first one's word counts; its identity changes with any of them."""
    (probe,) = open_probes([folder / "spot.onnx"])

    class Blind:
        fingerprint = "blind"

        def read(self, images):
            return {"spot": np.full((len(images), 2), 0.5), "colour": np.full((len(images), 3), 1 / 3)}

    _, said = pairs(4, 5)
    first, last = TogetherDetectors((probe, Blind())), TogetherDetectors((Blind(), probe))
    assert first.read(said).keys() == {"spot", "colour"}
    assert first.read(said)["spot"] == pytest.approx(probe.read(said)["spot"])
    assert (last.read(said)["spot"] == 0.5).all()
    assert len({one.fingerprint for one in (first, last, TogetherDetectors((probe,)))}) == 3
