"""What a flip did not need goes back to the original, and nothing else does."""

import torch

from engines.guided.trimming import candidates, keeps_flip, least_changed

ORIGINAL = torch.full((1, 3, 12, 12), 0.5)


def edited(*spots):
    made = ORIGINAL.clone()
    for row, column, change in spots:
        made[:, :, row, column] += change
    return made


def test_small_changes_go_back_first():
    both = edited((2, 2, 0.4), (9, 9, 0.1))
    (tried,) = candidates(ORIGINAL, both, ORIGINAL, (0.5, 0.2), dilation=1)
    assert torch.equal(tried[0], edited((2, 2, 0.4))[0])
    assert torch.equal(tried[1], both[0])


def test_what_the_editor_does_unasked_is_no_reason_to_keep_a_change():
    """Both spots changed; one of them did so with nobody to guide it."""
    floor, made = edited((9, 9, 0.4)), edited((2, 2, 0.2), (9, 9, 0.4))
    (tried,) = candidates(ORIGINAL, made, floor, (0.5,), dilation=1)
    assert torch.equal(tried[0], edited((2, 2, 0.2))[0])


def test_a_variation_that_nobody_guided_is_told_apart_from_its_original():
    free = edited((2, 2, 0.4), (9, 9, 0.1))
    (tried,) = candidates(ORIGINAL, free, free, (0.5,), dilation=1)
    assert torch.equal(tried[0], edited((2, 2, 0.4))[0])


def test_what_stays_is_widened():
    made = edited((5, 5, 0.4), (5, 6, 0.1), (5, 8, 0.1))
    (tried,) = candidates(ORIGINAL, made, ORIGINAL, (0.5,), dilation=3)
    assert torch.equal(tried[0], edited((5, 5, 0.4), (5, 6, 0.1))[0])


def test_the_nearest_that_still_flips_is_taken():
    tried = torch.stack([edited((2, 2, change))[0] for change in (0.1, 0.2, 0.3)])[None]
    assert least_changed(ORIGINAL, tried, torch.tensor([[False, True, True]])) == [1]
    assert least_changed(ORIGINAL, tried, torch.tensor([[False, False, False]])) == [None]


def test_the_likeliest_class_decides_whether_a_flip_is_kept():
    """Of four classes 0.4 may be the most; of two nothing below one half is.  A plan that asks for more than one half gets it."""
    told = torch.tensor([0.4, -0.4, 0.5, 0.95])
    assert keeps_flip(told, 0.5).tolist() == [True, False, True, True]
    assert keeps_flip(told, 0.9).tolist() == [False, False, False, True]
