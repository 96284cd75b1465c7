"""Verdicts on scores whose effects are known."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import StoreError
from audit_plugin.core.shortcut_results import ShortcutVerdict, from_json, to_json
from audit_plugin.methods.shortcut import ShortcutOptions, ShortcutRow, shortcut_report

QUICK = ShortcutOptions(resamples=300)


def world(n, effect, *, editor=0.01, irrelevant=0.01, failed=0, seed=0):
    """Scores that gain ``effect`` where the concept is there, less it where flipped; the editor's own noise has the given spread."""
    rng = np.random.default_rng(seed)
    rows = []
    for at in range(n):
        has = at % 2 == 0
        base = 0.5 + 0.1 * rng.uniform(-1, 1)
        before = base + (effect / 2 if has else -effect / 2)
        good = at >= failed
        after = before + (-effect if has else effect) * good
        noise = rng.normal(0, editor, 3)
        rows.append(
            ShortcutRow(
                image=f"i{at}",
                has_concept=has,
                before=before,
                after=float(np.clip(after + noise[0], 0, 1)),
                floor=float(np.clip(before + noise[1], 0, 1)),
                irrelevant=float(np.clip(before + noise[2] * irrelevant / editor, 0, 1)),
                flipped_by_guide=good or at % 4 == 0,
                flipped_by_oracle=good,
                positive=bool(base > 0.5),
            )
        )
    return rows


def test_effects_are_means_over_rows():
    """Four images by hand."""
    known = {"flipped_by_guide": True, "flipped_by_oracle": True}
    rows = [
        ShortcutRow(image="a", has_concept=True, before=0.9, after=0.5, floor=0.8, irrelevant=0.9, positive=True, **known),
        ShortcutRow(image="b", has_concept=True, before=0.7, after=0.5, floor=0.7, irrelevant=0.6, positive=False, **known),
        ShortcutRow(image="c", has_concept=False, before=0.2, after=0.8, floor=0.3, irrelevant=None, positive=False, **known),
        ShortcutRow(image="d", has_concept=False, before=0.4, after=0.4, floor=None, irrelevant=0.5, positive=True, **known),
    ]
    found = shortcut_report(rows, concept="c", options=replace(QUICK, least=2))
    effects = found.effects
    assert effects.mad.value == pytest.approx((0.4 + 0.2 + 0.6 + 0) / 4)
    assert effects.mad_floor.value == pytest.approx((0.1 + 0 + 0.1) / 3)
    assert effects.over_floor.value == pytest.approx((0.3 + 0.2 + 0.5) / 3)  # paired: only images that have both
    assert effects.over_irrelevant.value == pytest.approx((0.4 + 0.1 - 0.1) / 3)
    assert (effects.md_with.value, effects.md_without.value) == pytest.approx((0.3, -0.3))
    assert (effects.mad_with.value, effects.mad_without.value) == pytest.approx((0.3, 0.3))
    before, after = np.array([0.9, 0.7, 0.2, 0.4]), np.array([0.5, 0.5, 0.8, 0.4])
    assert effects.cosine.value == pytest.approx(before @ after / np.linalg.norm(before) / np.linalg.norm(after))
    assert effects.auroc.value == pytest.approx(0.75)  # of four pairs only (d, b) is in the wrong order
    assert effects.auroc_flipped.value == pytest.approx((0.5 + 0 + 0 + 0) / 4)


@pytest.mark.parametrize(
    ("effect", "more", "verdict"),
    [
        (0.3, {}, ShortcutVerdict.SHORTCUT),
        (0.0, {}, ShortcutVerdict.NONE),
        (0.058, {}, ShortcutVerdict.INCONCLUSIVE),
        (0.3, {"irrelevant": 0.5}, ShortcutVerdict.INCONCLUSIVE),  # anything moves this model
        (0.0, {"editor": 0.1, "irrelevant": 0.1}, ShortcutVerdict.NONE),  # a rough editor is no shortcut
    ],
)
def test_verdicts(effect, more, verdict):
    found = shortcut_report(world(80, effect, **more), concept="ruler", irrelevant="colour", options=QUICK)
    assert found.verdict is verdict, found.summary
    assert "ruler" in found.summary
    assert found.summary.count(".") >= 1


def test_signs_say_which_way():
    """The concept raises the score: losing it lowers, gaining it raises."""
    effects = shortcut_report(world(80, 0.3), concept="c", options=QUICK).effects
    assert effects.md_with.low > 0.25
    assert effects.md_without.high < -0.25


def test_unverified_flips_count_but_have_no_effect():
    """20 of 100 edits failed: the effect is that of the others, the released variant is diluted."""
    rows = world(100, 0.3, failed=20)
    found = shortcut_report(rows, concept="c", options=QUICK)
    assert (found.counts.images, found.counts.verified, found.counts.used) == (100, 80, 80)
    assert found.counts.flipped_by_guide == 85
    assert found.flip_rate_oracle.value == 0.8
    assert found.effects.mad.value == pytest.approx(0.3, abs=0.01)
    assert found.mad_as_released.value == pytest.approx(0.24, abs=0.01)
    everything = shortcut_report(rows, concept="c", options=replace(QUICK, everything=True))
    assert everything.counts.used == 100
    assert everything.effects.mad.value == pytest.approx(0.24, abs=0.01)
    assert any("20 unverified" in note for note in everything.notes)


