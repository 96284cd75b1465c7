"""What a caller can say about counterfactuals of a pipeline: which method, how far, how hard, how often."""

from dataclasses import dataclass
from typing import Literal, get_args

Guided = Literal["polyak", "dime", "fastdime", "fastdime2", "fastdime2plus", "maskdime", "dvce", "ace", "ldce"]
"""Methods that need the classifier's gradient."""
Scored = Literal["ensemble", "evolution"]
"""Methods that need its scores alone."""
Method = Guided | Scored
GUIDED: tuple[Guided, ...] = get_args(Guided)
SCORED: tuple[Scored, ...] = get_args(Scored)
METHODS: tuple[Method, ...] = (*GUIDED, *SCORED)


@dataclass(frozen=True, kw_only=True)
class ProposalPlan:
    """How far and how hard images are edited."""

    kept: int = 50
    """Steps of the chain; 200 in the papers."""
    signal: float = 0.63
    """sqrt(alpha_bar) where an edit starts; less changes more."""
    deeper: tuple[float, ...] = (0.45, 0.3)
    """Starts for images that no strength has flipped from ``signal``; those that are not deeper are passed over.  DiME has none, as published."""
    scales: tuple[float, ...] = ()
    """Class scales of the DiME family, tried in this order; the papers' when empty, for latents 12.5 times those."""
    bisections: int = 2
    """How often the strength is halved back once an image has flipped."""
    confidence: float = 0.5
    """Least probability of the target for a flip."""
    goal: float = 0.95
    """Probability that steps of Polyak's length aim for."""
    jpeg: int | None = 90
    """Quality of the JPEG that a flip by a gradient, and one that was trimmed, has to outlive as well; None asks about the stored bytes alone,
    as searches by scores and variations that nobody guides do."""
    iterations: int = 50
    """Of ACE's attack."""
    particles: int = 16
    """Of guidance without gradients."""
    steps: int = 20
    """Network calls of a particle."""
    free_steps: int = 8
    """Network calls of a variation that nobody guides."""
    trims: tuple[float, ...] = (0.5, 0.35, 0.25, 0.15, 0.08)
    """Shares of the largest change below which pixels may go back to the original, once an image has flipped: of those that keep the flip the
    one nearest to the original is taken.  A query each, two where ``jpeg`` has a say; none when empty."""

    def starts(self) -> tuple[float, ...]:
        """Where edits start, least noise first."""
        return (self.signal, *(each for each in self.deeper if each < self.signal))
