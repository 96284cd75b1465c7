"""Words that raise what a classifier says, drawn from a word model whose steering vector is learned through the generator.

DEXTER (2025).  Followed: a masked language model with one learned vector in front; its logits to words by a straight-through Gumbel-softmax
(temperature 1) and a 0/1 map to the text encoder's words, which links words that both have; cross-entropy to pseudo-labels, without which the
gradient is too weak; a drawn word becomes the label when the mean of its own losses is below that of the label's; k words by k runs, each
without the words of those before.  Ours: fresh noise in every step, so that a word's history is over pictures and not over one; one
objective for all gaps; labels are words that the text encoder has.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from engines.guided.gradient_path import Path, PromptedGenerator, picture, reach
from engines.guided.masked_words import Logits, MaskedWords
from engines.guided.softprompt import Objective, activation_gradient
from engines.guided.softprompt_options import SoftPromptOptions
from engines.guided.vocabulary import Vocabulary, spoken
from engines.pipelines.wording import Sentence

REFUSED = "#[./\\"
"""A word with any of these is no word."""
_VECTOR, _LABEL, _GUMBEL, _TRAIN, _VERIFY = range(5)


@dataclass(frozen=True, kw_only=True)
class HardTokenOptions:
    """How words are searched for.  Defaults are DEXTER's."""

    steps: int = 1000
    lr: float = 0.1
    eps: float = 1e-4
    decay: float = 0.01
    """AdamW's."""
    temperature: float = 1.0
    mask_weight: float = 1.0
    """Of the cross-entropy to the pseudo-labels."""
    latents: int = 1
    """Fresh pictures of every step."""
    clip: float = 1.0
    """Longest gradient of the vector."""
    path: Path = "full"
    keep: int = 1
    batch: int = 1
    checkpointed: bool = True
    verify: int = 16
    """Pictures that the words are scored on at last, without a gradient."""

    def __post_init__(self) -> None:
        if min(self.steps, self.latents, self.batch, self.verify) < 1 or self.mask_weight < 0:
            raise ValueError("numbers of steps and pictures are at least 1, and the labels' weight is not negative")
        if min(self.lr, self.eps, self.temperature, self.clip) <= 0:
            raise ValueError("the learning rate, eps, the temperature and the longest gradient are positive")


@dataclass(frozen=True)
class Drawn:
    """One step of the search."""

    words: tuple[str, ...]
    """What was drawn, gap by gap."""
    activation: float
    """Mean objective of the step's pictures."""
    labels: tuple[str, ...]
    """Pseudo-labels after it."""
    skipped: bool
    """Something was not finite: nothing was learned from this step."""


@dataclass(frozen=True, eq=False)
class HardTokens:
    """What one run found."""

    words: tuple[str, ...]
    text: str
    """The sentence with the words in its gaps."""
    verified: float
    """Mean objective on seeds that nothing was chosen by; not a number where one of their pictures broke."""
    history: tuple[Drawn, ...]


