import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from audit_plugin.bank.table import BankTable
from audit_plugin.core.values import Row
from audit_plugin.methods.depict import DepictOptions, audit
from audit_plugin.sources.scenes import coloured_shapes as shapes


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
    assert 0.85 < obedience(shapes.ShapeGenerator(leaks=0.3)) < 0.93
    assert obedience(shapes.ShapeGenerator(fade=0.6)) < 0.9


def test_a_leak_flips_the_next_concept_in_its_share_of_flips_and_no_other():
    """And an unknown word, as a placebo is, changes nothing."""
    leaky, n = shapes.ShapeGenerator(leaks=0.3), 400
    both = [leaky.generate([text] * n, range(n)) for text in ("", "green circle", "indeed")]
    none, flipped, placebo = (np.stack([r.argmax(1) for r in shapes.ShapeDetector().read(images).values()], 1) for images in both)
    shares = (none != flipped).mean(0)
    assert shares[2] == 1.0
    assert abs(shares[3] - 0.3) < 0.08
    assert (shares[[0, 1, 4, 5]] == 0).all()
    np.testing.assert_array_equal(none, placebo)


def test_the_oracle_on_hand_made_cases():
    """Four rows, scores without noise."""
    values = np.zeros((4, 6), np.int64)
    values[:, 0] = [0, 0, 1, 1]
    labels, quiet = np.array([0, 0, 1, 1]), np.zeros(4)
    drops = shapes.permutation_oracle(shapes.ShapeTarget((1.0, 0, 0, 0, 0, 0)), values, quiet, labels)
    np.testing.assert_allclose(drops, [0.5, 0, 0, 0, 0, 0])  # a perfect model of one concept falls to chance
    drops = shapes.permutation_oracle(shapes.ShapeTarget((-1.0, 0, 0, 0, 0, 0)), values, quiet, labels)
    np.testing.assert_allclose(drops, [-0.5, 0, 0, 0, 0, 0])  # one that is always wrong gains as much
    values[:, 1] = [0, 1, 1, 1]
    drops = shapes.permutation_oracle(shapes.ShapeTarget((2.0, 1.0, 0, 0, 0, 0)), values, quiet, labels)
    # Scores 0, 1 | 3, 3: concept 1 never crosses the gap that concept 0 makes.  With concept 0 permuted, negatives score 0 or 2 and
    # 1 or 3, positives 3 or 1, equally often: a 3 wins 7 of 8 comparisons, a 1 wins 3 of 8, so the AUROC is 5/8.
    np.testing.assert_allclose(drops, [1 - 5 / 8, 0, 0, 0, 0, 0])


def test_the_oracle_is_the_mean_over_explicit_permutations():
    """Two thousand shuffles of each column, to within their noise."""
    rng = np.random.default_rng(5)
    values, noise, target = shapes.draw_values(300, rng), rng.normal(0, 0.3, 300), shapes.ShapeTarget((3.0, -1.0, 0.5, 0, 2.0, 0))
    labels = target.labels(values, rng)
    oracle = shapes.permutation_oracle(target, values, noise, labels)

    def auroc(shown):
        ranks = rankdata(target.score(shown, noise))
        ones = labels.sum()
        return (ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(labels) - ones))

    for k in (0, 1, 3, 4):
        shuffled = []
        for _ in range(2000):
            shown = values.copy()
            shown[:, k] = rng.permutation(shown[:, k])
            shuffled.append(auroc(shown))
        assert oracle[k] == pytest.approx(auroc(values) - np.mean(shuffled), abs=2e-3)


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_audits_with_a_perfect_generator_agree_with_the_permutation_oracle(correlation):
    """Through pixels: drawn, read by the target's own eye, audited; Spearman at least 0.99 and the first concept right, 3 targets."""
    rng = np.random.default_rng(3)
    values = shapes.draw_values(150, rng, correlation=correlation)
    eyes = _pictures_seen(values, shapes.ShapeGenerator())
    for _ in range(3):
        target, noise = shapes.draw_target(rng), rng.normal(0, 0.3, len(values))
        labels = target.labels(values, rng)
        report = audit(
            _table(values, labels), _scores(eyes, target, noise), label="task", classes=("no", "yes"), seed="shapes",
            options=DepictOptions(resamples=50, adjusted_resamples=2),
        )  # fmt: skip
        ours = np.array([report.concept(concept.name).importance.value for concept in shapes.CONCEPTS])
        oracle = shapes.permutation_oracle(target, values, noise, labels)
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
