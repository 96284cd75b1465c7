"""Who is given which target."""

import numpy as np
import pytest

from audit_plugin.methods.counterfactuals import Aim, runner_up, targets

CLASSES = ("cat", "dog", "fox")
SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]])


def test_the_runner_up_is_the_second_likeliest():
    assert runner_up(SCORES).tolist() == [1, 1, 0]
    assert [aim.target for aim in targets(SCORES, CLASSES)] == [1, 1, 0]


def test_a_mapping_decides_for_its_classes_and_the_runner_up_for_others():
    assert targets(SCORES, CLASSES, {"cat": "fox", "fox": "cat"}) == (Aim(0, 0, 2), Aim(1, 2, 0), Aim(2, 1, 0))


def test_every_class_of_interest_but_its_own():
    assert [(aim.row, aim.target) for aim in targets(SCORES, CLASSES, ["fox", "cat"])] == [(0, 2), (1, 0), (2, 0), (2, 2)]


@pytest.mark.parametrize("policy", ["runner_up", {"cat": "dog"}, ["dog"]])
def test_of_two_classes_it_is_the_other(policy):
    assert targets(np.array([[0.9, 0.1], [0.2, 0.8]]), ("cat", "dog"), policy) == (Aim(0, 0, 1), Aim(1, 1, 0))


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"cat": "dgo"}, "no class 'dgo'; did you mean 'dog'"),
        ({"cat": "zebu"}, "no class 'zebu'; it has cat, dog, fox"),
        ({"cat": "cat"}, "own target: cat"),
        ((), "at least one class"),
        ("second", "runner_up"),
    ],
)
def test_errors_say_what_to_do(policy, said):
    with pytest.raises(ValueError, match=said):
        targets(SCORES, CLASSES, policy)
