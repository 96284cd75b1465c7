"""Step rules: the mean of the next, less noisy state.  Whatever it misses, inversion keeps as a residual, so that every rule is exact.

States have unit variance; a = alpha_bar of the present step, b that of the next, which is 1 at the last.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

from engines.editing.grid import TimeGrid
from engines.editing.predictor import Estimate
from engines.precondition import SIGMA_DATA


class StepRule(Protocol):
    """One way down a grid."""

    @property
    def name(self) -> str:
        """As files and fingerprints call it."""
        ...

    def mean(self, grid: TimeGrid, k: int, x: Tensor, now: Estimate, before: Tensor | None) -> Tensor:
        """Mean of the state after step k, from x (n c h w), what the network sees in it, and the clean estimate of the step before."""
        ...


@dataclass(frozen=True)
class EditFriendlyDdpm:
    """The posterior of DDPM as a DDIM step with noise (Song et al. 2021, eq. 12 and 16), inverted after Huberman-Spiegelglas et al. 2024."""

    eta: float = 1.0
    """Share of the posterior's spread; 0 is DDIM."""
    name: str = "ddpm"

    def mean(self, grid: TimeGrid, k: int, x: Tensor, now: Estimate, before: Tensor | None) -> Tensor:
        """sqrt(b) clean + sqrt(1 - b - sigma^2) noise, sigma^2 = eta^2 (1 - b) / (1 - a) (1 - a / b)."""
        a, b = grid.alpha_bars[k : k + 2]
        variance = self.eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        return math.sqrt(b) * now.clean + math.sqrt(max(1 - b - variance, 0.0)) * now.noise


@dataclass(frozen=True)
class SdeDpmSolver:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022), the midpoint form, as LEDITS++ uses it; order one at the first and the last step."""

    name: str = "sde_dpmpp_2m"

    def mean(self, grid: TimeGrid, k: int, x: Tensor, now: Estimate, before: Tensor | None) -> Tensor:
        """(sigma_b / sigma_a) exp(-h) x + alpha_b (1 - exp(-2h)) D, with lambda = ln(alpha / sigma), h = lambda_b - lambda_a."""
        a, b = grid.alpha_bars[k : k + 2]
        if b == 1.0:
            return now.clean
        h = _log_snr(b) - _log_snr(a)
        ahead = now.clean
        if before is not None:
            r = (_log_snr(a) - _log_snr(grid.alpha_bars[k - 1])) / h
            ahead = ahead + (now.clean - before) / (2 * r)
        return math.sqrt((1 - b) / (1 - a)) * math.exp(-h) * x - math.sqrt(b) * math.expm1(-2 * h) * ahead


@dataclass(frozen=True)
class Consistency:
    """A jump to the consistency function's answer (Luo et al. 2023, eq. 9 and algorithm 3); the noise after it is the residual's."""

    scaling: float = 10.0
    """How steeply the function leaves the identity: the scheduler's ``timestep_scaling``."""
    name: str = "consistency"

    def mean(self, grid: TimeGrid, k: int, x: Tensor, now: Estimate, before: Tensor | None) -> Tensor:
        """sqrt(b) (c_skip x + c_out clean)."""
        t = self.scaling * grid.times[k]
        norm = t**2 + SIGMA_DATA**2
        return math.sqrt(grid.alpha_bars[k + 1]) * (SIGMA_DATA**2 / norm * x + t / math.sqrt(norm) * now.clean)


RULES: Mapping[str, type[EditFriendlyDdpm] | type[SdeDpmSolver] | type[Consistency]] = {
    "ddpm": EditFriendlyDdpm,
    "sde_dpmpp_2m": SdeDpmSolver,
    "consistency": Consistency,
}


def rule_note(rule: StepRule) -> dict[str, Any]:
    """A rule as JSON holds it; TypeError for one that could not be read back."""
    if not isinstance(rule, EditFriendlyDdpm | SdeDpmSolver | Consistency):
        raise TypeError(f"step rule {rule.name!r} has no name here; known are {', '.join(RULES)}")
    return asdict(rule)


def rule_of(note: Mapping[str, Any]) -> StepRule:
    """The rule of a note; ValueError for one that is not known."""
    if note.get("name") not in RULES:
        raise ValueError(f"step rule {note.get('name')!r} is unknown; known are {', '.join(RULES)}")
    return RULES[note["name"]](**note)


def _log_snr(alpha_bar: float) -> float:
    return math.log(alpha_bar / (1 - alpha_bar)) / 2
