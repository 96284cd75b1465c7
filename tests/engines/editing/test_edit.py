"""Composition of terms: what changes, where, by how much, and at what cost."""

import pytest
import torch

from engines.editing.edit import EditTerm, edit, null, rows_per_edit
from engines.editing.grid import TimeGrid, grid_at, skipping_times
from engines.editing.inversion import invert
from engines.editing.masks import change_mask, smoothed, strongest, token_mask
from engines.editing.predictor import Predictor
from engines.editing.steps import EditFriendlyDdpm, SdeDpmSolver
from engines.noise import start_noise
from tests.engines.editing.toys import LEVELS, SEEDS, images, predictor, words

GRID = grid_at(skipping_times(20, 0.15), LEVELS)


def inverted(rule=None, grid=GRID, source=None, **options):
    which = predictor(**options)
    return which, invert(which, images(), SEEDS, rule or SdeDpmSolver(), grid, source=source or words(1))


def rms(a, b):
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("rule", [SdeDpmSolver(), EditFriendlyDdpm()])
@pytest.mark.parametrize("threshold", [0.0, 0.75])
def test_larger_scales_change_more(rule, threshold):
    """And none changes nothing, bit for bit, masks or not."""
    which, inversion = inverted(rule)
    reference = null(which, inversion)
    changes = []
    for scale in (0.0, 1.0, 3.0, 5.0, 10.0):
        terms = [EditTerm(conditioning=words(2), scale=scale, threshold=threshold)]
        edited = edit(which, inversion, terms)
        changes.append(rms(edited.latents, reference))
    assert torch.equal(edit(which, inversion, [EditTerm(conditioning=words(2), scale=0.0, threshold=threshold)]).latents, reference)
    assert changes[0] == 0
    assert changes == sorted(changes)
    assert len(set(changes)) == 5


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_guidance_is_the_same_in_noise_velocity_and_clean_estimate(scale):
    """mean(base + w (target - base)): every map is affine in the output."""
    x, out, target = (start_noise([seed], (4, 8, 8)).double() for seed in (1, 2, 3))
    grid, mask = TimeGrid((700, 300), (0.3, 0.7, 1.0), 1000), (start_noise([4], (4, 8, 8)) > 0).double()
    rule = SdeDpmSolver()
    for prediction in ("epsilon", "v_prediction", "sample"):
        which = Predictor(lambda *_: None, prediction)
        whole = which.estimate(x, out + scale * mask * (target - out), 0.3)
        base, other = which.estimate(x, out, 0.3), which.estimate(x, target, 0.3)
        for composed, one, two in zip(whole, base, other, strict=True):
            torch.testing.assert_close(composed, one + scale * mask * (two - one), atol=1e-12, rtol=0)
        means = [rule.mean(grid, 0, x, each, None) for each in (whole, base, other)]
        torch.testing.assert_close(means[0], means[1] + scale * mask * (means[2] - means[1]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_edits_are_the_same_whatever_the_network_predicts(scale):
    """One network, told in three ways, masks included."""

    def said(prediction):
        noise = predictor().network

        def network(x, t, conditioning):
            a = LEVELS.alpha_bars[t.long()].to(x.dtype).view(-1, 1, 1, 1)
            eps = noise(x, t, conditioning)
            if prediction == "epsilon":
                return eps
            clean = (x - (1 - a).sqrt() * eps) / a.sqrt()
            return clean if prediction == "sample" else a.sqrt() * eps - (1 - a).sqrt() * clean

        which = Predictor(network, prediction)
        return edit(
            which,
            invert(which, images(), SEEDS, SdeDpmSolver(), GRID, source=words(1)),
            [EditTerm(conditioning=words(2), scale=scale)],
        )

    first, *others = (said(prediction) for prediction in ("epsilon", "v_prediction", "sample"))
    for other in others:
        torch.testing.assert_close(other.latents, first.latents, atol=1e-11, rtol=0)
        torch.testing.assert_close(other.masks[0], first.masks[0])


def test_all_terms_share_the_noise():
    """The order of terms, and which others are edited alone, changes nothing."""
    which, inversion = inverted()
    terms = [EditTerm(conditioning=words(seed), scale=3.0) for seed in (2, 3, 4)]
    forward, backward = edit(which, inversion, terms), edit(which, inversion, terms[::-1])
    torch.testing.assert_close(forward.latents, backward.latents, atol=1e-12, rtol=0)
    for one, other in zip(forward.masks, backward.masks[::-1], strict=True):
        torch.testing.assert_close(one, other)
    alone = edit(which, inversion[1:2], terms)
    torch.testing.assert_close(alone.latents, forward.latents[1:2], atol=1e-12, rtol=0)


def test_one_call_a_step_and_the_rows_that_were_promised():
    """The base costs nothing before the first edit: twenty steps of one term stay below forty rows an image."""
    for terms in (
        [],
        [EditTerm(conditioning=words(2))],
        [EditTerm(conditioning=words(2)), EditTerm(conditioning=words(3), warm_up=5, cool_down=9, negative=words(4))],
        [EditTerm(conditioning=words(2), scale=0.0)],
        [EditTerm(conditioning=words(2), warm_up=19)],
    ):
        which, inversion = inverted()
        spent, called = which.network.rows, which.network.calls
        edited = edit(which, inversion, terms)
        assert edited.rows == which.network.rows - spent == 3 * rows_per_edit(terms, 20)
        assert which.network.calls - called <= 20
    assert rows_per_edit([EditTerm(conditioning=words(2))], 20) == 39


def test_removal_is_the_opposite():
    """Of a network that is linear in what it is told: the two edits are mirrored at the null edit."""
    direction = start_noise([5], (4, 8, 8)).double()
    which = Predictor(lambda x, _, c: 0.3 * x + c.tensors["words"][:, :1, None, None] * direction, "epsilon")
    inversion = invert(which, images(), SEEDS, SdeDpmSolver(), GRID, source=words(1))
    added, removed = (edit(which, inversion, [EditTerm(conditioning=words(2), sign=sign)]).latents for sign in (1, -1))
    torch.testing.assert_close((added + removed) / 2, null(which, inversion), atol=1e-10, rtol=0)
    assert rms(added, removed) > 0.1


def test_an_attribute_is_set_against_its_opposite():
    """Psi = s (out(node) - out(current)); against the source itself it is the plain term."""
    which, inversion = inverted()
    plain = edit(which, inversion, [EditTerm(conditioning=words(2))])
    named = edit(which, inversion, [EditTerm(conditioning=words(2), negative=words(1))])
    torch.testing.assert_close(named.latents, plain.latents, atol=1e-12, rtol=0)
    nothing = edit(which, inversion, [EditTerm(conditioning=words(2), negative=words(2), threshold=0.0)])
    torch.testing.assert_close(nothing.latents, null(which, inversion), atol=1e-12, rtol=0)


def test_terms_act_from_warm_up_to_cool_down():
    which, inversion = inverted()
    never = [EditTerm(conditioning=words(2), warm_up=20), EditTerm(conditioning=words(2), warm_up=3, cool_down=3)]
    edited = edit(which, inversion, never)
    assert torch.equal(edited.latents, null(which, inversion))
    assert edited.rows == 0
    assert not any(mask.any() for mask in edited.masks)
    early, late = (
        edit(which, inversion, [EditTerm(conditioning=words(2), **when)]).latents for when in ({"cool_down": 10}, {"warm_up": 10})
    )
    whole = edit(which, inversion, [EditTerm(conditioning=words(2))]).latents
    assert rms(early, whole) > 1e-3
    assert rms(late, whole) > 1e-3


def test_nothing_changes_outside_a_users_mask_at_a_single_step():
    """Nor does the reported mask say so."""
    user = torch.zeros(1, 8, 8, dtype=torch.float64)
    user[:, 2:5, 3:6] = 1
    which, inversion = inverted(grid=grid_at([400], LEVELS))
    edited = edit(which, inversion, [EditTerm(conditioning=words(2), user_mask=user, threshold=0.0)])
    changed = (edited.latents - null(which, inversion)).abs().amax(1)
    assert not changed[:, user[0] == 0].any()
    assert changed[:, user[0] == 1].all()
    assert torch.equal(edited.masks[0], user.expand(3, 8, 8))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.75, 0.9, 0.98])
