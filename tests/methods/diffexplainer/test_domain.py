"""Whether a generator draws what a model was made for."""

import numpy as np
import pytest

from audit_plugin.methods.diffexplainer.domain import among, domain_fit, thumbnail


def pictures(colour, count=40, seed=0, size=32):
    """Noise around one colour, a square of any colour in it."""
    rng = np.random.default_rng(seed)
    images = np.clip(np.array(colour).reshape(1, 3, 1, 1) + rng.normal(0, 0.15, (count, 3, size, size)), 0, 1)
    for image in images:
        at = rng.integers(0, size - 8, 2)
        image[:, at[0] : at[0] + 8, at[1] : at[1] + 8] = rng.random((3, 1, 1))
    return images.astype(np.float32)


def test_pictures_of_the_domain_fit():
    fit = domain_fit(2, 2, pictures((0.4, 0.5, 0.6), seed=1), pictures((0.4, 0.5, 0.6), seed=2))
    assert fit.fits
    assert fit.near_real.value > 0.5
    assert "taken for 2 of 2 classes" in fit.said
    assert fit.said.endswith("of them could be real ones.")


def test_pictures_of_something_else_do_not():
    fit = domain_fit(2, 2, pictures((0.8, 0.5, 0.2), seed=1), pictures((0.1, 0.1, 0.1), seed=2))
    assert not fit.fits
    assert fit.near_real.value < 0.05
    assert "take a generator of the model's domain" in fit.said


@pytest.mark.parametrize(
    ("reached", "classes", "fits"), [(1, 2, False), (2, 2, True), (4, 10, False), (5, 10, True), (0, 2, False)]
)
def test_half_of_the_classes_must_be_reached_two_at_least(reached, classes, fits):
    """Without real pictures, or with too few, that is all there is to go by."""
    drawn = pictures((0.5, 0.5, 0.5))
    for real in (None, drawn[:5]):
        fit = domain_fit(reached, classes, drawn, real)
        assert (fit.fits, fit.near_real, fit.classes_reached, fit.classes) == (fits, None, reached, classes)


def test_sizes_and_counts_may_differ():
    """Thumbnails are of the same size."""
    assert thumbnail(np.full((2, 3, 29, 31), 0.25, np.float32)) == pytest.approx(0.25)
    wide, few = pictures((0.5, 0.5, 0.5), 60, seed=3, size=48), pictures((0.5, 0.5, 0.5), 20, seed=4)
    assert among(wide, few).value > 0.5


def test_a_part_of_the_domain_is_of_it():
    """Prompts of one kind show less than the real pictures do."""
    real = np.concatenate([pictures((level, 0.5, 0.5), 20, seed=at) for at, level in enumerate((0.2, 0.5, 0.8))])
    assert among(pictures((0.5, 0.5, 0.5), seed=9), real).value > 0.5
