"""Controls of an audit: found and silent where the audit works, missed or accused where it does not, and a reason where neither can be told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.controls import run_controls
from audit_plugin.core.control_results import Control, ControlReport
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import GateStatus, RunState, from_json, to_json
from audit_plugin.core.values import Concept, Role
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.methods.depict.controls import control_task
from tests.findings.examples import gate, result
from tests.methods.world import Generator, binary, build, linear

QUICK = DepictOptions(resamples=100, adjusted_resamples=10)
CONCEPTS = (binary("shape", Role.CORE), binary("ruler", Role.ARTEFACT))
THREE = Concept(name="ground", levels=("sand", "grass", "snow"), phrases=("sand", "grass", "snow"), role=Role.NUISANCE)


def world(concepts=CONCEPTS, *, n=150, seed=1, **failures):
    return build(n, np.random.default_rng(seed), linear((2,) + (0,) * (len(concepts) - 1)), concepts=concepts, **failures).table


def controls(table, *, policy=None, options=QUICK, **changes):
    return run_controls(table, result(gates=(), **changes), policy or default_policy(), options)


def policy(**changes):
    bound = replace(default_policy().thresholds[0], **changes)
    return Policy(name="p", thresholds=(bound,))


@pytest.mark.parametrize("metric", ["auroc", "accuracy", "brier"])
def test_what_is_planted_is_found_and_what_is_clean_is_not_accused(metric):
    """Whatever the metric; the audited model's own scores have no part in it."""
    told = controls(world(), options=replace(QUICK, metric=metric, threshold=0.8))
    assert (told.planted.concept, told.planted.accused, told.missed) == ("ruler", "ruler", False)
    assert told.planted.effect.low > 0.05
    assert (told.clean.concept, told.false_alarm, told.clean.accused) == ("shape", False, "")
    assert told.clean.effect.low > 0.05


def test_a_concept_of_several_levels_can_be_planted():
    told = controls(world((binary("shape", Role.CORE), THREE)))
    assert (told.planted.concept, told.missed, told.false_alarm) == ("ground", False, False)


def test_edits_that_are_not_made_are_a_missed_control():
    """The audit could not see a reliance either, and says so."""
    told = controls(world(generator=Generator(obeys=(1.0, 0.0))))
    assert told.missed
    assert "G3a" in told.planted.reason or "judged" in told.planted.reason


def test_edits_that_change_the_object_accuse_the_clean_control():
    """Where a policy would accuse nobody but for the leak; a flip of the ruler that turns the shape in every second picture is one."""
    names = (binary("ruler", Role.ARTEFACT), binary("shape", Role.CORE))
    table = world(names, generator=Generator(leaks=0.5))
    blind = replace(table, readings={sha: _certain(one) for sha, one in table.readings.items()})
    told = controls(blind, policy=policy(metric="flip_rate_excess"))
    assert (told.false_alarm, told.clean.accused) == (True, "ruler")


def _certain(reading):
    return {name: np.eye(len(seen))[int(np.argmax(seen))] for name, seen in reading.items()}


def test_scores_follow_one_concept_and_a_row_keeps_its_noise():
    """Readings that differ move a score, readings that do not leave it within the detector's own noise."""
    table = world()
    exact = replace(table, readings={sha: _certain(one) for sha, one in table.readings.items()})
    task = control_task(exact, "ruler", seed="s")
    before = [task.scores[sha][1] for sha in table.baseline.tolist()]
    placebo = [task.scores[sha][1] for sha in table.placebo.tolist()]
    read = [exact.readings[sha]["ruler"].argmax() for sha in table.baseline.tolist()]
    same = [exact.readings[sha]["ruler"].argmax() == was for sha, was in zip(table.placebo.tolist(), read, strict=True)]
    assert np.array(before)[same] == pytest.approx(np.array(placebo)[same])
    assert ((np.array(before) > 0.5) == (np.array(read) == 0)).mean() > 0.99 or ((np.array(before) > 0.5) == read).mean() > 0.99


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"policy": Policy(name="none")}, "no threshold of the policy"),
        ({"policy": policy(minimum_n=500)}, "150 rows, and threshold shortcut-reliance asks for 500"),
        ({"policy": policy(threshold=0.6)}, "more than a control can lose"),
        ({"state": RunState.INVALID_GENERATOR}, "the audit itself did not work"),
    ],
)
def test_what_cannot_alarm_is_not_called_missed(changes, why):
    told = controls(world(), **changes)
    assert told.missed is None
    assert why in told.planted.reason


def test_a_concept_that_cannot_be_judged_is_passed_over():
    """Read too badly, or not at all: the next one; where there is none, it says so."""
    three = (*CONCEPTS, binary("mark", Role.ARTEFACT))
    table = world(three)
    gates = (gate("G5", GateStatus.FAIL, "ruler"),)
    assert run_controls(table, result(gates=gates), default_policy(), QUICK).planted.concept == "mark"
    unread = replace(
        table, readings={sha: {name: x for name, x in one.items() if name == "shape"} for sha, one in table.readings.items()}
    )
    told = controls(unread)
    assert told.missed is None
    assert "none of ruler, mark" in told.planted.reason
    assert told.false_alarm is False


def test_without_a_concept_to_answer_from_the_clean_control_sees_nothing():
    told = controls(world((binary("ruler", Role.ARTEFACT), binary("mark", Role.NUISANCE))))
    assert (told.clean.concept, told.false_alarm, told.clean.effect) == ("", False, None)


def test_controls_travel_as_json_and_older_results_have_none():
    told = ControlReport(
        planted=Control(concept="ruler", alarmed=True, accused="ruler", effect=Estimate(value=0.4, low=0.3, high=0.5)),
        clean=Control(concept="shape", alarmed=False),
    )
    audited = result(controls=told)
    assert from_json(to_json(audited)) == audited
    older = json.loads(to_json(audited))
    del older["controls"]
    assert from_json(json.dumps(older)) == replace(audited, controls=None)
