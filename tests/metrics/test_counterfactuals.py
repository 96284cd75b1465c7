"""Counterfactuals as series."""

from dataclasses import replace

import pytest

from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from tests.findings.examples import result
from tests.methods.counterfactuals.flips import told

LABELS = ("ham", "1", "lesion", "fastdime", "twin")
MARK = (*LABELS, "square", "watermark=present", "artefact")


@pytest.fixture(scope="module")
def known():
    return told()


def samples(found, **caps):
    done = conclude(result(counterfactuals=found), default_policy())
    return {(one.metric, one.labels): one.value for one in audit_samples([done], [done], **caps)}


def test_every_series_is_in_the_table_with_its_number(known):
    out = {key: value for key, value in samples(known).items() if key[0].startswith("counterfactual")}
    assert {name for name, _ in out} == {name for name in METRICS if name.startswith("counterfactual")}
    assert out["counterfactual_flip_ratio", LABELS] == 1
    assert out["counterfactual_flip_low_ratio", LABELS] == known.figures.flip_ratio.low
    assert out["counterfactual_median_distance_ratio", LABELS] == known.figures.median_l1
    assert out["counterfactual_correlation_difference_high_ratio", LABELS] == known.figures.correlation_difference.high
    assert (out["counterfactual_network_rows", LABELS], out["counterfactual_queries", LABELS]) == (40, 3)
    assert out["counterfactual_attribute_gap_low_ratio", MARK] == known.gaps[0].gap.low
    assert [out[f"counterfactual_{share}_ratio", LABELS] for share in ("jpeg", "witness", "adversarial")] == [1, 1, 0]
    assert out["counterfactual_distance", (*LABELS, "KID")] == 0.1
    assert out["counterfactual_likeness_ratio", (*LABELS, "S3")] == 0.9
    assert out["counterfactual_set_images", (*LABELS, "S3")] == 40
    assert ("counterfactual_distance", (*LABELS, "FID")) not in out  # refused
    assert out["counterfactual_diversity", (*LABELS, "l1")] == 0.25
    assert [out[f"counterfactual_breach{end}", MARK] for end in ("", "_runs", "_strong")] == [1, 1, 1]


def test_of_two_levels_each_has_its_own_sign_and_core_has_no_breach(known):
    out = samples(known)
    absent = (*LABELS, "square", "watermark=absent", "artefact")
    assert out["counterfactual_attribute_gap_ratio", absent] == -out["counterfactual_attribute_gap_ratio", MARK]
    assert out["counterfactual_breach", absent] == 0
    shape = (*LABELS, "square", "shape=square", "core")
    assert ("counterfactual_attribute_gap_ratio", shape) in out
    assert ("counterfactual_breach", shape) not in out


def test_attributes_in_breach_are_the_last_to_be_left_out(known):
    """Under the cap idle attributes go first, and the number of lost series is told."""
    whole = len(samples(known))
    out = samples(known, per_audit=whole - 10)
    assert out["counterfactual_breach", MARK] == 1
    assert out["series_dropped", ("ham", "1", "lesion")] > 0
    gaps = [labels for name, labels in out if name == "counterfactual_attribute_gap_ratio"]
    assert len(gaps) < 7


def test_of_too_few_flips_there_is_no_correlation_difference(known):
    """Also where an older version computed one."""
    few = replace(known, gaps=tuple(replace(gap, towards=7, away=3) for gap in known.gaps))
    assert not [name for name, _ in samples(few) if "correlation_difference" in name]


def test_what_was_not_measured_has_no_series(known):
    bare = replace(
        known.figures,
        flip_ratio=None,
        free_ratio=None,
        median_l1=None,
        correlation_difference=None,
        network_rows=None,
        queries=None,
        jpeg_ratio=None,
        witness_ratio=None,
        adversarial_ratio=None,
    )
    empty = replace(known, figures=bare, gaps=(), sets=known.sets[:1], diversity=replace(known.diversity, value=None))
    names = {name for name, _ in samples(empty) if name.startswith("counterfactual")}
    assert names == {"counterfactual_images", "counterfactual_flips"}
    assert not [name for name, _ in samples(None) if name.startswith("counterfactual")]
