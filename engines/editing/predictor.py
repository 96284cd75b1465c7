"""What editing knows of a network: its raw output by timestep, and what that output means."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.precondition import Prediction, TimestepNetwork, estimates


class Estimate(NamedTuple):
    """The two parts that a network sees in x = sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise, each (n c h w)."""

    noise: Tensor
    clean: Tensor


@dataclass(frozen=True, eq=False)
class Predictor:
    """A network over timesteps.  Guidance is composed in its raw output: both estimates are affine in it, whatever it predicts."""

    network: TimestepNetwork
    prediction: Prediction
    clip: float | None = None
    """Largest size of a clean estimate, where the scheduler clips it."""

    @classmethod
    def of(cls, diffusion: Diffusion) -> "Predictor":
        """The network of a pipeline, as its engine runs it."""
        return cls(diffusion.course.network, diffusion.prediction, diffusion.course.scheduler.clip)

    def output(self, x: Tensor, t: int, conditioning: Conditioning) -> Tensor:
        """One prediction a row for x (n c h w) at timestep t, in x's own precision; one call to the network."""
        return self.network(x, x.new_full([len(x)], t), conditioning).to(x)

    def estimate(self, x: Tensor, output: Tensor, alpha_bar: float) -> Estimate:
        """What an output, guided or not, says of x."""
        noise, clean = estimates(self.prediction, x, output, x.new_full([len(x)], alpha_bar))
        if self.clip is None:
            return Estimate(noise, clean)
        clean = clean.clamp(-self.clip, self.clip)
        return Estimate((x - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5, clean)
