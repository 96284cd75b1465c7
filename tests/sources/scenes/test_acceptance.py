"""The acceptance of the coloured shapes, scaled down; `tests/bench/coloured_shapes.py` is the whole of it."""

import pytest

from tests.bench.coloured_shapes import STAND_INS, summary, trials

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found():
    """Two targets for those that must accuse nobody, one for those whose failure is all that must be noticed."""
    return {one.name: summary(trials(one, 1 if one.gates else 2, rows=100, resamples=60), one.gates) for one in STAND_INS}


@pytest.mark.parametrize("name", ["perfect", "weak", "leaky", "noisy", "fading"])
def test_the_first_concept_is_found_whatever_the_generator_does(found, name):
    """By the compliance-scaled importance, and without accusing a concept that the target does not look at."""
    assert found[name].first_right_scaled == 1.0
    if name in {"perfect", "noisy"}:
        assert found[name].false_alarms == 0.0


def test_a_perfect_generator_gives_the_oracles_ranks(found):
    """All of them, for every target."""
    assert found["perfect"].spearman_least >= 0.99
    assert found["perfect"].first_right == 1.0


@pytest.mark.parametrize("name", ["weak", "leaky", "fading"])
def test_the_responsible_gate_notices(found, name):
    """In every audit."""
    assert found[name].noticed == 1.0
