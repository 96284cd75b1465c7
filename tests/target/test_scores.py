"""Reading outputs as class scores."""

import numpy as np
import pytest

from audit_plugin.core.errors import TargetOutputError
from audit_plugin.target.options import Activation
from audit_plugin.target.scores import to_scores


def read(output, activation=Activation.NONE, labels=("a", "b", "c")):
    return to_scores(np.asarray(output), rows=len(output), labels=labels, activation=activation)


def test_softmax_survives_huge_logits():
    """Logits of thousands neither overflow nor leave the simplex, and a very sure model still has a runner-up."""
    np.testing.assert_allclose(read([[1000.0, 0.0, 1000.0]], Activation.SOFTMAX), [[0.5, 0.0, 0.5]], atol=1e-299)
    (sure,) = read([[-3000.0, 900.0, 4000.0, -1000.0, 3500.0]], Activation.SOFTMAX, labels=tuple("abcde"))
    assert np.argsort(sure).tolist() == [0, 3, 1, 4, 2]
    assert 0 < sure[0] < sure[4] < 1e-200


def test_sigmoid_survives_huge_logits():
    """The same for independent classes."""
    np.testing.assert_allclose(read([[1e4, -1e4, 0.0]], Activation.SIGMOID), [[1.0, 0.0, 0.5]])


def test_scores_without_activation_may_be_anything_finite():
    """Not every model answers probabilities."""
    np.testing.assert_array_equal(read([[-3.0, 7.0, 0.5]]), [[-3.0, 7.0, 0.5]])


@pytest.mark.parametrize("output", [[[0.25]], [0.25]])
def test_one_probability_for_two_classes(output):
    """It is the second class's."""
    np.testing.assert_allclose(read(np.array(output, np.float32), labels=("no", "yes")), [[0.75, 0.25]])


def test_one_logit_for_two_classes():
    """A sigmoid makes a probability of it."""
    np.testing.assert_allclose(read([[0.0]], Activation.SIGMOID, labels=("no", "yes")), [[0.5, 0.5]])


def test_integer_scores_are_scores():
    """A quantised model answers whole numbers, one per class."""
    np.testing.assert_array_equal(read(np.array([[1, 2, 253]], np.uint8)), [[1, 2, 253]])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([[0.1, 0.2]], "2 scores per image but there are 3 labels"),
        ([[np.nan, 0.0, 0.0], [0.0, 0.0, 0.0]], "for 1 of 2 images"),
        ([[np.inf, 0.0, 0.0]], "NaN or infinity"),
        ([3], "class 3 but there are 3 labels"),
        ([-1], "class -1"),
        (np.array([b"zebra"], object), "zebra"),
        (np.array([[b"a", b"b"]], object), "2 class numbers per image"),
    ],
)
def test_what_cannot_be_read_is_refused(output, message):
    """Each with what is wrong."""
    with pytest.raises(TargetOutputError, match=message):
        read(output)


def test_two_labels_and_a_score_outside_the_unit_interval():
    """A logit read as a probability is caught, with the cure."""
    with pytest.raises(TargetOutputError, match="activation: sigmoid"):
        read([[2.5]], labels=("no", "yes"))


def test_rows_must_match_the_images():
    """An answer for other images is no answer."""
    with pytest.raises(TargetOutputError, match="2 rows for 5 images"):
        to_scores(np.zeros((2, 3)), rows=5, labels=("a", "b", "c"), activation=Activation.NONE)
