"""Where a concept occurs only with one label, or only with another concept, an audit says so and accuses nobody."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.results import GateStatus, Verdict
from audit_plugin.core.values import Role
from audit_plugin.findings.findings import find
from audit_plugin.findings.policy import Policy, default_policy
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.methods.depict.coinciding import coincide
from tests.findings.examples import result
from tests.methods.world import Generator, binary, build, linear, score

QUICK = DepictOptions(resamples=100, adjusted_resamples=10)
SITE, DISEASE = binary("site", Role.NUISANCE), binary("disease", Role.CORE)
BY_LABEL = linear((12,), noise=0)
"""Labels rows by their first concept, without exceptions."""


def audited(concepts, values, scorer, truth=BY_LABEL, **how):
    world = build(len(values), np.random.default_rng(2), truth, concepts=concepts, values=values, detector=0.98, **how)
    return audit(world.table, score(world, scorer), label="task", classes=("neg", "pos"), seed="s", options=QUICK)


def levels(n, exceptions=0):
    """(n, 1), and a copy of it with some exceptions."""
    first = np.arange(n) % 2
    second = first.copy()
    second[:exceptions] = 1 - second[:exceptions]
    return first, second


@pytest.mark.parametrize("role", [Role.NUISANCE, Role.ARTEFACT, Role.PROTECTED])
def test_a_model_that_is_right_is_not_accused_of_a_site_that_its_classes_come_from(role):
    """The pictures of another site show the other class, too: all that the audit sees is that the answer changes."""
    first, _ = levels(160)
    report = audited((replace(SITE, role=role),), first[:, None], linear((4,)))
    (site,) = report.concepts
    assert site.importance.low > 0.3
    assert site.verdict is Verdict.INCONCLUSIVE
    assert "coincides with the label" in " ".join(site.notes)
    assert next(gate for gate in report.gates if gate.name == "G7").status is GateStatus.FAIL
    assert "site coincides with the label" in report.headline
    assert not any(figure.of_concern for figure in report.fairness if figure.family == "interventional")
    assert any("site: coincides with the label" in line for line in report.not_tested)


def test_what_the_label_is_about_may_coincide_with_it():
    first, _ = levels(160)
    (disease,) = audited((DISEASE,), first[:, None], linear((4,))).concepts
    assert disease.verdict is Verdict.RELIES
    assert not disease.notes


@pytest.mark.parametrize("leaks", [0.0, 1.0])
def test_two_concepts_that_coincide_are_not_told_apart(leaks):
    first, second = levels(160)
    report = audited(
        (DISEASE, SITE), np.stack([first, second], 1), linear((0, 4)), linear((12, 0), noise=0), generator=Generator(leaks=leaks)
    )
    assert report.concept("site").verdict is Verdict.INCONCLUSIVE
    assert "site coincides with disease and the label" in " ".join(report.concept("site").notes)


def test_a_task_that_is_about_something_else_may_be_answered_from_a_site():
    """The site goes with the label without exception, and what is core does not: edits of the site hold it."""
    site, disease = levels(160)[0], np.arange(160) // 2 % 2
    report = audited((SITE, DISEASE), np.stack([site, disease], 1), linear((4, 0)), linear((12, 0), noise=0))
    assert report.concept("site").verdict is Verdict.RELIES


def test_what_coincides_may_be_changed_together():
    """Both at once stay within the combinations that occur; the disease is among them, whose own matter the label is."""
    first, second = levels(160)
    report = audited(
        (DISEASE, SITE), np.stack([first, second], 1), linear((0, 4)), linear((12, 0), noise=0), groups=("disease+site",)
    )
    (both,) = report.groups
    assert both.verdict is Verdict.RELIES
    assert not any("coincides" in note for note in both.notes)


def test_a_few_other_combinations_are_enough_to_tell():
    """One row in ten; the generator changes the site alone."""
    first, second = levels(160, exceptions=16)
    report = audited((DISEASE, SITE), np.stack([first, second], 1), linear((0, 4)), linear((12, 0), noise=0))
    assert report.concept("site").verdict is Verdict.RELIES
    assert not any("coincides" in note for note in report.concept("site").notes)


def test_coinciding_is_mutual():
    """Three crops of two sites: the site follows from the crop, and not the other way round."""
    crop, site = np.array([0, 1, 2] * 20), np.array([0, 1, 1] * 20)
    assert not coincide(crop, site)
    assert coincide(crop, 2 - crop)
    assert not coincide(crop, np.zeros_like(crop))
    assert not coincide(site, crop)


@pytest.mark.parametrize(("n", "first", "second"), [(2000, 16, 16), (5000, 30, 30), (3000, 30, 26)])
def test_two_rare_things_that_never_meet_do_not_coincide(n, first, second):
    """Nearly all rows hold neither, and say nothing."""
    rows = np.arange(n)
    assert not coincide((rows < first).astype(int), (rows >= n - second).astype(int))


def test_a_rare_mark_on_many_of_the_rare_cases_is_still_told():
    """A ruler in 30 of 3 000 rows, 24 of them among the 30 positive ones."""
    rows = np.arange(3000)
    ruler, label = (rows < 30).astype(int), ((rows >= 6) & (rows < 36)).astype(int)
    assert (ruler & label).sum() == 24
    assert not coincide(ruler, label)


@pytest.mark.parametrize(("exceptions", "same"), [(12, True), (20, True), (22, False)])
def test_one_row_in_twenty_of_a_level_is_enough_to_tell(exceptions, same):
    """400 rows: 97, 95 and 94.5 % of each level follow."""
    first, second = levels(400, exceptions)
    assert coincide(first, second) is coincide(second, first) is same


@pytest.mark.parametrize("exceptions", [0, 12])
def test_a_site_that_classes_come_from_raises_no_finding(exceptions):
    """Not by reliance, nor by flips, nor by what the same pictures are decided; what the real photographs show is told all the same."""
    label, site = levels(400, exceptions)
    report = audited((replace(SITE, role=Role.PROTECTED),), site[:, None], linear((4,)), lambda *_: label.astype(float))
    assert report.concept("site").importance.low > 0.3
    assert report.concept("site").inseparable == ("the label",)
    told = result(concepts=report.concepts, gates=report.gates, fairness=report.fairness, state=report.state)
    usual = default_policy().thresholds
    flips = replace(usual[0], name="flips", metric="flip_rate_excess", roles=(Role.PROTECTED,), threshold=0.05)
    seen = replace(usual[3], name="seen", figures=("statistical_parity_difference",), families=("observational",))
    assert find(told, Policy(name="p", thresholds=(flips, *usual))) == ()
    assert [one.rule for one in find(told, Policy(name="p", thresholds=(flips, seen, *usual)))] == ["seen"]
    separable = replace(told, concepts=tuple(replace(one, inseparable=()) for one in told.concepts))
    assert {one.kind for one in find(separable, Policy(name="p", thresholds=(flips, *usual)))} == {"reliance", "fairness"}
