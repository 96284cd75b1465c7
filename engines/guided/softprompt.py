"""Soft prompts that a classifier responds to most: optimised by gradient through a frozen text-to-image generator.

DiffExplainer (Pennisi et al. 2024), with settings of DEXTER (2025) where the paper states none.  Followed: soft tokens in front of the text
encoder, maximised class outputs or hidden features.  Ours: the prompt with the best score on held-out seeds is kept, not the last one, and
is scored once more on seeds that nothing was chosen by; restarts; terms that keep tokens near words; steps that are not finite are skipped.
Changed: tokens that start at random have the words' mean length, not the range (-1, 1), where the words are known.

A prompt's parameters and the optimiser are float32; what the network computes in is its own business (bfloat16 needs no loss scaling).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engines.guided.cutouts import cutouts
from engines.guided.edits import Images
from engines.guided.gradient_path import Prompt, PromptedGenerator, Reach, picture, reach
from engines.guided.judge import Judge, Push, pushed
from engines.guided.prompt_terms import Table, mean_length, projected, prompt_terms
from engines.guided.softprompt_options import Candidate, SoftPrompt, SoftPromptOptions, Update

Objective = Callable[[Images], Float[Tensor, " n"]]
"""Images in [0, 1] -> what is to be raised, one number an image: a class's log-probability, a hidden feature's mean activation."""

_TRAIN, _CHOOSE, _VERIFY, _INIT, _PATH = range(5)
"""Streams of random numbers that never meet."""


def of_class(judge: Judge, column: int, push: Push = "log_probability") -> Objective:
    """A judge's class as what is to be raised."""

    def objective(images: Images) -> Float[Tensor, " n"]:
        logits = judge(images)
        raised: Tensor = pushed(push, logits, torch.full([len(logits)], column, device=logits.device))
        return raised

    return objective


def soft_prompt(
    generator: PromptedGenerator,
    objective: Objective,
    width: int,
    *,
    seed: int = 0,
    table: Table | None = None,
    start: Prompt | None = None,
    options: SoftPromptOptions | None = None,
    go_on: Callable[[Update], bool] | None = None,
    device: torch.device | None = None,
) -> SoftPrompt:
    """Search for the soft tokens (n ``width``) whose pictures raise the objective most.

    ``table`` is the text encoder's embedding table, ``start`` what the first restart begins with (never the class's own name where the
    question is whether the class needs its object).  ``go_on`` is told every update; False stops the search, which hands out the best so far.
    Equal seeds give equal results on one machine.  Costs, per step, latents * (steps of the sampler, and those of the path once more with
    checkpointing) network rows.

    Raises:
        ValueError: the start or the table does not fit.
        FloatingPointError: no prompt had a finite held-out score.
    """
    options = options or SoftPromptOptions()
    wanted = (options.soft_tokens, width)
    if start is not None and tuple(start.shape) != wanted:
        raise ValueError(f"start must be {wanted[0]} tokens of {width} numbers, got {tuple(start.shape)}")
    if options.hard and table is None:
        raise ValueError("a hard search draws the nearest words of a table; give the text encoder's embeddings of its whole words")
    if table is not None and table.shape[1] != width:
        raise ValueError(f"the embedding table has {table.shape[1]} numbers a word, tokens have {width}")
    table = None if table is None else table.detach().to(device, torch.float32)
    return _Search(generator, objective, options, seed, table, go_on).run(wanted, start, device)


def activation_gradient(
    generator: PromptedGenerator,
    objective: Objective,
    prompt: Prompt,
    seeds: Sequence[int],
    to: Reach,
    *,
    options: SoftPromptOptions | None = None,
    count: Callable[[int], None] | None = None,
) -> tuple[float, Prompt]:
    """Mean objective of one picture a seed, and its gradient in the prompt along a path."""
    options = options or SoftPromptOptions()
    value, gradient = 0.0, torch.zeros_like(prompt)
    for part in _parts(seeds, options.batch):
        leaf = prompt.detach().requires_grad_()
        with torch.enable_grad():
            images = picture(generator, leaf, part, to, checkpointed=options.checkpointed, count=count)
            looks = cutouts(images, options.cutouts, part, options.cutout_size) if options.cutouts else images
            mean = objective(looks).mean() * (len(part) / len(seeds))
            gradient += torch.autograd.grad(mean, leaf)[0]
        value += float(mean.detach())
    return value, gradient


