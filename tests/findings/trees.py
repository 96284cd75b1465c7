"""Small concept trees with their effects, for the tests of findings, metrics and report."""

from dataclasses import replace

from audit_plugin.core.confirm import VerifierPrecision
from audit_plugin.core.diffex_results import (
    Chosen,
    ClassEffects,
    DiffexResult,
    DriftResult,
    EditQuality,
    EffectState,
    NodeDrift,
    NodeEffect,
    OperatorAgreement,
    ScoreKind,
    SearchSummary,
    SpuriousHits,
    StabilityResult,
    VersionDrift,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.tree import NodeKind

GOOD = EditQuality(attempts=128, valid=0.9, ambiguous=0.02, failures={"V1": 0.06, "V2": 0.04})
NUISANCE, ARTEFACT, PROTECTED = NodeKind.NUISANCE, NodeKind.ARTEFACT, NodeKind.PROTECTED
CORE, QUALITY = NodeKind.CORE, NodeKind.QUALITY


def around(value, half=0.1):
    """An estimate with a symmetric interval."""
    return Estimate(value=value, low=value - half, high=value + half)


def node(path="scene/ruler", kind=ARTEFACT, effect=0.6, **changes):
    """A node with an effect on the class "malignant"; ``spuriousness`` 0.4 unless told otherwise."""
    base = NodeEffect(
        node=path, kind=kind, class_name="malignant", chosen=Chosen.SURVIVOR, images=64, effect=around(effect),
        probability=around(effect / 5, 0.02), standardised=1.2, p=0.001, q=0.004, p_holm=None, state=EffectState.EFFECT, flags=(),
        flip_rate=around(0.2), flips=0.22, responders=0.7, quantiles=(0.1, effect, 1.1), spuriousness=0.4, spurious_images=60,
        spurious_ratio=0.3, counter=None, quality=GOOD, seed_icc=None, operators=("deterministic",),
    )  # fmt: skip
    return replace(base, **changes)


def hits_of(path, images=80, **changes):
    """Images with that cue alone, of which 60 % are taken for the class."""
    base = SpuriousHits(
        class_name="malignant", node=path, images=images, hit_ratio=around(0.6), auc=0.55, average_precision=0.5, enough=images >= 75,
        made_of={"cue added": images - 30, "cue there": 30},
    )  # fmt: skip
    return replace(base, **changes)


def class_effects(*nodes, **changes):
    """One class with its nodes, estimated on 64 images, in good order."""
    base = ClassEffects(
        class_name="malignant", images_select=64, images_estimate=64, nodes=nodes, combinations=(), minimal_flip_set=(), coverage=(),
        sufficiency=(0.4, 0.5), unexplained=0.5, missed_effects=0.1,
        stability=StabilityResult(tau=0.8, jaccard=0.9, signs=1.0, splits=20), placebo_effect=around(0.01, 0.02),
        null_shift=around(0.02, 0.02), saturated=0.0, quality=GOOD,
        search=SearchSummary(
            mode="racing", candidates=len(nodes), edits=400, rounds=(), kept=tuple(one.node for one in nodes), sampled=()
        ),
        hits=(hits_of("scene/ruler"),),
        agreement=OperatorAgreement(
            operators=("turbo4/ab", "deterministic/1"), pairs=(("a", "b"), ("c", "d"), ("e", "f")),
            effects=((0.1, 0.2), (0.3, 0.4), (0.5, 0.4)), images=16, spearman=0.7,
        ),
    )  # fmt: skip
    return replace(base, **changes)


def drift_of(*values, version="0", images=64):
    """Change of nodes since another version, as (path, change); half of each was there before."""
    nodes = [
        NodeDrift(
            node=path, class_name="malignant", images=images, drift=around(value), p=0.001, q=0.004, significant=abs(value) > 0.1,
            old=value / 2, new=3 * value / 2,
        )
        for path, value in values
    ]  # fmt: skip
    mean = sum(abs(value) for _, value in values) / len(values)
    return VersionDrift(
        version=version, run="r0", classes=(DriftResult(class_name="malignant", nodes=tuple(nodes), mean_absolute=mean),)
    )


def tree(*nodes, **changes):
    """The result of a tree audit of one class."""
    base = DiffexResult(
        tree_digest="t0", domain="skin", score=ScoreKind.PROBS, classes=(class_effects(*nodes),), untestable=(), tree_coverage=0.8,
        editable_share=0.9, quality=GOOD, edits=2000, stopped="", seed=1,
        operators=("deterministic/1", "sim/1"), bank="b0", bank_hits=1500, drift=drift_of(("scene/ruler", 0.3)),
        verifier=VerifierPrecision(asked=20, answered=10, right=8, precision=Estimate(value=0.8, low=0.49, high=0.94)),
    )  # fmt: skip
    return replace(base, **changes)
