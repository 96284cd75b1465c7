"""How a soft prompt is searched for, and what the search hands out.  Defaults are DEXTER's (2025) where DiffExplainer states none."""

from dataclasses import dataclass, field

from engines.guided.gradient_path import Path, Prompt
from engines.guided.prompt_terms import PromptWeights


@dataclass(frozen=True, kw_only=True)
class SoftPromptOptions:
    """How a prompt is searched for."""

    soft_tokens: int = 4
    lr: float = 0.1
    """Adam's, for token embeddings; 0.01 suits conditioning behind the text encoder."""
    steps: int = 1000
    restarts: int = 3
    latents: int = 2
    """Fresh pictures of every step."""
    path: Path = "full"
    keep: int = 1
    """Steps with a gradient, for ``last_k``."""
    checkpointed: bool = True
    batch: int = 2
    """Pictures at a time; changes memory, and the gradient by rounding only."""
    cutouts: int = 16
    """Crops of each picture that the objective sees while optimising; 0: the picture itself.  Scores are of pictures themselves."""
    cutout_size: int | None = None
    clip: float = 1.0
    """Longest gradient."""
    weights: PromptWeights = field(default_factory=PromptWeights)
    hard: bool = False
    """Draw what the nearest words of the table say, and move the soft prompt by the gradient there (PEZ, Wen et al. 2023)."""
    every: int = 50
    """Steps between scores on held-out seeds."""
    held_out: int = 8
    verify: int = 100
    patience: int = 10
    """Skipped steps in a row that end a restart."""

    def __post_init__(self) -> None:
        counts = (
            self.soft_tokens,
            self.steps,
            self.restarts,
            self.latents,
            self.batch,
            self.every,
            self.held_out,
            self.verify,
            self.patience,
        )
        if min(counts) < 1 or self.cutouts < 0:
            raise ValueError("numbers of tokens, steps, restarts and pictures are at least 1, of cutouts at least 0")
        if min(self.lr, self.clip) <= 0:
            raise ValueError(f"the learning rate and the longest gradient are positive, got {self.lr} and {self.clip}")


@dataclass(frozen=True)
class Update:
    """One step of the search."""

    restart: int
    step: int
    loss: float
    activation: float
    """Mean objective of the step's own pictures (crops, where there are any)."""
    length: float
    """Of the gradient, before clipping."""
    lr: float
    """The rate of this step."""
    skipped: bool
    """Something was not finite: the prompt stayed as it was, and the rate is halved from here on."""
    network_rows: int
    """So far, repeated evaluations included."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A prompt at the moment of a held-out score."""

    restart: int
    step: int
    """Updates before it; 0 is the start."""
    score: float
    """Mean objective on the held-out seeds, which all candidates share."""
    embeddings: Prompt
    """What was drawn: of words where the search is hard."""


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """What was found."""

    embeddings: Prompt
    held_out: float
    """Best mean objective on the seeds that it was chosen by: a little too good."""
    verified: float
    """Mean objective on seeds that nothing was chosen by; not a number where one of their pictures broke."""
    best: tuple[Candidate, ...]
    """Of each restart; how alike they are says how stable the answer is."""
    scores: tuple[Candidate, ...]
    history: tuple[Update, ...]
    skipped: int
    network_rows: int
    """Rows that the network evaluated, repeated ones of checkpointing included; rows of gradients are not counted."""
