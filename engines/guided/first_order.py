"""Words that would raise what a classifier says, found by gradient in captions as they are, then tried.

HotFlip (Ebrahimi et al. 2018) and AutoPrompt (Shin et al. 2020, eq. 2): to first order, putting word w in place of x_i raises the objective by
(V_w - V_x_i) . grad_i.  Ours: the gradient is taken with the place left blank, that is, with the mean of all words there, as AutoPrompt begins
with masks.  At a word that means the opposite it says little about others: of 1,983 exchanges on our miniature, ``dim`` for ``bright`` came
among the last for a classifier of light, and among the first with a blank.  It is averaged per place, a word and the word before it.  Since the
estimate stays rough, the first words of the ranking are put into the captions and drawn with the same seeds: many of them in one caption, the
best of those in several, and only what that gained is told.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.guided.gradient_path import Path, reach
from engines.guided.prompted import Prompted
from engines.guided.softprompt import Objective, activation_gradient
from engines.guided.softprompt_options import SoftPromptOptions

_PART = 64
"""Pictures drawn before they are judged: what has to be held at once."""
Draw = Callable[[Sequence[str], Sequence[int]], Float[np.ndarray, "n 3 h w"]]
"""Captions and a seed for each -> pictures in [0, 1]: :meth:`engines.pipeline.Pipeline.generate`."""


@dataclass(frozen=True, kw_only=True)
class FirstOrderOptions:
    """How many words are tried, and how."""

    glances: int = 128
    """Exchanges that are drawn in one caption with a seed each, in the order of their estimates."""
    candidates: int = 24
    """Of these, exchanges that are drawn in several captions with all seeds."""
    per_word: int = 4
    """Glances of one word at most, in its best places."""
    per_place: int = 12
    """Glances at one place at most."""
    contexts: int = 4
    """Captions that an exchange is tried in, at most."""
    pictures: int = 1
    """Captions that a place's gradient is averaged over, at most."""
    looks: int = 2
    """Seeds that a gradient is averaged over, of those that are given."""
    path: Path = "full"
    keep: int = 1
    """Steps with a gradient, for ``last_k``."""
    batch: int = 4
    """Pictures with gradients at a time."""
    checkpointed: bool = True

    def __post_init__(self) -> None:
        if (
            min(self.glances, self.candidates, self.per_word, self.per_place, self.contexts, self.pictures, self.looks, self.batch)
            < 1
        ):
            raise ValueError("numbers of exchanges, captions and pictures are at least 1")


@dataclass(frozen=True, order=True)
class Place:
    """Where captions have a word."""

    before: str
    """The word before it; empty at the start."""
    word: str

    def __str__(self) -> str:
        return f"{self.before} [{self.word}]".strip()


@dataclass(frozen=True)
class Exchange:
    """A word in the place of another."""

    word: str
    place: Place
    estimate: float
    """To first order, in the units of the gain; it ranks, and is often far from it."""
    gain: float
    """Mean objective with the word less that without it, over pictures of the same captions and seeds."""
    error: float
    """Standard error of the gain over these pairs; not a number for a single one."""
    pairs: int


Fits = Callable[[Place, str], bool]
"""Whether a word may stand in a place."""
Choice = tuple[str, Place, float]
"""A word, where it is put, and what that would gain to first order."""


def first_order(
    told: Prompted,
    objective: Objective,
    captions: Sequence[str],
    seeds: Sequence[int],
    *,
    draw: Draw,
    fits: Fits | None = None,
    options: FirstOrderOptions | None = None,
    count: Callable[[int], None] | None = None,
) -> tuple[Exchange, ...]:
    """Exchanges of single words in captions of the generator's kind, the largest gain first.

    ``told`` may have any sentence.  A small generator draws anything at all for a word that it was never told in a place: ``fits`` keeps to
    those that it was (:func:`as_in`).  Costs a gradient for every place and look, a picture for every glance, and one for every candidate, caption
    and seed; ``count`` is told the network rows of the gradients.  Raises ValueError for captions without a single plain word.
    """
    options = options or FirstOrderOptions()
    fits = fits or _anything
    scores = estimates(told, objective, captions, seeds, fits=fits, options=options, count=count)
    chosen = _chosen(scores, told.vocabulary.words, fits, options)
    device = told.generator.device

    def judged(images: Tensor) -> Tensor:
        return objective(images.to(device))

    glance = _Trial(draw, judged, captions, seeds[:1], 1)
    likely = sorted(glance.of(chosen), key=lambda one: -one.gain)[: options.candidates]
    trial = _Trial(draw, judged, captions, seeds, options.contexts)
    found = trial.of([(one.word, one.place, one.estimate) for one in likely])
    return tuple(sorted(found, key=lambda one: -one.gain))


def as_in(captions: Sequence[str]) -> Fits:
    """Words that the captions have behind the same word.

    >>> as_in(["a circle on sand"])(Place("on", "grass"), "sand")
    True
    """
    known = {place for caption in captions for place in _places(caption)}
    return lambda place, word: Place(place.before, word) in known


