"""Guarantees of guided edits, on Gaussian data and a linear judge; and one edit by the shipped generator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided import Chain, FastDimeOptions, depth_at, fastdime, judge_of, kept_steps, log_odds, same_answers, unguided
from engines.guided.chain import PAPER_SIGNAL
from engines.guided.masks import changed
from tests.engines.guided.vectors import NOTHING, TARGET, X, gaussian, judge, score

SEEDS = (11, 2**63 + 5)
SHORT = FastDimeOptions(kept=40, depth=12, threshold=0.4, dilation=1)


def edit(options=SHORT, *, rows=slice(None), diffusion=None, asked=judge, **more):
    diffusion = diffusion or gaussian()
    return fastdime(diffusion, X[rows], TARGET[rows], NOTHING[rows], asked, seeds=SEEDS[rows], options=options, **more)


def test_the_judge_is_brought_round():
    """Both directions, judged on what is stored; ``probability`` is that of the images."""
    found = edit(replace(SHORT, passes="plain"))
    logits = score(2 * found.images - 1)
    assert found.success.all()
    assert ((logits > 0).long() == TARGET).all()
    torch.testing.assert_close(found.probability, log_odds(judge(found.images), TARGET).sigmoid())


def test_images_are_those_that_are_stored():
    levels = edit().images * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert 0 <= float(levels.min()) <= float(levels.max()) <= 255


def test_a_row_depends_on_itself_alone():
    """Alone, in a batch, in another order: the same images, whatever the others need in attempts."""
    options = replace(SHORT, class_scales=(0.2, 2.0, 8.0), confidence=0.6)
    both = edit(options)
    assert both.attempts[0] != both.attempts[1]
    for row in range(2):
        alone = edit(options, rows=slice(row, row + 1))
        torch.testing.assert_close(alone.latents[0], both.latents[row], atol=1e-6, rtol=0)
        assert torch.equal(alone.mask[0], both.mask[row])
        assert alone.attempts[0] == both.attempts[row]
    turned = fastdime(gaussian(), X.flip(0), TARGET.flip(0), NOTHING, judge, seeds=SEEDS[::-1], options=options)
    torch.testing.assert_close(turned.latents.flip(0), both.latents, atol=1e-6, rtol=0)


def test_a_seed_is_a_result():
    first, again = edit(), edit()
    assert torch.equal(first.latents, again.latents)
    other = fastdime(gaussian(), X, TARGET, NOTHING, judge, seeds=(1, 2), options=SHORT)
    assert not torch.equal(first.latents, other.latents)


def test_attempts_stop_at_the_first_success_and_rows_are_counted():
    """What flips at 8 is what 8 alone gives, and costs one attempt."""
    found, first = edit(), edit(replace(SHORT, class_scales=(8.0,)))
    assert found.success.all()
    assert torch.equal(found.latents, first.latents)
    assert (found.attempts.tolist(), found.network_rows) == ([1, 1], 2 * 12)
    two = edit(replace(SHORT, passes="two", class_scales=(8.0,)))
    assert two.network_rows == 2 * 2 * 12


def test_failure_is_a_value():
    """A judge that cannot be moved: all scales are tried, the last result is kept."""

    def stubborn(shown):
        return judge(shown) * 0 + torch.stack([TARGET * 9.0, (1 - TARGET) * 9.0], 1)

    found = edit(asked=stubborn)
    assert not found.success.any()
    assert found.attempts.tolist() == [3, 3]
    assert found.network_rows == 3 * 2 * 12


def test_confidence_asks_for_more_than_a_bare_flip():
    weak = replace(SHORT, class_scales=(3.0,), passes="plain")
    bare = edit(weak)
    assert bare.success.all()
    sure = float(bare.probability.min())
    assert not edit(replace(weak, confidence=sure + 0.01)).success.all()


@pytest.mark.parametrize("passes", ["masked", "two", "two_plus"])
def test_nothing_changes_outside_the_mask(passes):
    found = edit(replace(SHORT, passes=passes))
    inside = found.mask.expand_as(X)
    assert 0 < int(found.mask.sum()) < found.mask.numel()
    assert torch.equal(found.latents[~inside], X[~inside])
    assert not torch.equal(found.latents[inside], X[inside])


def test_without_guidance_and_mask_an_edit_is_the_floor():
    """Scale 0 and no distance: the same noise, hence the same images."""
    options = replace(SHORT, passes="plain", class_scales=(0.0,), distance=0.0)
    assert torch.equal(edit(options).images, unguided(gaussian(), X, NOTHING, SEEDS, options=options))


def test_the_floor_is_a_draw_from_the_posterior():
    """Gaussian data: noised and denoised over all timesteps they have the moments of the data given the noisy state."""
    diffusion = gaussian(clip=False)
    rows, depth = 400, 60
    options = FastDimeOptions(kept=200, depth=depth, variance="small")
    x = X[:1].expand(rows, -1, -1, -1)
    images = unguided(diffusion, x, Conditioning(rows=rows), range(rows), options=options)
    kept = Chain.of(diffusion, 200).alpha_bars[depth - 1]
    gain = 0.25 * kept / (0.25 * kept + 1 - kept)  # E[x0 | z] = mean + gain (z / sqrt(kept) - mean), z about sqrt(kept) x
    expected = 0.1 + gain.float() * (X[0] - 0.1)
    inside = expected.abs() < 0.3  # far from the clipping of stored images
    error = (2 * images - 1).mean(0)[inside] - expected[inside]
    assert float(error.abs().max()) < 0.1
    assert float(error.square().mean().sqrt()) < 0.03


def test_masks_of_unchanged_images_keep_everything():
    """0 / 0 must not free the whole image."""
    assert not changed(X, X, 0.15, 3).any()
    moved = X.clone()
    moved[0, :, 1, 1] += 0.5
    assert changed(X, moved, 0.15, 1).nonzero().tolist() == [[0, 0, 1, 1]]
    assert int(changed(X, moved, 0.15, 3).sum()) == 9
    with pytest.raises(ValueError, match="odd dilation"):
        changed(X, moved, 0.15, 2)


def test_the_denoiser_is_never_differentiated():
    """It runs on engines: whatever it is given and gives asks for no gradient, and autograd is off while it runs."""
    plain = gaussian()
    network = plain.course.network

    def watched(z, t, cond):
        assert not z.requires_grad
        assert not torch.is_grad_enabled()
        return network(z, t, cond)

    diffusion = replace(plain, course=replace(plain.course, network=watched))
    assert edit(diffusion=diffusion).success.all()


def test_chains_are_the_papers():
    """Kept timesteps and sqrt(alpha_bar) of 200 of 500 steps."""
    assert [kept_steps(500, 200)[at] for at in (0, 1, 2, 3, 4, 59, 60, 199)] == [0, 3, 5, 8, 10, 148, 150, 499]
    chain = Chain.of(gaussian(), 200)
    known = torch.tensor([0.99990, 0.88558, 0.63353, 0.62585, 0.00614], dtype=torch.float64)
    torch.testing.assert_close(chain.alpha_bars[[0, 30, 59, 60, 199]].sqrt(), known, atol=1e-5, rtol=0)
    assert float(chain.variance[59]) == pytest.approx(0.0349121, abs=1e-6)
    assert depth_at(gaussian(), 200, PAPER_SIGNAL) == 60


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 200}, "depth counts steps"),
        ({"class_scales": ()}, "at least one class scale"),
        ({"distance": -1.0}, "not negative"),
        ({"confidence": 1.0}, "below 1"),
        ({"passes": "three"}, "passes 'three' is unknown"),
        ({"dilation": 4}, "odd dilation"),
    ],
)
def test_impossible_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        FastDimeOptions(**wrong)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one target, condition and seed per image"):
        fastdime(gaussian(), X, TARGET, NOTHING, judge, seeds=(1,), options=SHORT)


def test_other_concepts_can_be_held():
    """A judge that shares half of the guide's pixels: its answer moves less when it is held."""
    mask = torch.zeros(3, 4, 4)
    mask[:, :, :2] = 1

    def other(shown):
        half = 8 * (mask * shown).sum((1, 2, 3)) / 24 - 4
        return torch.stack([-half, half], 1)

    def moved(found):
        return (other(found.images)[:, 1] - other(X / 2 + 0.5)[:, 1]).abs()

    def both(shown):
        return judge(shown) + other(shown)

    options = replace(SHORT, passes="plain", class_scales=(4.0,), distance=0.0)
    free, held = edit(options, asked=both), edit(options, asked=both, unlike=same_answers([other]))
    assert bool((moved(held) < moved(free)).all()), (moved(held), moved(free))
    torch.testing.assert_close(same_answers([other])(X / 2 + 0.5, X / 2 + 0.5), torch.zeros(2))


