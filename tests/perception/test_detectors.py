import dataclasses
import json
import sys

import numpy as np
import pytest

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.detectors import OnnxConceptDetector, card_path
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.perception.training import train_detectors

from .world import COLOUR, CONCEPTS, squares


@pytest.fixture
def path(tmp_path):
    """A hardly trained detector; these tests ask nothing of its skill."""
    images, values = squares(120)
    train_detectors(images, values, CONCEPTS, tmp_path / "d.onnx", seed=0, options=TrainingOptions(size=16, epochs=1))
    return tmp_path / "d.onnx"


def test_answers_are_probabilities_whatever_the_batch(path):
    """Rows sum to one, and an image is read alike alone and among others, at any size."""
    detector, (images, _) = OnnxConceptDetector(path, threads=1), squares(70, side=40)
    together = detector.read(images)["colour"]
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(detector.read(images[66:67])["colour"][0], together[66], atol=1e-5)
    assert detector.read(images[:0])["size"].shape == (0, 2)


def test_the_fingerprint_follows_the_file(path):
    """Loading twice gives the same identity; other names for the levels give another."""
    first = OnnxConceptDetector(path).fingerprint
    assert OnnxConceptDetector(path).fingerprint == first
    card_path(path).write_text(card_path(path).read_text().replace('"red"', '"crimson"'))
    assert OnnxConceptDetector(path).fingerprint != first


def test_levels_must_be_those_of_the_audit(path):
    """A detector that knows other levels would be read wrongly."""
    detector = OnnxConceptDetector(path)
    detector.check(CONCEPTS)
    with pytest.raises(DetectorError, match="train the detectors again"):
        detector.check([dataclasses.replace(COLOUR, levels=("green", "red", "blue"))])


@pytest.mark.parametrize("damage", ["card", "model", "no card", "no model", "wrong card"])
def test_damaged_files_are_refused(path, damage):
    """The message names the file and says to train again or restore it."""
    if damage in {"card", "wrong card"}:
        card = json.loads(card_path(path).read_text())
        card["concepts"]["extra"] = ["a", "b"]
        card_path(path).write_text(json.dumps(card) if damage == "wrong card" else "{}")
    elif damage == "model":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        (path if damage == "no model" else card_path(path)).unlink()
    with pytest.raises(DetectorError, match=r"d\.(onnx|json)"):
        OnnxConceptDetector(path)


def test_images_of_another_layout_are_refused(path):
    """Channels last is the usual mistake."""
    with pytest.raises(DetectorError, match="3, h, w"):
        OnnxConceptDetector(path).read(np.zeros((1, 16, 16, 3), np.float32))


def test_without_onnx_runtime_it_can_be_named_but_not_asked(path, monkeypatch):
    """The fingerprint finds readings that are there; new ones need the library, and the error says which extra has it."""
    there = OnnxConceptDetector(path).fingerprint
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    detector = OnnxConceptDetector(path)
    assert detector.fingerprint == there
    with pytest.raises(DetectorError, match="install the 'cpu' or 'gpu' extra"):
        detector.read(np.zeros((1, 3, 16, 16), np.float32))