def _anything(_place: Place, _word: str) -> bool:
    return True


def estimates(
    told: Prompted,
    objective: Objective,
    captions: Sequence[str],
    seeds: Sequence[int],
    *,
    fits: Fits,
    options: FirstOrderOptions,
    count: Callable[[int], None] | None = None,
) -> Mapping[Place, Float[Tensor, " v"]]:
    """What every word of the vocabulary would gain in every place where some other word fits, to first order."""
    if not captions or not seeds:
        raise ValueError("words are looked for in at least one caption, with at least one seed")
    search = SoftPromptOptions(cutouts=0, batch=options.batch, checkpointed=options.checkpointed)
    table = told.vocabulary.table
    blank, found = table.mean(0), defaultdict[Place, list[Tensor]](list)
    for caption in dict.fromkeys(captions):
        whole, exact = told.caption(caption)
        to = reach(options.path, whole.generator.steps, keep=options.keep)
        for place, piece in zip(_places(caption), whole.sentence, strict=True):
            others = (word for word in told.vocabulary.words if word != place.word)
            if isinstance(piece, str) or len(found[place]) >= options.pictures or not any(fits(place, word) for word in others):
                continue
            around = exact.clone()
            around[piece] = blank
            _, gradient = activation_gradient(
                whole.generator, objective, around, seeds[: options.looks], to, options=search, count=count
            )
            found[place].append((table - exact[piece]) @ gradient[piece])  # (V_w - V_x_i) . grad_i
    return {place: torch.stack(each).mean(0) for place, each in found.items() if each}


def _places(caption: str) -> list[Place]:
    words = caption.split()
    return [Place(before, word) for before, word in zip(["", *words[:-1]], words, strict=True)]


def _chosen(
    scores: Mapping[Place, Float[Tensor, " v"]], words: Sequence[str], fits: Fits, options: FirstOrderOptions
) -> list[Choice]:
    """The highest scores, not too many of one word or one place."""
    ranked = sorted(
        (
            (-score, place, word)
            for place, each in scores.items()
            for word, score in zip(words, each.tolist(), strict=True)
            if word != place.word and math.isfinite(score) and fits(place, word)
        ),
    )
    of_word, of_place = defaultdict[str, int](int), defaultdict[Place, int](int)
    chosen: list[Choice] = []
    for score, place, word in ranked:
        if of_word[word] < options.per_word and of_place[place] < options.per_place and len(chosen) < options.glances:
            of_word[word] += 1
            of_place[place] += 1
            chosen.append((word, place, -score))
    return chosen


class _Trial:
    """Draws captions with a word exchanged, and those without once."""

    def __init__(self, draw: Draw, objective: Objective, captions: Sequence[str], seeds: Sequence[int], contexts: int) -> None:
        self.draw, self.objective, self.seeds, self.contexts = draw, objective, seeds, contexts
        self.captions, self.known = tuple(dict.fromkeys(captions)), dict[str, Tensor]()

    def of(self, chosen: Sequence[Choice]) -> list[Exchange]:
        """What each gains, all drawn in one go."""
        having = {
            place: [caption for caption in self.captions if place in _places(caption)][: self.contexts] for _, place, _ in chosen
        }
        self.fill([*(caption for each in having.values() for caption in each)])
        self.fill([_exchanged(caption, place, word) for word, place, _ in chosen for caption in having[place]])
        return [self.exchange(one, having[one[1]]) for one in chosen]

    def exchange(self, chosen: Choice, captions: Sequence[str]) -> Exchange:
        word, place, estimate = chosen
        gains = torch.cat([self.known[_exchanged(caption, place, word)] - self.known[caption] for caption in captions])
        spread = float(gains.std()) if len(gains) > 1 else math.nan
        return Exchange(word, place, estimate, float(gains.mean()), spread / math.sqrt(len(gains)), len(gains))

    def fill(self, captions: Sequence[str]) -> None:
        """Objective of a picture of each seed, for captions that are not known yet."""
        new = [caption for caption in dict.fromkeys(captions) if caption not in self.known]
        asked = [(caption, seed) for caption in new for seed in self.seeds]
        values: list[Tensor] = []
        for start in range(0, len(asked), _PART):
            part = asked[start : start + _PART]
            images = self.draw([caption for caption, _ in part], [seed for _, seed in part])
            with torch.no_grad():
                values.append(self.objective(torch.from_numpy(images)).float().cpu())
        if new:
            told = torch.cat(values).view(len(new), len(self.seeds))
            self.known |= dict(zip(new, told, strict=True))


def _exchanged(caption: str, place: Place, word: str) -> str:
    """In the first such place."""
    words, at = caption.split(), _places(caption).index(place)
    return " ".join([*words[:at], word, *words[at + 1 :]])
