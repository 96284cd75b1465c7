"""A classifier that looks at the background alone is found out, on images and edits whose truth is known; repaired, it is left in peace."""

import pytest

from audit_plugin.core.diffex_results import EffectState, ScoreKind
from audit_plugin.findings.findings import find
from audit_plugin.findings.policy import default_policy
from audit_plugin.methods.diffex import DiffexOptions, EstimateOptions, run_diffex
from audit_plugin.metrics.tree import tree_bundles
from tests.findings.examples import result
from tests.methods.diffex.toy import LABELS, TREE, ToyArms, of_background, of_shape

POOL = [f"{name}-{at}" for name in LABELS for at in range(110)]
OPTIONS = DiffexOptions(score=ScoreKind.LOGITS, images_per_class=70, estimate=EstimateOptions(draws=200, flips=499), placebos=())


def audited(classifier):
    return run_diffex(
        ToyArms(classifier),
        TREE,
        POOL,
        ["square"],
        labels=LABELS,
        classes_of={image: image.split("-")[0] for image in POOL},
        options=OPTIONS,
    )


def breaches(told, found):
    """Values of the series that the alerts read."""
    samples = [sample for _, bundle in tree_bundles(result(diffex=told, findings=found), told) for sample in bundle]
    return [sample.value for sample in samples if sample.metric.endswith("semantic_breach")]


@pytest.fixture(scope="module")
def broken():
    return audited(of_background)


def test_the_background_is_found_and_the_shape_cleared(broken):
    """Ranked first, with a spuriousness score and a share of spurious hits above one half; the shape has no effect, and that is a claim."""
    told = broken.classes[0]
    first, nodes = told.nodes[0], {one.node: one for one in told.nodes}
    assert first.node == "background"
    assert first.spuriousness > 0.5
    assert nodes["shape"].state is EffectState.NO_EFFECT
    assert [one.node for one in told.nodes if one.state is EffectState.EFFECT] == ["background"]
    (hits,) = told.hits
    assert (hits.node, hits.enough) == ("background", True)
    assert hits.images == sum(hits.made_of.values()) >= 75
    assert set(hits.made_of) == {"cue added", "cue there"}
    assert hits.hit_ratio.low > 0.5
    assert hits.auc < 0.75


def test_the_finding_comes_and_goes_with_the_fault(broken):
    found = find(result(concepts=(), diffex=broken), default_policy(), ())
    assert [one.concept for one in found] == ["background"]
    assert 1 in breaches(broken, found)
    told = audited(of_shape)
    states = {one.node: one.state for one in told.classes[0].nodes}
    assert states.pop("shape") is EffectState.EFFECT
    assert set(states.values()) == {EffectState.NO_EFFECT}
    left = find(result(concepts=(), diffex=told), default_policy(), ())
    assert left == ()
    assert set(breaches(told, left)) == {0}
    assert told.classes[0].hits_missing == "no node that should not matter pushes towards the class"