def test_the_shipped_generator_is_guided():
    """One scene, few steps: the background's log-odds rise above those of the floor by the same noise."""
    from audit_plugin.demo.truth import ASSETS
    from audit_plugin.sources.scenes import render_many
    from engines.directory import read_parts
    from engines.networks import VaeDecode, VaeEncode
    from engines.pipelines.building import course_of, differentiable, image_shape, process_of
    from engines.pipelines.denoisers import denoiser_module
    from engines.pipelines.prompts import prompts_of
    from engines.pipelines.schedulers import read_scheduler

    parts, cpu = read_parts(ASSETS / "generator", None), torch.device("cpu")
    scheduler = read_scheduler(parts.scheduler)
    process = process_of(parts, scheduler)
    network = differentiable(denoiser_module(parts.family, parts.network), cpu, "fp32")
    course = course_of(parts, process, scheduler, network)
    diffusion = Diffusion(course=course, levels=process.levels, prediction=process.prediction, differentiable=network, device=cpu)
    cond = prompts_of(parts, image_shape(parts), 1.0, None).null
    decode = VaeDecode(parts.vae).requires_grad_(False)
    background = judge_of(ASSETS / "detector" / "scenes.onnx", "concept/background", 64)
    pixels = torch.from_numpy(render_many([3], np.array([[0, 0, 1, 0, 0, 0, 0]])))
    with torch.no_grad():
        x = VaeEncode(parts.vae)(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)
    target = torch.tensor([1])  # grass to water
    options = FastDimeOptions(kept=14, depth=depth_at(diffusion, 14, 0.3), class_scales=(200.0,), dilation=1)
    found = fastdime(diffusion, x, target, cond, background, seeds=[1], decode=decode, options=options)
    floor = unguided(diffusion, x, cond, [1], decode=decode, options=options)
    with torch.no_grad():
        gain = log_odds(background(found.images), target) - log_odds(background(floor), target)
    print("gain in log-odds", gain, found.probability)
    assert float(gain.min()) > 5