@dataclass
class _Search:
    """Thrown away when done; :class:`SoftPrompt` is what stays."""

    generator: PromptedGenerator
    objective: Objective
    options: SoftPromptOptions
    seed: int
    table: Table | None
    go_on: Callable[[Update], bool] | None
    rows: int = 0
    stopped: bool = False
    history: list[Update] = field(default_factory=list)
    scores: list[Candidate] = field(default_factory=list)

    def run(self, wanted: tuple[int, int], start: Prompt | None, device: torch.device | None) -> SoftPrompt:
        for restart in range(self.options.restarts):
            first = start if restart == 0 and start is not None else self.random_start(wanted, restart)
            self.climb(first.detach().to(device, torch.float32, copy=True), restart)
            if self.stopped:
                break
        finite = [one for one in self.scores if math.isfinite(one.score)]
        if not finite:
            raise FloatingPointError("no prompt had a finite score; check the generator and the objective, or compute in float32")
        best = max(finite, key=lambda one: one.score)
        tops = [max(mine, key=lambda one: one.score) for mine in _by_restart(finite)]
        verified = self.score(best.embeddings, _seeds(self.options.verify, self.seed, _VERIFY))
        skipped = sum(update.skipped for update in self.history)
        return SoftPrompt(
            best.embeddings, best.score, verified, tuple(tops), tuple(self.scores), tuple(self.history), skipped, self.rows
        )

    def random_start(self, wanted: tuple[int, int], restart: int) -> Prompt:
        drawn = np.random.default_rng((self.seed, _INIT, restart)).uniform(-1, 1, wanted)
        prompt = torch.from_numpy(drawn).float()
        if self.table is None:
            return prompt
        scaled: Tensor = functional.normalize(prompt, dim=1) * mean_length(self.table).cpu()
        return scaled

    def climb(self, prompt: Prompt, restart: int) -> None:
        """One restart; the candidates that it passes are noted."""
        options = self.options
        adam = torch.optim.Adam([prompt], lr=options.lr)
        in_a_row = step = 0
        self.note(prompt, restart, 0)
        while step < options.steps and in_a_row < options.patience and not self.stopped:
            update = self.update(prompt, adam, restart, step)
            in_a_row = in_a_row + 1 if update.skipped else 0
            step += 1
            self.history.append(update)
            self.stopped = self.go_on is not None and not self.go_on(update)
            if step % options.every == 0:
                self.note(prompt, restart, step)
        if step % options.every:
            self.note(prompt, restart, step)

    def update(self, prompt: Prompt, adam: torch.optim.Adam, restart: int, step: int) -> Update:
        options = self.options
        seeds = _seeds(options.latents, self.seed, _TRAIN, restart, step)
        at = _seeds(1, self.seed, _PATH, restart)[0]
        to = reach(options.path, self.generator.steps, keep=options.keep, iteration=step, seed=at)
        activation, raised = activation_gradient(
            self.generator, self.objective, self.said(prompt), seeds, to, options=options, count=self.count
        )
        leaf = prompt.detach().requires_grad_()
        with torch.enable_grad():
            kept = prompt_terms(leaf, self.table, options.weights)
            # one token and no table leave no term: the sum is a constant then
            gradient = (torch.autograd.grad(kept, leaf)[0] if kept.requires_grad else torch.zeros_like(leaf)) - raised
        loss, length, lr = float(kept.detach()) - activation, float(gradient.norm()), float(adam.param_groups[0]["lr"])
        skipped = not (math.isfinite(loss) and math.isfinite(length))
        if skipped:
            adam.param_groups[0]["lr"] = lr / 2
        else:
            prompt.grad = gradient * min(1.0, options.clip / max(length, 1e-12))
            adam.step()
        return Update(restart, step, loss, activation, length, lr, skipped, self.rows)

    def note(self, prompt: Prompt, restart: int, step: int) -> None:
        said = self.said(prompt)
        score = self.score(said, _seeds(self.options.held_out, self.seed, _CHOOSE))
        self.scores.append(Candidate(restart, step, score, said.detach().cpu().clone()))

    def said(self, prompt: Prompt) -> Prompt:
        """What the generator is told: algorithm 1 of Wen et al. 2023 takes the loss at the projected prompt."""
        return projected(prompt.detach(), self.table) if self.options.hard and self.table is not None else prompt

    def score(self, prompt: Prompt, seeds: Sequence[int]) -> float:
        """Mean objective of whole pictures, without a gradient."""
        with torch.no_grad():
            found = [
                self.objective(picture(self.generator, prompt, part, count=self.count))
                for part in _parts(seeds, self.options.batch)
            ]
        return float(torch.cat(found).mean())

    def count(self, rows: int) -> None:
        self.rows += rows


def _by_restart(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    return [[one for one in candidates if one.restart == restart] for restart in sorted({one.restart for one in candidates})]


def _parts(seeds: Sequence[int], batch: int) -> Iterator[Sequence[int]]:
    return (seeds[at : at + batch] for at in range(0, len(seeds), batch))


def _seeds(count: int, *key: int) -> list[int]:
    """Seeds of 64 bits, the same for the same key."""
    return [int(one) for one in np.random.SeedSequence(key).generate_state(count, np.uint64)]