def test_masks_keep_the_share_they_say(threshold):
    change = start_noise(range(5), (4, 8, 8))
    share = change_mask(change, threshold).mean((1, 2))
    assert float(share.max()) <= 1 - threshold + 1 / 64
    assert float(share.min()) >= 1 - threshold - 1 / 64
    maps = start_noise(range(5), (6, 4, 4))
    share = token_mask(maps, 3, threshold, (8, 8)).mean((1, 2))
    assert float(share.max()) <= 1 - threshold + 1 / 16


def test_smoothing_is_a_gaussian():
    """Normalised, symmetric, borders reflected; exp(-(d / 2 sigma)^2) with sigma one half."""
    point = torch.zeros(1, 5, 5, dtype=torch.float64)
    point[0, 2, 2] = 1
    found, side = smoothed(point)[0], torch.exp(torch.tensor(-1.0, dtype=torch.float64))
    assert float(found.sum()) == pytest.approx(1)
    assert float(found[2, 2] / found[2, 1]) == pytest.approx(1 / float(side))
    assert float(found[2, 1] / found[1, 1]) == pytest.approx(1 / float(side))
    torch.testing.assert_close(smoothed(torch.ones(1, 4, 4)), torch.ones(1, 4, 4))
    assert torch.equal(smoothed(torch.ones(1, 1, 4)), torch.ones(1, 1, 4))


