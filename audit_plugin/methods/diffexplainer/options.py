"""How thoroughly words, and blends of them, are searched for and tested.  Defaults: specification 7.2 to 7.6 and 12."""

from dataclasses import dataclass
from typing import Literal

from audit_plugin.methods.diffexplainer.search import AGAIN

MOST_CMA = 32
"""Dimensions that CMA-ES searches well within budgets like ours."""


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
    hard_tokens: int = 0
    """Runs with whole words in the gaps of a prompt from the first step on (after DEXTER), each without the words of those before; 0: none."""
    hard_steps: int = 300
    """Pictures of each such run, one a step."""
    language_model: str = ""
    """Directory of a masked language model (BERT's class) that proposes words for the gaps; the text encoder's own words when empty."""

    def __post_init__(self) -> None:
        counts = (self.steps, self.restarts, self.latents, self.keep, self.soft_tokens, self.looks, self.hard_steps)
        if min(counts) < 1 or min(self.cutouts, self.described, self.hard_tokens) < 0:
            raise ValueError(
                "numbers of steps, restarts and pictures are at least 1, of cutouts, described pictures and hard tokens at least 0"
            )
        if self.lr <= 0 or not 0 < self.enough < 1:
            raise ValueError(f"lr is above 0 and enough between 0 and 1, got {self.lr} and {self.enough}")


@dataclass(frozen=True, kw_only=True)
class SubspaceSearch:
    """How blends of a subject's best words are searched, by the server's answers alone."""

    method: Literal["auto", "cmaes", "nes"] = "auto"
    """``cmaes`` or ``nes``; ``auto``: CMA-ES up to 32 dimensions, and where the server gives labels alone, else NES."""
    dim: int = 16
    """Best words that are blended, a dimension each; fewer where fewer change what the generator is told."""
    budget: int = 1000
    """Pictures of one search, each asked about once."""
    labels_budget: int = 8000
    """Queries of one search where the server gives labels alone."""
    restarts: int = 2
    """Runs of CMA-ES that share a budget, if it is worth 500 queries to each."""
    population: int = 16
    """Blends of a generation (CMA-ES)."""
    pairs: int = 10
    """Mirrored blends of a step (NES)."""
    draws: int = 1
    """Seeds that all blends of a generation are drawn under; the next one gets others."""
    box: float = 3.0
    """Farthest along any dimension; words stand about 1 from the prompt without them."""
    penalty: float = 0.1
    """Times the mean square of a blend's coordinates is taken off its score while it is searched."""
    label_seeds: int = 8
    """Pictures of a blend whose labels are counted, where there are labels alone; together they count as one seed."""
    augmentations: int = 4
    """Looks at each such picture, a little moved and lit: itself, and copies that lie in the bank too."""

    def __post_init__(self) -> None:
        counts = (self.dim, self.restarts, self.pairs, self.draws, self.label_seeds, self.augmentations)
        if min(counts) < 1 or self.population < 4 or self.box <= 0 or self.penalty < 0:
            raise ValueError("numbers are at least 1, of a population at least 4; box lies above 0, penalty not below it")
        if self.method == "cmaes" and self.dim > MOST_CMA:
            raise ValueError(f"cmaes searches at most {MOST_CMA} dimensions, got {self.dim}; use nes or auto")
        for name, budget, least in (
            ("budget", self.budget, 2 * self.generation * self.draws),
            ("labels_budget", self.labels_budget, 2 * self.generation * self.label_seeds * self.augmentations),
        ):
            if budget < least:
                raise ValueError(f"{name} must be at least {least}, two generations, got {budget}")

    @property
    def generation(self) -> int:
        """Most blends of a generation, the best ones again among them."""
        return max(self.population + AGAIN, 2 * self.pairs)

    def by_cma(self, dim: int, *, graded: bool) -> bool:
        """Whether CMA-ES searches so many dimensions.

        >>> [SubspaceSearch(dim=64).by_cma(dim, graded=True) for dim in (16, 64)]
        [True, False]
        """
        return self.method == "cmaes" or (self.method == "auto" and (dim <= MOST_CMA or not graded))


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
