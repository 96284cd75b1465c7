import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from audit_plugin.bank.table import BankTable
from audit_plugin.core.values import Row
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.sources.scenes import coloured_shapes as shapes
from audit_plugin.statistics.flip_table import FlipTable, importance
from audit_plugin.statistics.metrics import METRICS


def test_the_detector_reads_every_picture_right():
    """800 pictures, no error."""
    values = shapes.draw_values(800, np.random.default_rng(0))
    assert all((shapes.read(shapes.render(seed, row)) == row).all() for seed, row in enumerate(values.tolist()))


def test_setting_one_concept_changes_that_shape_only():
    """Pixels that differ lie where the shape is, all others are the same bytes."""
    for seed in range(60):
        values = [seed >> k & 1 for k in range(6)]
        for k in range(6):
            off, on = ([*values[:k], v, *values[k + 1 :]] for v in (0, 1))
            before, after = shapes.render(seed, off), shapes.render(seed, on)
            changed = (before != after).any(2)
            assert changed.any()
            assert (after[changed] == shapes.COLOURS[shapes.NAMES[k].split()[0]]).all()


def test_presence_and_correlation_follow_the_copula():
    """Shares as asked; tied pairs correlate, others do not."""
    values = shapes.draw_values(20_000, np.random.default_rng(1), correlation=0.7)
    assert np.allclose(values.mean(0), shapes.PRESENCE, atol=0.015)
    seen = np.corrcoef(values.T)
    assert seen[0, 1] > 0.35
    assert seen[2, 4] > 0.25
    assert abs(seen[0, 2]) < 0.03


def test_captions_name_what_is_there_and_may_be_empty():
    """Every subset has its own caption."""
    every = [tuple(code >> k & 1 for k in range(6)) for code in range(64)]
    assert len({shapes.caption(values) for values in every}) == 64
    assert shapes.caption((0,) * 6) == ""


def test_a_perfect_generator_obeys_and_others_fail_as_told():
    """Share of pictures that show the caption: all, fewer with deafness or leaks, fewer shapes read when they fade away."""
    values = shapes.draw_values(150, np.random.default_rng(2))
    captions = [shapes.caption(row) for row in values.tolist()]

    def obedience(generator):
        seen = shapes.ShapeDetector().read(generator.generate(captions, range(150)))
        return np.mean([seen[c.name].argmax(1) == values[:, k] for k, c in enumerate(shapes.CONCEPTS)])

    assert obedience(shapes.ShapeGenerator()) == 1.0
    assert 0.6 < obedience(shapes.ShapeGenerator(obeys=(0.5,) * 6)) < 0.9
    assert 0.9 < obedience(shapes.ShapeGenerator(leaks=0.3)) < 0.97
    assert obedience(shapes.ShapeGenerator(fade=0.6)) < 0.9


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_audits_with_a_perfect_generator_agree_with_the_permutation_oracle(correlation):
    """Through pixels: drawn, read by the target's own eye, audited; Spearman at least 0.99 and the first concept right, 8 targets."""
    rng = np.random.default_rng(3)
    values = shapes.draw_values(150, rng, correlation=correlation)
    eyes = _pictures_seen(values, shapes.ShapeGenerator())
    for _ in range(8):
        target, noise = shapes.draw_target(rng), rng.normal(0, 0.3, len(values))
        labels = target.labels(values, rng)
        report = audit(
            _table(values, labels), _scores(eyes, target, noise), label="task", classes=("no", "yes"), seed="shapes",
            options=DepictOptions(resamples=50, adjusted_resamples=2),
        )  # fmt: skip
        ours = np.array([report.concept(concept.name).importance.value for concept in shapes.CONCEPTS])
        oracle = np.array([_oracle(values, labels, target, noise, k) for k in range(6)])
        assert spearmanr(rankdata(ours.round(9)), rankdata(oracle.round(9))).statistic >= 0.99
        assert ours.argmax() == oracle.argmax()


def _name(row, k=None):
    return f"base-{row}" if k is None else f"flip-{k}-{row}"


def _pictures_seen(values, generator):
    """Name of each picture of the flip table -> what the colour mask sees in it."""
    wanted = {}
    for row, own in enumerate(values.tolist()):
        wanted[_name(row)] = (own, row)
        for k in range(6):
            wanted[_name(row, k)] = ([*own[:k], 1 - own[k], *own[k + 1 :]], row)
    images = generator.generate([shapes.caption(v) for v, _ in wanted.values()], [seed for _, seed in wanted.values()])
    read = shapes.ShapeDetector().read(images)
    seen = np.stack([read[concept.name].argmax(1) for concept in shapes.CONCEPTS], 1)
    return dict(zip(wanted, seen, strict=True))


def _scores(eyes, target, noise):
    """Probabilities by picture; the noise belongs to the row."""
    rows = np.array([int(name.split("-")[-1]) for name in eyes])
    p = 1 / (1 + np.exp(-target.score(np.stack(list(eyes.values())), noise[rows])))
    return dict(zip(eyes, np.stack([1 - p, p], 1), strict=True))


def _table(values, labels):
    rows = range(len(values))
    baseline = np.array([_name(row) for row in rows], "<U64")
    flips = {
        concept.name: np.array(
            [[_name(row) if values[row, k] == level else _name(row, k) for row in rows] for level in (0, 1)], "<U64"
        )
        for k, concept in enumerate(shapes.CONCEPTS)
    }
    described = tuple(
        Row(id=f"{row}", values=tuple(values[row].tolist()), labels={"task": ("no", "yes")[labels[row]]}) for row in rows
    )
    return BankTable(concepts=shapes.CONCEPTS, rows=described, baseline=baseline, flips=flips)


def _oracle(values, labels, target, noise, k):
    """Importance in concept space, with the known scoring function and exact flips."""

    def two(shown):
        p = 1 / (1 + np.exp(-target.score(shown, noise)))
        return np.stack([1 - p, p], 1)

    levels = []
    for level in (0, 1):
        shown = values.copy()
        shown[:, k] = level
        levels.append(two(shown))
    table = FlipTable(baseline=two(values), flips=np.stack(levels, 1), values=values[:, k], labels=labels)
    return importance(table, METRICS["auroc"])
