"""The law's promises, measured."""

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.sources.scenes import CONCEPTS, SceneLaw, Tie, draw_values
from audit_plugin.sources.scenes.law import positive

N = 20_000
NAMES = [concept.name for concept in CONCEPTS]


def drawn(law, seed=0):
    return draw_values(N, law, np.random.default_rng(seed))


def close(share, expected):
    return abs(share - expected) < 4 * np.sqrt(0.25 / N) + 1e-9


@pytest.mark.parametrize("task", [{"shape": "triangle"}, {"shape": "circle", "size": "large"}])
@pytest.mark.parametrize("prevalence", [0.0, 0.2, 0.5, 1.0])
def test_prevalence_is_met(task, prevalence):
    """Also by tasks of two concepts."""
    values = drawn(SceneLaw(positive=task, prevalence=prevalence))
    assert close(positive(values, task).mean(), prevalence)


def test_without_task_and_ties_all_concepts_are_uniform_and_independent():
    """Levels are equally common, and no two concepts correlate."""
    values = drawn(SceneLaw(positive={}))
    for place, concept in enumerate(CONCEPTS):
        shares = np.bincount(values[:, place], minlength=len(concept.levels)) / N
        assert all(close(share, 1 / len(concept.levels)) for share in shares)
    correlations = np.corrcoef(values.T) - np.eye(len(CONCEPTS))
    assert np.abs(correlations).max() < 5 / np.sqrt(N)


@pytest.mark.parametrize("strength", [0.0, 0.3, 0.8, 1.0])
def test_tie_strength_is_met_on_both_sides(strength):
    """The tied level's share is the strength plus what the concept's own law leaves it."""
    tie = Tie(concept="background", levels_if=("grass",), levels_else=("sand", "brick"), strength=strength)
    values = drawn(SceneLaw(ties=(tie,)))
    wall, yes = values[:, NAMES.index("background")], positive(values, {"shape": "triangle"})
    assert close((wall[yes] == 0).mean() / 2, (strength + (1 - strength) / 4) / 2)
    assert close(np.isin(wall[~yes], (2, 3)).mean() / 2, (strength + (1 - strength) / 2) / 2)
    assert close((wall[~yes] == 2).mean() / 2, (strength / 2 + (1 - strength) / 4) / 2)


def test_a_tie_leaves_the_other_concepts_alone():
    """Their draws do not even notice."""
    tie = Tie(concept="ruler", levels_if=("present",), levels_else=("absent",), strength=0.9)
    others = [place for place, name in enumerate(NAMES) if name != "ruler"]
    np.testing.assert_array_equal(drawn(SceneLaw())[:, others], drawn(SceneLaw(ties=(tie,)))[:, others])


def test_equal_seeds_draw_equal_values():
    """And different ones do not."""
    np.testing.assert_array_equal(drawn(SceneLaw()), drawn(SceneLaw()))
    assert (drawn(SceneLaw()) != drawn(SceneLaw(), seed=1)).any()


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Tie(concept="fog", levels_if=("a",), levels_else=("b",), strength=1), "no concept 'fog'; they have shape"),
        (
            lambda: Tie(concept="ruler", levels_if=("on",), levels_else=("absent",), strength=1),
            "no level 'on'; it has absent, present",
        ),
        (lambda: Tie(concept="ruler", levels_if=(), levels_else=("absent",), strength=1), "names no level"),
        (lambda: Tie(concept="ruler", levels_if=("present",), levels_else=("absent",), strength=1.1), "strength 1.1"),
        (lambda: SceneLaw(prevalence=-0.1), "prevalence -0.1"),
        (lambda: SceneLaw(positive={"shape": "star"}), "no level 'star'"),
        (
            lambda: SceneLaw(ties=(Tie(concept="shape", levels_if=("circle",), levels_else=("square",), strength=1),)),
            "'shape' defines the task",
        ),
    ],
)
def test_impossible_laws_are_refused(build, said):
    """With what would be possible."""
    with pytest.raises(ConfigError, match=said):
        build()
