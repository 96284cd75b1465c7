"""A model that answers prompts by the words they say, in closed form: what it responds to is known."""

from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist

import numpy as np

from audit_plugin.concepts.phrasing import CaptionForms, Sentences
from audit_plugin.core.discovery_results import WordPart
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.methods.diffexplainer.asking import Answers, LimitReachedError
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.word_bank import BankWord

SAID = Sentences(("a photo",))
SMALL = DiscoveryOptions(shortlist=12, again_seeds=8, keep=6, pairs=40, beam=3, compose_seeds=8, verify=40, screen_seeds=4)
CAPTIONS = CaptionForms.learned(
    [
        f"a {colour} {shape} on {place}{ruler}"
        for colour in ("red", "blue", "green")
        for shape in ("circle", "square")
        for place in ("sand", "grass", "water")
        for ruler in ("", " with a ruler")
    ]
)


def words(*names, source="file"):
    return tuple(BankWord(word=name, source=source) for name in names)


def idle(count):
    """So many words that do nothing."""
    return words(*(f"thing{at}" for at in range(count)))


@dataclass
class Planted:
    """Implements Ask: a column for each mapping of words to what saying them adds; a seed shifts all prompts, and each a little."""

    weights: tuple[dict[str, float], ...]
    base: float = -1.0
    noise: float = 0.3
    luck: float = 1.0
    labels: bool = False
    most: int | None = None
    """Pictures, after which the budget is spent."""
    asked: list[tuple[str, int, str]] = field(default_factory=list)

    def __call__(self, prompts, seeds, what):
        if self.most is not None and len({*self.asked_pairs, *zip(prompts, seeds, strict=True)}) > self.most:
            raise LimitReachedError("classifier_queries")
        self.asked += zip(prompts, seeds, [what] * len(seeds), strict=True)
        score = np.array(
            [[self._one(column, *one) for column in range(len(self.weights))] for one in zip(prompts, seeds, strict=True)]
        )
        taken = score > 0
        return Answers(
            shas=tuple(f"{prompt}|{seed}" for prompt, seed in zip(prompts, seeds, strict=True)),
            score=taken.astype(float) if self.labels else score,
            shown=1 / (1 + np.exp(-score)),
            taken=taken,
        )

    @property
    def asked_pairs(self):
        return {(prompt, seed) for prompt, seed, _ in self.asked}

    def during(self, what):
        """(prompt, seed) that were asked about for a purpose."""
        return [(prompt, seed) for prompt, seed, purpose in self.asked if purpose.startswith(what)]

    def _one(self, column, prompt, seed):
        said = sum(weight for word, weight in self.weights[column].items() if _said(prompt, word))
        return self.base + said + self.luck * _normal("shared", column, seed) + self.noise * _normal(prompt, column, seed)


@cache
def _said(prompt, word):
    return SAID.said(prompt, word)


@cache
def _normal(name, column, seed):
    """A standard normal number that belongs to the three names."""
    return NormalDist().inv_cdf((seed_of(name, str(column), seed) + 1) / (2**63 + 2))


def undecided(_subject, _tested):
    """Nothing tells what is core."""
    return WordPart.UNKNOWN, None, ""