class Looked:
    """Attention that looks for the second token at one corner, whoever asks; remembers how many rows were asked of the network."""

    def __init__(self, network):
        self.network = network

    def __call__(self):
        maps = 0.01 * start_noise(range(len(self.network.batch)), (4, 4, 4))
        maps[:, 2, :2, :2] += 1
        maps[:, 0] += 100  # the start token, which everybody looks at
        return maps


def test_masks_intersect_and_only_attention_decides_in_noise():
    """M1 and M2 up to t = 800; above M1 alone; with attention nothing acts where it does not look."""
    corner = token_mask(
        torch.stack([torch.zeros(4, 4)] * 2 + [torch.nn.functional.pad(torch.ones(2, 2), (0, 2, 0, 2))])[None], 2, 0.75, (8, 8)
    )
    assert torch.equal(corner[0], torch.nn.functional.pad(torch.ones(4, 4), (0, 4, 0, 4)))
    for times, both in (([818], False), ([801], False), ([800], True), ([400], True)):
        which, inversion = inverted(grid=grid_at(times, LEVELS))
        term = EditTerm(conditioning=words(2), threshold=0.75, tokens=2)
        mask = edit(which, inversion, [term], attention=Looked(which.network)).masks[0]
        own = edit(which, inversion, [term]).masks[0]
        looked = corner.expand(3, 8, 8).double()
        torch.testing.assert_close(mask, looked * own if both else looked)


def test_every_term_is_masked_by_its_own_rows():
    """Maps of the base, and of what a term is set against, are left out."""
    which, inversion = inverted(grid=grid_at([300, 100], LEVELS))
    terms = [EditTerm(conditioning=words(2), negative=words(4), tokens=1), EditTerm(conditioning=words(3), tokens=1)]

    def attention():
        asked = len(which.network.batch) // 3  # without the base at first: 2 + 1 rows an image, then 1 + 2 + 1
        maps = torch.zeros(asked, 3, 2, 4, 4)
        maps[asked - 3, :, 1, :, 0], maps[asked - 1, :, 1, :, 3] = 1, 1
        return maps.flatten(0, 1)

    first, second = edit(which, inversion, terms, attention=attention).masks
    assert first[:, :, :2].any()
    assert not first[:, :, 4:].any()
    assert second[:, :, 6:].any()
    assert not second[:, :, :4].any()


def test_a_flat_strength_is_kept_whole():
    assert strongest(torch.zeros(1, 4, 4), 0.9).all()


@pytest.mark.parametrize("options", [{"sign": 2}, {"sign": 0}, {"scale": -1.0}, {"threshold": 1.0}, {"threshold": -0.1}], ids=str)
def test_impossible_terms_are_refused(options):
    with pytest.raises(ValueError, match="a term"):
        EditTerm(conditioning=words(2), **options)


@pytest.mark.parametrize(
    "term",
    [
        EditTerm(conditioning=words(2, 3)),
        EditTerm(conditioning=words(2), negative=words(2, 3)),
        EditTerm(conditioning=words(2), user_mask=torch.ones(1, 4, 4)),
        EditTerm(conditioning=words(2), user_mask=torch.ones(2, 8, 8)),
    ],
)
def test_terms_that_do_not_fit_the_images_are_refused(term):
    which, inversion = inverted()
    with pytest.raises(ValueError, match="3"):
        edit(which, inversion, [term])
