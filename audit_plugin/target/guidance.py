"""What an operator can say about how counterfactuals of a deployed model are guided; no torch here, so that reading it costs nothing."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar


class Rung(StrEnum):
    """How the deployed model's gradient is had."""

    TWIN = "twin"
    """From a local copy of the file that the server runs."""
    ENDPOINT = "endpoint"
    """From a gradient model that the server offers beside it."""
    SURROGATE = "surrogate"
    """From students of its answers."""
    FREE = "gradient_free"
    """Not at all: from its answers to many pictures."""


@dataclass(frozen=True, kw_only=True)
class StudentOptions:
    """How students are made, and what they must be able to do."""

    students: int = 2
    widths: tuple[int, ...] = (24, 48, 96)
    epochs: int = 30
    batch: int = 64
    learning_rate: float = 2e-3
    noise: float = 0.03
    """Standard deviation of the noise that pictures are seen with in training, on the scale of [0, 1]."""
    held_out: float = 0.15
    """Share of the pictures that judge the students and never teach them."""
    top1: float = 0.95
    """Least share of held-out real pictures with the server's class."""
    top1_generated: float = 0.90
    """The same of pictures that a diffusion made."""
    rises: float = 0.8
    """Least share of pictures whose deployed score rises along the students' gradient."""
    times_random: float = 2.0
    """Least mean rise, in units of that along a smooth random direction."""
    step: float = 0.01
    """Length of that step: so many root mean squares over the pixels, on the scale of [-1, 1]."""

    def __post_init__(self) -> None:
        if (
            not self.widths
            or min(self.students, self.epochs, self.batch, *self.widths) < 1
            or any(width % 4 for width in self.widths)
        ):
            raise ValueError("students, epochs, batch and widths are 1 or more, and widths are multiples of 4")
        if not 0 < self.held_out < 1 or min(self.learning_rate, self.step) <= 0 or self.noise < 0:
            raise ValueError("held_out is a share in (0, 1), learning_rate and step are above 0, noise is not negative")


@dataclass(frozen=True, kw_only=True)
class GradientOptions:
    """What the operator can give, and what has to hold before it is used."""

    rung: Rung | None = None
    """The one to use; when absent the first of twin, endpoint and gradient_free that can be had (never a surrogate, which costs thousands of
    queries)."""
    file: Path | None = None
    """The file that the server runs: ONNX, TorchScript (.pt) or an exported program (.pt2)."""
    endpoint: str | None = None
    """Name of the gradient model; the model's own name with ``_vjp`` when absent."""
    top1: float = 0.995
    """Least share of pictures to which twin or endpoint give the server's class."""
    worst: float = 0.02
    """Largest difference of a probability: 0.001 for a float32 engine, 0.02 where the server runs FP16 or INT8."""
    queries: int = 5000
    """Most pictures that students are taught with, each asked once."""
    of_class: str = ""
    """Of a model of independent classes (sigmoid) the class whose presence is to be flipped, decided at one half; the likeliest class when empty."""
    student: StudentOptions = field(default_factory=StudentOptions)
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
