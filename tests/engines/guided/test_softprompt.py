"""Soft prompts on a generator in closed form: gradients against finite differences, and what the search keeps, skips and repeats."""

import dataclasses
from itertools import count

import pytest
import torch

from engines.conditioning import Conditioning
from engines.guided.cutouts import cutouts
from engines.guided.gradient_path import PromptedGenerator, Reach, picture, reach
from engines.guided.prompt_terms import PromptWeights, mean_length, prompt_terms
from engines.guided.softprompt import activation_gradient, of_class, soft_prompt
from engines.guided.softprompt_options import SoftPromptOptions

WIDTH, SPREAD = 6, 0.3
SEEDS = [3, 4, 5]
MIX, TURN = torch.randn(2, WIDTH, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
QUICK = SoftPromptOptions(steps=15, restarts=1, cutouts=0, every=5, held_out=4, verify=8, batch=4)


def encode(prompt):
    return Conditioning.of(context=prompt[None])


def denoise(x, sigma, conditioning):
    """The posterior mean of pictures N(m, 0.3^2), whose mean colour m follows the prompt, a little differently where there is more noise."""
    words = conditioning.tensors["context"].mean(1)
    mean = 0.6 * (words @ MIX.to(x) + (sigma / (1 + sigma))[:, None] * (words @ TURN.to(x))).tanh()[:, :, None, None]
    kept = SPREAD**2 / (SPREAD**2 + sigma**2)
    return mean + kept[:, None, None, None] * (x - mean)


def judge(images):
    """Two classes: a logistic of how much redder than green a picture is, on the whole."""
    odds = 12 * (images[:, 0] - images[:, 1]).mean((1, 2)) - 2
    return torch.stack([-odds / 2, odds / 2], 1)


GENERATOR = PromptedGenerator(encode=encode, denoise=denoise, decode=lambda x: x, sigmas=(4.0, 2.0, 1.0, 0.4, 0.0), shape=(3, 8, 8))
RED = of_class(judge, 1)


def random_prompt(seed=1):
    return torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.3


def gradient(prompt, to, *, checkpointed=True, counted=None, **changes):
    options = dataclasses.replace(QUICK, checkpointed=checkpointed, **changes)
    return activation_gradient(GENERATOR, RED, prompt, SEEDS, to, options=options, count=counted)


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


def test_the_targets_probability_is_raised_above_nine_tenths_on_fresh_seeds():
    start = torch.zeros(4, WIDTH)
    before = picture(GENERATOR, start, range(50))
    assert judge(before).softmax(1)[:, 1].mean() < 0.3
    found = soft_prompt(GENERATOR, RED, WIDTH, start=start, options=dataclasses.replace(QUICK, cutouts=2))
    with torch.no_grad():
        after = picture(GENERATOR, found.embeddings, range(50))
    assert judge(after).softmax(1)[:, 1].mean() > 0.9
    assert found.verified == pytest.approx(found.held_out, abs=0.1)
    assert found.verified > found.scores[0].score


@pytest.mark.parametrize("path", ["last_k", "truncated", "shortcut"])
def test_shorter_paths_reach_the_target_too(path):
    options = dataclasses.replace(QUICK, path=path, soft_tokens=2)
    assert soft_prompt(GENERATOR, RED, WIDTH, options=options).verified > -0.1  # ln 0.9


def test_the_full_gradient_equals_finite_differences():
    prompt, to = random_prompt(), reach("full", 4)
    _, found = gradient(prompt, to)
    step = 1e-5
    for at in range(prompt.numel()):
        moved = torch.zeros_like(prompt).flatten()
        moved[at] = step
        up, down = (gradient(prompt + sign * moved.view_as(prompt), to, checkpointed=False)[0] for sign in (1, -1))
        assert float(found.flatten()[at]) == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("to", [reach("last_k", 4, keep=1), reach("last_k", 4, keep=2), reach("shortcut", 4), Reach(2, 2)])
def test_a_shorter_path_agrees_with_the_full_gradient_in_sign_but_is_not_it(to):
    _, full = gradient(random_prompt(), reach("full", 4))
    _, short = gradient(random_prompt(), to)
    assert 0 < cosine(full, short) < 0.9999
    assert not torch.allclose(full, short, rtol=1e-3)


def test_a_path_of_all_steps_is_the_full_one():
    assert torch.equal(gradient(random_prompt(), reach("last_k", 4, keep=4))[1], gradient(random_prompt(), reach("full", 4))[1])


@pytest.mark.parametrize("crops", [0, 3])
def test_gradients_with_and_without_checkpoints_are_equal(crops):
    values, found = zip(
        *(gradient(random_prompt(), reach("full", 4), checkpointed=on, cutouts=crops) for on in (True, False)), strict=True
    )
    assert values[0] == values[1]
    assert torch.equal(*found)


def test_a_gradient_does_not_depend_on_how_many_pictures_are_made_at_a_time():
    one, three = (gradient(random_prompt(), reach("full", 4), batch=batch, cutouts=2) for batch in (1, 3))
    torch.testing.assert_close(one, three)


@pytest.mark.parametrize(("to", "checkpointed", "rows"), [
    (reach("full", 4), False, 12), (reach("full", 4), True, 24), (reach("last_k", 4), True, 15), (Reach(1, 1), True, 9),
])  # fmt: skip
def test_rows_count_the_steps_taken_and_those_repeated_for_the_gradient(to, checkpointed, rows):
    told = []
    gradient(random_prompt(), to, checkpointed=checkpointed, counted=told.append)
    assert sum(told) == rows


def test_a_shortcut_comes_nearer_to_the_end_with_every_other_iteration():
    assert [reach("shortcut", 4, iteration=i) for i in (0, 2, 4, 9)] == [Reach(1, 1), Reach(2, 2), Reach(3, 3), Reach(3, 3)]


def test_all_restarts_are_scored_on_the_same_seeds_and_the_winner_on_others():
    deaf = dataclasses.replace(GENERATOR, encode=lambda prompt: encode(0 * prompt))
    found = soft_prompt(deaf, RED, WIDTH, options=dataclasses.replace(QUICK, steps=2, every=1, restarts=2))
    assert [one.restart for one in found.scores] == [0, 0, 0, 1, 1, 1]
    assert {one.score for one in found.scores} == {found.held_out}
    assert found.verified != found.held_out


def test_random_starts_lie_where_the_paper_puts_them():
    starts = [reach("truncated", 50, iteration=i, seed=9).first for i in range(300)]
    assert sum(starts) / len(starts) == pytest.approx(42, abs=1)
    assert len(set(starts)) > 10
    assert max(starts) <= 49


def test_a_step_that_is_not_finite_is_skipped_counted_and_halves_the_rate():
    calls = count()

    def once_broken(images):
        # one score in one batch and two updates pass before; the third finds a NaN
        return RED(images) * (float("nan") if next(calls) == 3 else 1)

    told = []
    options = dataclasses.replace(QUICK, steps=12)
    found = soft_prompt(GENERATOR, once_broken, WIDTH, options=options, go_on=lambda update: not told.append(update))
    assert [update.step for update in told if update.skipped] == [2]
    assert found.skipped == 1
    assert [update.lr for update in told] == [0.1] * 3 + [0.05] * 9
    assert found.embeddings.isfinite().all()
    assert found.verified > found.scores[0].score


def test_a_restart_that_stays_broken_ends_and_none_that_works_is_an_error():
    told = []
    with pytest.raises(FloatingPointError, match="no prompt had a finite score"):
        soft_prompt(
            GENERATOR, lambda images: RED(images) * float("nan"), WIDTH, options=QUICK, go_on=lambda update: not told.append(update)
        )
    assert len(told) == QUICK.patience


def test_equal_seeds_give_equal_results_and_others_do_not():
    options = dataclasses.replace(QUICK, steps=6, cutouts=2, path="truncated")
    one, same, other = (soft_prompt(GENERATOR, RED, WIDTH, seed=seed, options=options) for seed in (7, 7, 8))
    assert torch.equal(one.embeddings, same.embeddings)
    assert one.history == same.history
    assert (one.held_out, one.verified) == (same.held_out, same.verified)
    assert not torch.equal(one.embeddings, other.embeddings)


def test_the_best_held_out_score_of_all_restarts_is_kept():
    found = soft_prompt(GENERATOR, RED, WIDTH, options=dataclasses.replace(QUICK, steps=3, every=1, restarts=3, lr=0.02))
    assert [one.restart for one in found.best] == [0, 1, 2]
    assert len({one.score for one in found.best}) == 3
    assert found.held_out == max(one.score for one in found.scores) == max(one.score for one in found.best)
    winner = max(found.best, key=lambda one: one.score)
    assert torch.equal(found.embeddings, winner.embeddings)


def test_a_rate_that_overshoots_does_not_lose_the_better_prompt_before():
    good = soft_prompt(GENERATOR, RED, WIDTH, options=QUICK).embeddings
    options = dataclasses.replace(QUICK, steps=4, every=1, lr=50.0, weights=PromptWeights(diverse=1000.0))
    found = soft_prompt(GENERATOR, RED, WIDTH, start=good, options=options)
    assert found.scores[-1].score < found.held_out
    assert found.held_out >= found.scores[0].score


def test_whoever_listens_may_stop_and_gets_the_best_so_far():
    found = soft_prompt(GENERATOR, RED, WIDTH, options=dataclasses.replace(QUICK, restarts=3), go_on=lambda update: update.step < 4)
    assert [update.step for update in found.history] == [0, 1, 2, 3, 4]
    assert found.scores[-1].step == 5
    # scores: 4 pictures of 4 steps, twice; 5 updates: 2 of 4 steps, twice; 8 last ones
    assert found.network_rows == 2 * 16 + 5 * 16 + 32


def test_terms_are_those_of_the_formula_and_hold_tokens_at_the_words_length():
    table = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(2)) * 0.1
    prompt = torch.stack([2 * table[3], 2 * table[3], table[5]])
    mu, lengths = mean_length(table), prompt.norm(dim=1)
    assert float(prompt_terms(prompt, table, PromptWeights(norm=0, diverse=0))) == pytest.approx(0, abs=1e-6)
    expected = 0.1 * ((lengths - mu) ** 2).mean() / mu**2
    assert float(prompt_terms(prompt, table, PromptWeights(nearest=0, diverse=0))) == pytest.approx(float(expected))
    unit = prompt / lengths[:, None]
    pairs = [float((unit[i] @ unit[k] - 0.5).relu()) for i, k in ((0, 1), (0, 2), (1, 2))]
    assert float(prompt_terms(prompt, None, PromptWeights())) == pytest.approx(0.05 * sum(pairs) / 3)

    options = dataclasses.replace(QUICK, lr=0.01, weights=PromptWeights(norm=100.0))
    found = soft_prompt(GENERATOR, RED, WIDTH, table=table, options=options)
    assert found.embeddings.norm(dim=1).tolist() == pytest.approx([float(mu)] * 4, rel=0.3)


def test_crops_depend_on_their_seed_alone_and_keep_a_flat_picture_flat():
    images = torch.rand(3, 3, 12, 16, generator=torch.Generator().manual_seed(4))
    crops = cutouts(images, 4, SEEDS)
    assert crops.shape == (12, 3, 12, 12)
    torch.testing.assert_close(crops[4:8], cutouts(images[1:2], 4, SEEDS[1:2]))
    assert cutouts(images, 1, SEEDS, 8).shape == (3, 3, 8, 8)
    flat = cutouts(torch.full((1, 3, 12, 12), 0.5), 8, [0])
    assert float((flat - 0.5).std()) == pytest.approx(0.005, rel=0.1)


@pytest.mark.parametrize(("given", "message"), [
    ({"start": torch.zeros(3, WIDTH)}, "start must be 4 tokens of 6"),
    ({"table": torch.zeros(9, 5)}, "the embedding table has 5 numbers"),
    ({"options": dataclasses.replace(QUICK, path="last_k", keep=5)}, "1 to 4 steps, got 5"),
])  # fmt: skip
def test_what_does_not_fit_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        soft_prompt(GENERATOR, RED, WIDTH, **({"options": QUICK} | given))
