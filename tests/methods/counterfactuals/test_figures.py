"""Figures over many counterfactuals, on flips whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.values import Role
from audit_plugin.methods.counterfactuals import figures, gaps, summary, why_no_gaps
from audit_plugin.methods.counterfactuals.attributes import moves
from tests.methods.counterfactuals.flips import flip, shortcut


def by_name(found):
    return {one.attribute: one for one in found}


def test_every_figure_is_of_its_own_images():
    """Ratios of all images, of flips, and of those flips that somebody looked at."""
    items = [
        flip(0, l1=0.1, jpeg=True, witness=True),
        flip(1, l1=0.3, jpeg=False, witness=None),
        flip(2, l1=0.2, jpeg=True, witness=False, free=True),
        flip(3, flipped=False, jpeg=None, after=0.2, l1=0.9, network_rows=120, queries=11),
    ]
    told = figures(items, seconds=30.0, couts=[0.2, 0.4])
    assert (told.images, told.flips, told.flip_ratio.value, told.free_ratio.value) == (4, 3, 0.75, 0.25)
    assert (told.jpeg_ratio.value, told.witness_ratio.value) == (pytest.approx(2 / 3), 0.5)
    assert (told.median_l1, told.seconds, told.cout) == (0.2, 10.0, pytest.approx(0.3))
    assert told.bounded_kl == pytest.approx((3 * 0.1 + 0.8) / 4)
    assert (told.network_rows, told.queries) == (60, 5)
    assert told.flip_ratio.low < 0.75 < told.flip_ratio.high
    assert told.correlation_difference is told.changed_attributes is told.noise_floor is None


def test_nothing_asked_and_nothing_flipped():
    """No figure is made up."""
    told = figures([])
    assert (told.images, told.flip_ratio, told.bounded_kl, told.network_rows) == (0, None, None, None)
    missed = figures([flip(0, flipped=False, jpeg=None)], seconds=9.0)
    assert (missed.flip_ratio.value, missed.jpeg_ratio, missed.median_l1, missed.seconds) == (0, None, None, None)


def test_images_with_several_targets_count_once_in_intervals():
    """Three targets of one image are not three images."""
    once = figures([flip(at, flipped=at < 10, jpeg=None) for at in range(20)])
    thrice = figures([flip(at, flipped=at < 10, jpeg=None) for at in range(20) for _ in range(3)])
    assert thrice.flip_ratio == once.flip_ratio
    assert thrice.images == 20


def test_the_planted_attribute_has_the_gap_and_no_other():
    """The watermark comes and goes with the decision, far beyond the data; the rest stands still."""
    items, attributes = shortcut()
    found = by_name(gaps(items, attributes))
    mark = found["watermark=present"]
    assert next(iter(found)) == "watermark=present"
    assert mark.gap.low > 0.5
    assert mark.r == pytest.approx(mark.gap.value + mark.rho)
    assert (mark.gained, mark.lost, mark.towards, mark.away) == (0.9, 0.9, 30, 30)
    assert (mark.concept, mark.opposite, mark.role) == ("watermark", "watermark=absent", Role.ARTEFACT)
    assert all(one.gap.low < 0.2 for name, one in found.items() if name != "watermark=present")
    # The class is the shape: surgical edits of anything else fall short of what the data tie to it.
    assert found["shape=square"].rho == pytest.approx(1)
    assert found["shape=square"].gap.high < 0


def test_levels_become_one_attribute_each_and_two_levels_one():
    """Three backgrounds are three attributes, of which a change moves two and counts as one."""
    items, attributes = shortcut(40, share=0)
    assert attributes.names == ("watermark=present", "background=plain", "background=sand", "background=grass", "shape=square")
    sand, grass = attributes.before.copy(), attributes.before.copy()
    sand[:, 1], grass[:, 1] = 1, 2
    towards = np.array([item.target == "square" for item in items])[:, None]
    moved = replace(attributes, before=np.where(towards, sand, grass), after=np.where(towards, grass, sand))
    found = by_name(gaps(items, moved))
    assert (found["background=grass"].r, found["background=sand"].r, found["background=plain"].r) == (
        pytest.approx(1),
        pytest.approx(-1),
        0,
    )
    assert found["background=grass"].opposite == ""
    assert figures(items, attributes=moved).changed_attributes == 2


def test_flips_that_all_go_one_way_are_judged_too():
    """About zero instead of about the mean, which would leave nothing to correlate with."""
    items, attributes = shortcut(one_way=True)
    (mark, *_) = gaps(items, attributes)
    assert mark.attribute == "watermark=present"
    assert mark.gap.low > 0.5
    assert (mark.away, mark.lost) == (0, 0.0)
    assert figures(items, attributes=attributes).correlation_difference is not None


def test_correlation_difference_stands_beside_what_chance_makes():
    """Of a planted shortcut it is larger than of edits that change nothing else, and unlikely by chance."""
    items, attributes = shortcut()
    told = figures(items, attributes=attributes)
    assert told.correlation_difference.low <= told.correlation_difference.value <= told.correlation_difference.high
    assert told.correlation_difference.value > told.no_side_change + 0.5
    assert told.noise_floor > 0
    assert told.chance < 0.01
    assert told == figures(items, attributes=attributes)


def test_of_too_few_flips_there_is_their_count_and_no_correlation_difference():
    """Nor what it would be judged by."""
    few, enough = (figures(items, attributes=attributes) for items, attributes in (shortcut(18), shortcut(20)))
    assert (few.turning_flips, enough.turning_flips) == (18, 20)
    assert few.correlation_difference is few.no_side_change is few.noise_floor is few.chance is None
    assert enough.correlation_difference is not None


def test_what_did_not_flip_and_what_is_about_other_classes_stays_outside():
    """Their readings may say anything."""
    items, attributes = shortcut()
    more = [*items, flip(90, flipped=False, jpeg=None), replace(flip(91), original="star", target="circle")]
    junk = np.array([[0, 0, 0], [0, 0, 0]])
    wider = replace(
        attributes, before=np.concatenate([attributes.before, junk]), after=np.concatenate([attributes.after, 1 - junk])
    )
    assert gaps(more, wider) == gaps(items, attributes)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"before": np.zeros((0, 3), dtype=np.int64), "after": np.zeros((0, 3), dtype=np.int64)}, "fewer than two images flip"),
        ({"classes": ("circle",) * 400}, "reference images"),
    ],
)
def test_it_says_why_nothing_is_known_of_what_changes_along(change, why):
    items, attributes = shortcut()
    lacking = replace(attributes, **change)
    asked = items[: len(lacking.before)]
    assert why in why_no_gaps(asked, lacking)
    assert gaps(asked, lacking) == ()
    assert figures(asked, attributes=lacking).correlation_difference is None
    assert "no detectors" in why_no_gaps(items, None)


def test_readings_must_fit():
    """A missing row is an error, not a shift of all others."""
    items, attributes = shortcut()
    with pytest.raises(ValueError, match="3 concepts before and after"):
        replace(attributes, after=attributes.after[1:])
    with pytest.raises(ValueError, match="need readings of 59"):
        moves(items[1:], attributes)


def test_the_sentence_names_method_rung_ratio_distance_and_what_goes_along():
    items, attributes = shortcut()
    said = summary(
        figures(items, attributes=attributes), gaps(items, attributes), method="fastdime", rung="twin", positive="square"
    )
    assert said.startswith(
        "fastdime (gradient: twin) flips 100% of 60 images (95 % interval 94% to 100%) at a median distance of 0.04"
    )
    assert "with 'square' watermark=present changes along most, at a correlation of +0.9" in said


def test_the_sentence_turns_a_concept_of_two_levels_the_way_it_goes():
    """Losing the watermark on the way to the class is said as its absence."""
    items, attributes = shortcut()
    mirrored = replace(attributes, before=1 - attributes.before % 2, after=1 - attributes.after % 2)
    said = summary(figures(items, attributes=mirrored), gaps(items, mirrored), method="dvce", rung="free", positive="square")
    assert "watermark=absent changes along most, at a correlation of +0.9" in said