def hard_tokens(
    generator: PromptedGenerator,
    vocabulary: Vocabulary,
    masked: MaskedWords,
    objective: Objective,
    sentence: Sentence,
    *,
    count: int = 1,
    exclude: Sequence[str] = (),
    seed: int = 0,
    options: HardTokenOptions | None = None,
    go_on: Callable[[Drawn], bool] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[HardTokens]:
    """``count`` runs, each told as soon as it is over; a run does not draw words of those before, nor any of ``exclude``.

    ``go_on`` is told every step; False ends its run with what it has.  Raises ValueError where no word is left, or the sentence has no gap.
    """
    options, rows, banned = options or HardTokenOptions(), _linked(masked.words, vocabulary), {word.lower() for word in exclude}
    for run in range(count):
        search = _Run(
            generator=generator,
            masked=masked,
            objective=objective,
            sentence=sentence,
            options=options,
            key=(seed, run),
            rows=rows,
            banned=torch.tensor([word.lower() in banned for word in masked.words]),
            on_rows=on_rows,
        )
        found = search.result(go_on)
        banned |= {word.lower() for word in found.words}
        yield found


@dataclass(eq=False, kw_only=True)
class _Run:
    """Thrown away when done."""

    generator: PromptedGenerator
    masked: MaskedWords
    objective: Objective
    sentence: Sentence
    options: HardTokenOptions
    key: tuple[int, int]
    rows: Float[Tensor, "v d"]
    """Of each of the word model's words, what the text encoder has for it."""
    banned: Bool[Tensor, " v"]
    """Never drawn."""
    on_rows: Callable[[int], None] | None

    def __post_init__(self) -> None:
        self.slots = len({piece for piece in self.sentence if isinstance(piece, int)})
        refused = torch.tensor([any(mark in word for mark in REFUSED) for word in self.masked.words])
        self.allowed = ~refused & ~self.banned & (self.rows != 0).any(1)
        left = self.allowed.nonzero()[:, 0].numpy()
        if not 1 <= self.slots <= len(left):
            raise ValueError(f"the sentence has {self.slots} gaps, and {len(left)} words are left; need a gap, and a word for each")
        self.labels = [int(at) for at in self.rng(_LABEL).choice(left, self.slots, replace=False)]
        self.losses = [defaultdict[int, list[float]](list) for _ in range(self.slots)]

    def result(self, go_on: Callable[[Drawn], bool] | None) -> HardTokens:
        start = self.rng(_VECTOR).uniform(-1, 1, self.masked.shape(self.slots)).astype(np.float32)
        vector, history = torch.from_numpy(start).requires_grad_(), list[Drawn]()
        adam = torch.optim.AdamW([vector], lr=self.options.lr, eps=self.options.eps, weight_decay=self.options.decay)
        for step in range(self.options.steps):
            history.append(self.step(vector, adam, step))
            if go_on is not None and not go_on(history[-1]):
                break
        words = self.words(self.labels)
        return HardTokens(words, spoken(self.sentence, words), self.score(), tuple(history))

    def step(self, vector: Tensor, adam: torch.optim.Optimizer, at: int) -> Drawn:
        options, generator = self.options, self.generator
        with torch.enable_grad():
            logits = self.masked(vector, self.sentence).masked_fill(self.banned, -math.inf)
            choice = self.straight_through(logits, at)
            said = choice @ self.rows
        to = reach(options.path, generator.steps, keep=options.keep, iteration=at, seed=self.key[0])
        seeds = self.seeds(options.latents, _TRAIN, at)
        search = SoftPromptOptions(cutouts=0, batch=options.batch, checkpointed=options.checkpointed)
        activation, slope = activation_gradient(
            generator, self.objective, said.detach(), seeds, to, options=search, count=self.on_rows
        )
        with torch.enable_grad():
            kept = functional.cross_entropy(logits, torch.tensor(self.labels))
            (gradient,) = torch.autograd.grad(options.mask_weight * kept - (said * slope).sum(), vector)
        length, drawn = float(gradient.norm()), choice.argmax(1).tolist()
        skipped = not (math.isfinite(activation) and math.isfinite(length))
        if not skipped:
            vector.grad = gradient * min(1.0, options.clip / max(length, 1e-12))
            adam.step()
            self.learn(drawn, -activation)
        return Drawn(self.words(drawn), activation, self.words(self.labels), skipped)

    def straight_through(self, logits: Logits, at: int) -> Float[Tensor, "slots v"]:
        """One word a gap in the forward direction, the softmax in the gradient (Jang et al. 2017)."""
        noise = torch.from_numpy(self.rng(_GUMBEL, at).gumbel(size=tuple(logits.shape)).astype(np.float32))
        soft = ((logits + noise) / self.options.temperature).softmax(1)
        hard = functional.one_hot(soft.argmax(1), soft.shape[1]).to(soft)
        return hard - soft.detach() + soft

    def learn(self, drawn: Sequence[int], loss: float) -> None:
        """A word takes a label's place when the mean of its own history is lower than that of the label's."""
        for slot, word in enumerate(drawn):
            history = self.losses[slot]
            history[word].append(loss)
            label = self.labels[slot]
            if word == label or word in self.labels or not bool(self.allowed[word]):
                continue
            if label not in history or np.mean(history[word]) < np.mean(history[label]):
                self.labels[slot] = word

    def score(self) -> float:
        """Mean objective of pictures that the words make."""
        options, said = self.options, self.rows[self.labels]
        seeds = self.seeds(options.verify, _VERIFY)
        with torch.no_grad():
            found = [
                self.objective(picture(self.generator, said, seeds[at : at + options.batch], count=self.on_rows))
                for at in range(0, len(seeds), options.batch)
            ]
        return float(torch.cat(found).mean())

    def words(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.masked.words[at] for at in places)

    def rng(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng((*self.key, *stream))

    def seeds(self, count: int, *stream: int) -> list[int]:
        return [int(one) for one in np.random.SeedSequence((*self.key, *stream)).generate_state(count, np.uint64)]


def _linked(words: Sequence[str], vocabulary: Vocabulary) -> Float[Tensor, "v d"]:
    """The text encoder's row of every word that both know; zeros, which say little, of all others."""
    rows = vocabulary.table.new_zeros((len(words), vocabulary.table.shape[1]))
    for at, word in enumerate(words):
        place = vocabulary.places.get(word)
        if place is not None:
            rows[at] = vocabulary.table[place]
    return rows
