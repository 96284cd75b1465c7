"""The safety filter, on a graph whose answers are known."""

import json

import numpy as np
import pytest

from audit_plugin.core.errors import DetectorError
from audit_plugin.perception.safety import SAFETY, SafetyFilter
from tests.perception.image_text_world import save

IMAGES = np.stack([np.full((3, 12, 12), value, np.float32) for value in (0.1, 0.9)])


def checker(root, **card):
    """Its three outputs are the mean of each channel."""
    save(
        root / "safety.onnx",
        [("ReduceMean", ["x"], "mean", {"axes": [2, 3], "keepdims": 0})],
        [("x", "f", ["n", 3, 8, 8])],
        [("mean", ["n", 3])],
        {},
    )
    (root / "safety.json").write_text(json.dumps({"size": 8, "unsafe": [1, 2]} | card))
    return SafetyFilter(root / "safety.onnx")


def test_the_likeliest_unsafe_class_counts(tmp_path):
    np.testing.assert_allclose(checker(tmp_path).read(IMAGES)[SAFETY], [[0.9, 0.1], [0.1, 0.9]], atol=1e-6)


def test_outputs_become_probabilities_as_the_card_says(tmp_path):
    """Logits of one class, from pictures less the mean by the deviation."""
    found = checker(tmp_path, activation="sigmoid", mean=[0.5] * 3, std=[0.1] * 3).read(IMAGES)[SAFETY][:, 1]
    np.testing.assert_allclose(found, 1 / (1 + np.exp([4, -4])), atol=1e-5)
    np.testing.assert_allclose(checker(tmp_path, activation="softmax").read(IMAGES)[SAFETY][:, 1], 1 / 3, atol=1e-6)


def test_the_card_is_part_of_the_identity(tmp_path):
    assert checker(tmp_path).fingerprint != checker(tmp_path, unsafe=[0]).fingerprint


@pytest.mark.parametrize(
    ("card", "said"), [({"unsafe": []}, "no unsafe class"), ({"size": "large"}, "size: "), ({"unsafe": [7]}, "has 3 classes")]
)
def test_a_card_that_cannot_be_used_is_refused(tmp_path, card, said):
    with pytest.raises(DetectorError, match=said):
        checker(tmp_path, **card).read(IMAGES)
