"""What both ways of training detectors share: options, the rows with their weights, the weighted loss, the temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.core.values import Concept
from audit_plugin.perception.balance import Split

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How the detectors are trained."""

    size: int = 64
    """Pixels per side that the detector sees."""
    epochs: int = 40
    """Most passes over the training rows."""
    seconds: float = 240.0
    """Wall-clock limit; reaching it ends training early, which makes the result depend on the machine."""
    patience: int = 12
    """Passes without progress on the tuning rows before training stops."""
    good_enough: float = 0.02
    """Training stops when no concept's cross-entropy on the tuning rows is above this: nothing is left to learn."""
    batch: int = 32
    learning_rate: float = 2e-3
    held_out: float = 0.15
    """Share of the units to tune by, and again as many to judge by."""
    shift_px: int = 4
    """Largest random shift, in pixels of the detector's input."""
    mirror: bool = False
    """Also learn from mirror images; wrong where left and right are a concept."""
    brightness: float = 0.10
    """Largest relative change of brightness and of contrast; set to 0 where lighting is a concept."""
    tint: float = 0.03
    """Largest relative change of one colour channel."""
    noise: float = 0.03
    """Largest standard deviation of added pixel noise."""
    l2: float = 1e-2
    """Penalty on the logistic heads (feature networks only)."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything there is to learn from."""

    images: Images
    """``(n, 3, size, size)``."""
    values: NDArray[np.int64]
    """Level indices ``(n, concepts)``."""
    weights: NDArray[np.float64]
    """Row weights ``(n, concepts)``, balanced within the training and within the tuning rows."""
    rows: Split
    concepts: tuple[Concept, ...]
    options: TrainingOptions


def weighted_losses(logits: "Sequence[Tensor]", truth: "Tensor", weight: "Tensor") -> "Tensor":
    """Weighted cross-entropy of each concept; logits ``(n, levels)`` each, truth and weight ``(n, concepts)``."""
    import torch
    from torch.nn.functional import cross_entropy

    losses = [(cross_entropy(z, truth[:, j], reduction="none") * weight[:, j]).mean() for j, z in enumerate(logits)]
    return torch.stack(losses)


def temperature(logits: "Tensor", truth: "Tensor", weight: "Tensor") -> float:
    """The T in [1/2, 8] with the least weighted negative log-likelihood of softmax(logits / T); truth and weight ``(n)``.

    The lower end keeps a handful of tuning rows without any error from claiming certainty.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return float(weighted_losses([logits / float(np.exp(log_t))], truth[:, None], weight[:, None])[0])

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1 / 2), np.log(8)), method="bounded").x))
