"""Whether a generator draws what a model was made for."""

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer.domain import domain_fit


def sure(mean, count=60, seed=0):
    """Log-odds of two classes, ``mean`` of the first one on average."""
    value = np.random.default_rng(seed).normal(mean, 1.0, count)
    return np.stack([value, -value], 1)


def test_pictures_of_the_domain_fit():
    fit = domain_fit(2, 2, sure(3, seed=1), sure(3, seed=2), seed=0)
    assert fit.fits
    assert fit.separation.low <= fit.separation.value < 0.65
    assert "taken for 2 of 2 classes" in fit.said
    assert fit.said.endswith("(0.5: not at all).")


@pytest.mark.parametrize("other", [-8, 12])
def test_pictures_of_which_a_model_is_more_or_less_sure_do_not(other):
    """Less sure, or surer: either tells them apart.  Classes that are rarer among them do not."""
    fit = domain_fit(2, 2, sure(other), np.tile([[1.0, -1.0]], (60, 1)) + sure(0, seed=1) / 5, seed=0)
    assert not fit.fits
    assert fit.separation.value > 0.9
    assert "take a generator of its domain" in fit.said
    flipped = domain_fit(2, 2, sure(3, seed=1), sure(3, seed=2)[:, ::-1], seed=0)
    assert flipped.fits


@pytest.mark.parametrize(
    ("reached", "classes", "fits"), [(1, 2, False), (2, 2, True), (4, 10, False), (5, 10, True), (0, 2, False)]
)
def test_half_of_the_classes_must_be_reached_two_at_least(reached, classes, fits):
    """Without real pictures, or with too few, that is all there is to go by."""
    for real in (None, sure(0, 5)):
        fit = domain_fit(reached, classes, sure(0), real, seed=0)
        assert (fit.fits, fit.separation, fit.classes_reached, fit.classes) == (fits, None, reached, classes)
