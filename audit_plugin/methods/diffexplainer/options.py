"""How thoroughly words are searched for and tested.  Defaults: specification 7.2 and 12."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class GradientSearch:
    """How soft prompts are searched for, where the model's gradient can be had."""

    steps: int = 40
    """Updates of each at most; it ends as soon as its pictures are of the class."""
    lr: float = 0.05
    """Adam's.  Large ones reach the class within a few updates, far from any word."""
    enough: float = 0.9
    """Probability of the class, over three updates in a row, that ends a search."""
    restarts: int = 2
    latents: int = 2
    """Fresh pictures of every update."""
    path: Literal["full", "last_k", "truncated", "shortcut"] = "full"
    """How far back through the sampler the gradient goes."""
    keep: int = 1
    """Steps with a gradient, of ``last_k``."""
    cutouts: int = 4
    """Crops of every picture that the model is shown while a prompt is searched for; 0: the picture itself."""
    soft_tokens: int = 4
    """Behind a prefix; captions of a form are soft as a whole."""
    described: int = 16
    """Pictures of a soft prompt that the generator itself says in words; 0: none."""
    looks: int = 6
    """Levels of noise at which it compares captions."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.restarts, self.latents, self.keep, self.soft_tokens, self.looks)
        if min(counts) < 1 or min(self.cutouts, self.described) < 0:
            raise ValueError("numbers of steps, restarts and pictures are at least 1, of cutouts and described pictures at least 0")
        if self.lr <= 0 or not 0 < self.enough < 1:
            raise ValueError(f"lr is above 0 and enough between 0 and 1, got {self.lr} and {self.enough}")


@dataclass(frozen=True, kw_only=True)
class DiscoveryOptions:
    """Numbers of words, seeds and pictures."""

    words: int = 3000
    """Most words in the bank."""
    screen_seeds: int = 4
    """Pictures of every word at first; banks of fewer than 250 words get more, up to 16."""
    shortlist: int = 100
    """Best words of a subject that are estimated again, under fresh seeds."""
    again_seeds: int = 16
    keep: int = 20
    """Best of those that are tested."""
    pairs: int = 100
    """Seeds with and without a word, in the test that decides."""
    beam: int = 8
    depth: int = 3
    """Most words in one prompt."""
    compose_seeds: int = 16
    verify: int = 100
    """Pictures of which an activation score is the share."""
    q: float = 0.05
    examples: int = 3
    """Pairs of a word that are kept to be looked at."""
    pictures: int = 12
    """Of a prompt."""

    def __post_init__(self) -> None:
        for name, least in (("words", 1), ("screen_seeds", 2), ("again_seeds", 2), ("pairs", 10), ("verify", 10)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if min(self.shortlist, self.keep, self.beam, self.depth, self.compose_seeds) < 1 or not 0 < self.q < 1:
            raise ValueError("numbers of words and seeds are at least 1, q lies between 0 and 1")

    def seeds_of(self, words: int) -> int:
        """Pictures of every word of a bank of so many, at first.

        >>> DiscoveryOptions().seeds_of(3000), DiscoveryOptions().seeds_of(20)
        (4, 16)
        """
        return max(self.screen_seeds, min(16, 1000 // max(1, words)))
