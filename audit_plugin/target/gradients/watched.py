"""Students that are watched while they guide: what they take for flips, and how many of those the deployed model takes for flips too.

Where too few transfer, the students are taught again, once, with the pictures that failed; where that does not help, nobody asks them any more.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from audit_plugin.core.errors import GradientError
from audit_plugin.target.gradients.student import (
    OnStep,
    Pictures,
    Predict,
    Surrogate,
    Transfer,
    check_transfer,
    examine,
    taught_again,
)
from audit_plugin.target.guidance import StudentOptions

LEAST_TRANSFER = 0.6
"""Share of the students' flips, below which they are taught again."""
WINDOW = 50
"""Latest flips of the students that the share is taken over."""
FEWEST = 8
"""Flips of the students, below which no share is taken."""


@dataclass(eq=False, kw_only=True)
class WatchedSurrogate:
    """A judge that knows how often it was right.  Not thread safe."""

    surrogate: Surrogate
    predict: Predict
    """The deployed model."""
    options: StudentOptions
    on_step: OnStep | None = None
    keep: Callable[[Surrogate, Transfer], None] = lambda _surrogate, _found: None
    """Told of students that were taught again and passed their tests."""
    again: bool = False
    """Whether they were taught again already."""
    given_up: bool = False
    """Whether guidance must do without it."""
    by_students: int = 0
    """Flips in the students' eyes, in all."""
    by_server: int = 0
    """Those of them that the deployed model saw, too."""
    notes: list[str] = field(default_factory=list)
    """What was done about it."""
    _latest: deque[bool] = field(default_factory=lambda: deque(maxlen=WINDOW), init=False)
    _failed: list[Pictures] = field(default_factory=list, init=False)

    def __call__(self, images: Float[torch.Tensor, "n 3 h w"]) -> Float[torch.Tensor, "n k"]:
        """Logits of the students."""
        return self.surrogate(images)

    @property
    def rate(self) -> float | None:
        """Transfer rate: valid on the server / valid on the students, over their latest flips; None for too few."""
        return sum(self._latest) / len(self._latest) if len(self._latest) >= FEWEST else None

    def __str__(self) -> str:
        if not self.by_students:
            return "no flip of its own yet"
        return f"{self.by_server} of {self.by_students} flips of its own are flips of the deployed model"

    def saw(self, pictures: Pictures, targets: Int[np.ndarray, " n"], flipped: Bool[np.ndarray, " n"]) -> None:
        """Pictures (n 3 h w) that were made with its help, and whether the deployed model says the target of each."""
        if not len(pictures):
            return
        with torch.no_grad():
            own = self.surrogate(torch.from_numpy(np.ascontiguousarray(pictures, np.float32))).argmax(1).numpy() == targets
        self._latest.extend(flipped[own].tolist())
        self.by_students += int(own.sum())
        self.by_server += int((own & flipped).sum())
        self._failed.append(pictures[own & ~flipped])
        if (rate := self.rate) is not None and rate < LEAST_TRANSFER:
            self._taught_again(rate)

    def _taught_again(self, rate: float) -> None:
        if self.again:
            self._give_up(f"{rate:.0%} of the students' flips transfer after they were taught again")
            return
        self.again = True
        failed = np.concatenate(self._failed)
        self.surrogate = taught_again(self.surrogate, failed, self.predict(failed), options=self.options, on_step=self.on_step)
        self.notes.append(
            f"{rate:.0%} of the students' flips were flips of the deployed model (at least {LEAST_TRANSFER:.0%} are needed): they "
            f"were taught again with {len(failed)} pictures that failed"
        )
        self._latest.clear()
        self._failed.clear()
        found = examine(self.surrogate, self.predict, options=self.options)
        try:
            check_transfer(found, self.options)
        except GradientError as error:
            self._give_up(str(error))
        else:
            self.keep(self.surrogate, found)

    def _give_up(self, why: str) -> None:
        self.given_up = True
        self.notes.append(f"the surrogate was given up, and later pictures made without gradients: {why}")
