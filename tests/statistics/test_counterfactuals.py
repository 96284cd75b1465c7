"""Hand-worked distances, the cells that each metric uses, and nonsense refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_plugin.statistics.counterfactuals import (
    SUBSETS,
    attribute_changes,
    bounded_kl,
    closeness,
    departed,
    diversity,
    run_distances,
    share,
    valid,
)
from audit_plugin.statistics.intervals import wilson

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.0, 1.0, 0.0]])


def test_flip_rate_counts_first_classes_that_are_the_target():
    """Three of four; the tie in the third row goes to the first class, which is not its target."""
    found = share(valid(PROBABILITIES, np.array([0, 2, 1, 1])))
    assert (found.rate, found.n) == (wilson(3, 4), 4)


def test_bounded_kl_is_what_the_target_lacks():
    """Mean of 0.3, 0.3, 0.6 and 0."""
    assert bounded_kl(PROBABILITIES, np.array([0, 2, 1, 1])) == pytest.approx(0.3)


def test_leaving_a_class_is_not_reaching_the_target():
    before = np.tile([1.0, 0.0, 0.0], (4, 1))
    assert departed(before, PROBABILITIES).tolist() == [False, True, False, True]
    assert valid(PROBABILITIES, np.full(4, 1)).tolist() == [False, False, False, True]


def test_distances_of_one_changed_pixel():
    """Two of three channels of one of four pixels move by 51/255 = 0.2 and 102/255 = 0.4."""
    before = np.full((1, 3, 2, 2), 100, np.uint8)
    after = before.copy()
    after[0, 0, 1, 1], after[0, 2, 1, 1] = 49, 202
    found = closeness(before, after)
    assert found.l1.tolist() == pytest.approx([0.6 / 12])
    assert found.l2.tolist() == pytest.approx([np.sqrt(0.04 + 0.16)])
    assert found.linf.tolist() == pytest.approx([0.4])
    assert found.changed.tolist() == [0.25]


@pytest.mark.parametrize(("step", "changed"), [(12, 0.0), (13, 1.0)])
def test_a_pixel_is_changed_above_a_twentieth(step, changed):
    """12/255 is 0.047, 13/255 is 0.051; falling counts like rising, and 8-bit subtraction does not wrap."""
    before = np.full((1, 3, 2, 2), 10, np.uint8)
    assert closeness(before, before + np.uint8(step)).changed[0] == changed
    assert closeness(before + np.uint8(step), before).changed[0] == changed


@given(st.integers(0, 2**32 - 1))
def test_distances_are_symmetric_and_ordered(seed):
    """ℓ1 ≤ ℓ2/√size ≤ ℓ∞, for any two images."""
    one, other = np.random.default_rng(seed).integers(0, 256, (2, 3, 3, 4, 5), dtype=np.uint8)
    there, back = closeness(one, other), closeness(other, one)
    for name in ("l1", "l2", "linf", "changed"):
        np.testing.assert_array_equal(getattr(there, name), getattr(back, name))
    assert (there.l1 <= there.l2 / np.sqrt(60) + 1e-12).all()
    assert (there.l2 / np.sqrt(60) <= there.linf + 1e-12).all()


def test_mnac_of_the_conformance_rows():
    """1.375 with the queried attribute, which 7 of 8 edits change; half an attribute beside it."""
    before, after = (
        np.array([[int(c) for c in row] for row in rows.split()])
        for rows in ("000 110 001 111 010 100 000 111", "110 000 101 011 111 000 110 111")
    )
    found = attribute_changes(before, after, 0)
    assert (found.value, found.side, found.n, found.attributes) == (1.375, 0.5, 8, 3)


def test_each_metric_takes_its_own_cells():
    """One pair of each cell: CC-CCF, CC-ICF, IC-CCF, IC-ICF."""
    correct, reached = np.array([True, True, False, False]), np.array([True, False, True, False])
    rows = {name: subset.rows(correct, reached).tolist() for name, subset in SUBSETS.items()}
    assert rows["FR"] == [True] * 4
    assert rows["CD"] == rows["MNAC"] == rows["FID"] == rows["FVA"] == [True, False, True, False]
    assert rows["COUT"] == rows["S3"] == [True, True, False, False]
    assert SUBSETS["FID"].originals(correct).all()
    assert [str(SUBSETS[name]) for name in ("FR", "FID", "COUT")] == ["CC+IC, CCF+ICF", "CC+IC, CCF", "CC, CCF+ICF"]


def test_diversity_leaves_out_images_whose_cell_changes():
    """Three runs at 0, 1, 3: mean distance 2; the second image misses its target once, the third always, which is one cell."""
    places = np.array([[0.0, 0, 0], [1.0, 9, 1], [3.0, 0, 3]])
    runs = np.broadcast_to(places[:, :, None, None, None], (3, 3, 1, 2, 2)).copy()
    distances = run_distances(runs, lambda a, b: np.abs(a - b).mean((1, 2, 3)))
    reached = np.array([[True, True, False], [True, False, False], [True, True, False]])
    found = diversity(distances, np.array([True, True, False]), reached)
    assert (found.value, found.images, found.left_out, found.runs) == (2.0, 2, 1, 3)


def test_diversity_of_nothing_is_unknown():
    found = diversity(np.zeros((1, 2, 2)), np.array([True]), np.array([[True], [False]]))
    assert np.isnan(found.value)
    assert found.images == 0


def test_nonsense_is_refused():
    picture = np.zeros((1, 3, 2, 2), np.uint8)
    flags = np.array([True])
    with pytest.raises(ValueError, match="targets lie in 0 to 2"):
        valid(PROBABILITIES, np.array([0, 1, 2, 3]))
    with pytest.raises(ValueError, match="one target per row"):
        bounded_kl(PROBABILITIES, np.array([0]))
    with pytest.raises(ValueError, match="as many originals"):
        departed(PROBABILITIES, PROBABILITIES[:2])
    with pytest.raises(ValueError, match="one shape"):
        closeness(picture, np.zeros((1, 3, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="0 or 1"):
        attribute_changes(np.array([[0, 2]]), np.array([[0, 1]]), 0)
    with pytest.raises(ValueError, match="one of 0 to 1"):
        attribute_changes(np.array([[0, 1]]), np.array([[0, 1]]), 2)
    with pytest.raises(ValueError, match="one flag of each kind"):
        SUBSETS["CD"].rows(flags, np.array([True, False]))
    with pytest.raises(ValueError, match="R > 1"):
        diversity(np.zeros((1, 1, 1)), flags, np.array([[True]]))
    with pytest.raises(ValueError, match="symmetric"):
        diversity(np.array([[[0.0, 1.0], [2.0, 0.0]]]), flags, np.array([[True], [True]]))
    with pytest.raises(ValueError, match="n > 0"):
        share(np.array([], dtype=bool))