def test_leaks_are_no_shortcuts():
    """A third of the edits moves the object as well, which is all that this model sees: left out, nothing is left of the effect."""
    rows = [replace(row, after=row.after - 0.3, leaked=True) if at % 3 == 0 else row for at, row in enumerate(world(90, 0.0))]
    found = shortcut_report(rows, concept="c", options=QUICK)
    assert (found.counts.leaked, found.counts.used) == (30, 60)
    assert found.verdict is ShortcutVerdict.NONE
    blind = shortcut_report([replace(row, leaked=False) for row in rows], concept="c", options=QUICK)
    assert blind.verdict is not ShortcutVerdict.NONE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows[:29],
        lambda rows: [replace(row, flipped_by_oracle=None) for row in rows],
        lambda rows: [replace(row, flipped_by_guide=False) for row in rows],
        lambda rows: [replace(row, floor=None) for row in rows],
        lambda rows: [replace(row, irrelevant=None) for row in rows],
        lambda rows: [replace(row, unit=f"patient {at % 10}") for at, row in enumerate(rows)],
    ],
    ids=["few images", "no oracle", "no flips", "no floor", "no irrelevant concept", "few patients"],
)
def test_without_enough_flips_or_controls_nothing_is_said(spoil):
    found = shortcut_report(spoil(world(60, 0.3)), concept="c", options=QUICK)
    assert found.verdict is ShortcutVerdict.INSUFFICIENT
    assert found.summary.startswith("Nothing can be said about c")


def test_images_of_one_patient_are_one_unit():
    """Copies of every image make no interval narrower."""
    once = world(40, 0.2, editor=0.05, irrelevant=0.05)
    copies = [replace(row, seed=seed) for row in once for seed in range(4)]
    narrow, same = (shortcut_report(rows, concept="c", options=QUICK).effects.over_floor for rows in (once, copies))
    assert same.high - same.low == pytest.approx(narrow.high - narrow.low, rel=0.15)


def test_intervals_cover_the_effect():
    """Beyond the floor a known mean, over 80 audits; 95 % nominal, at least 88 % of them."""
    hits = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        rows = [
            replace(row, before=0.5, floor=0.5, after=0.5 + float(rng.uniform(0, 0.4)), flipped_by_oracle=True)
            for row in world(40, 0.0)
        ]
        found = shortcut_report(rows, concept="c", seed=str(seed), options=QUICK).effects.over_floor
        hits += found.low <= 0.2 <= found.high
    print("covered", hits / 80)
    assert hits >= 70


def test_models_without_the_shortcut_are_not_accused():
    """60 null models under a rough editor: at most one is called a shortcut."""
    found = [
        shortcut_report(world(40, 0.0, editor=0.1, irrelevant=0.1, seed=seed), concept="c", options=ShortcutOptions(resamples=200))
        for seed in range(60)
    ]
    accused = sum(each.verdict is ShortcutVerdict.SHORTCUT for each in found)
    print("accused", accused)
    assert accused <= 1


def test_labels_are_optional():
    found = shortcut_report([replace(row, positive=None) for row in world(40, 0.3)], concept="c", options=QUICK)
    assert found.effects.auroc is None
    assert found.verdict is ShortcutVerdict.SHORTCUT


def test_one_direction_alone_is_said():
    rows = [row for row in world(80, 0.3) if row.has_concept]
    found = shortcut_report(rows, concept="c", options=QUICK)
    assert found.effects.md_without is None
    assert any("one direction" in note for note in found.notes)


def test_results_come_back_from_json():
    found = shortcut_report(world(40, 0.3), concept="c", seed="s", options=QUICK)
    assert from_json(to_json(found)) == found
    with pytest.raises(StoreError, match="not a shortcut result"):
        from_json("{}")


def test_the_seed_decides_the_numbers():
    first, again, other = (shortcut_report(world(40, 0.3), concept="c", seed=seed, options=QUICK) for seed in ("a", "a", "b"))
    assert first == again
    assert first.effects.over_floor != other.effects.over_floor


def test_nonsense_is_refused():
    rows = world(4, 0.1)
    with pytest.raises(ValueError, match="no images"):
        shortcut_report([], concept="c")
    with pytest.raises(ValueError, match="comes twice"):
        shortcut_report([rows[0], rows[0]], concept="c")
    with pytest.raises(ValueError, match="'i0' are not all probabilities"):
        shortcut_report([replace(rows[0], after=1.2)], concept="c")
    with pytest.raises(ValueError, match="margin"):
        ShortcutOptions(margin=0.0)
