"""A classifier that depends on nothing is left in peace: its answer to a picture is noise, keyed by the picture's bytes."""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from audit_plugin.core.diffex_results import EffectState, ScoreKind
from audit_plugin.methods.diffex import CombineOptions, DiffexOptions, EstimateOptions, RaceOptions, run_diffex
from tests.methods.diffex.toy import LABELS, TREE, ToyArms, of_background

REPEATS = 60
POOL = [f"square-{at}" for at in range(20)]
OPTIONS = DiffexOptions(
    score=ScoreKind.LOGITS,
    race=RaceOptions(keep=5),
    combine=CombineOptions(terms=0),
    estimate=EstimateOptions(draws=50, flips=999),
    placebos=(),
    seed_pilot=0,
    dose_nodes=0,
    hit_nodes=0,
    agreement_images=0,
)


def noise(key: int):
    """Weights drawn once, by ``key``; a scorer of pictures whose logits are the same for the same bytes and independent of all else."""

    def scored(picture: np.ndarray) -> Sequence[float]:
        drawn = hashlib.blake2b(picture.tobytes(), digest_size=8, key=key.to_bytes(8)).digest()
        return tuple(np.random.default_rng(int.from_bytes(drawn)).normal(size=2))

    return scored


def found(classifier, seed):
    """Nodes that are said to have an effect."""
    told = run_diffex(
        ToyArms(classifier),
        TREE,
        POOL,
        ["square"],
        labels=LABELS,
        classes_of=dict.fromkeys(POOL, "square"),
        options=OPTIONS,
        seed=seed,
    )
    assert len(told.classes[0].nodes) == len(TREE.nodes)
    return [one.node for one in told.classes[0].nodes if one.state is EffectState.EFFECT]


def test_a_classifier_without_any_dependence_is_rarely_accused():
    """False discovery rate .05: with nothing to find, any finding is false, and one audit in twenty has one.

    As many are allowed as chance gives in one run of a hundred at most; the same small audit finds what there is to find.
    """
    accused = sum(bool(found(noise(seed), seed)) for seed in range(REPEATS))
    assert accused <= binom.ppf(0.99, REPEATS, 0.05)
    assert found(of_background, 0) == ["background"]
