"""What a training run of a diffusion over pixels does, as one frozen value; it is written into the model card."""

from dataclasses import asdict, dataclass

from engines.training.errors import TrainingError

HEADS = 4
"""Of the attention at the lowest resolution."""


@dataclass(frozen=True, kw_only=True)
class PixelRecipe:
    """Sizes and budgets.  The defaults make a network of 2.5 M parameters; size and colours are those of the pictures."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    """Width per resolution, each half the one before; the first is what a step costs most for."""
    layers: int = 1
    """Residual blocks per resolution."""
    groups: int = 8
    """Channels are normalised in so many groups."""
    steps: int = 100_000
    seconds: float = float("inf")
    """Wall-clock limit; the learning rate decays to the end of whichever budget ends first."""
    batch: int = 16
    learning_rate: float = 8e-4
    min_snr_gamma: float | None = 5.0
    """Timesteps with more signal than that (in units of the noise's variance) weigh less; None weighs all the same."""
    mirror: bool = False
    """Left-right flips as augmentation."""
    ema_decay: float = 0.999
    """Of the moving average that is written."""
    seed: int = 0
    sampling_steps: int = 50
    """Written into the directory as its default."""
    checkpoint_seconds: float = 60.0
    """How often the run is saved, so that a killed one goes on."""

    def __post_init__(self) -> None:
        amounts = (self.layers, self.steps, self.seconds, self.batch, self.learning_rate, self.sampling_steps)
        problems = {
            "channels must name at least one resolution": not self.channels,
            f"channels {self.channels} must be multiples of the {self.groups} groups and of {HEADS} attention heads": self.groups
            < 1
            or any(width < 1 or width % self.groups or width % HEADS for width in self.channels),
            "layers, steps, seconds, batch, rate and sampling steps must be positive": min(amounts) <= 0,
            f"min_snr_gamma {self.min_snr_gamma} must be positive; leave it out to weigh all timesteps the same": (
                self.min_snr_gamma is not None and self.min_snr_gamma <= 0
            ),
            f"ema_decay {self.ema_decay} is not a share below one": not 0 <= self.ema_decay < 1,
        }
        for problem, holds in problems.items():
            if holds:
                raise TrainingError(f"recipe: {problem}")

    @property
    def shrinking(self) -> int:
        """How many times smaller the lowest resolution is, per side."""
        return int(2 ** (len(self.channels) - 1))

    @property
    def identity(self) -> dict[str, object]:
        """The settings that must not change between two sessions of a run."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}


_FREE = {"steps", "seconds", "checkpoint_seconds", "sampling_steps"}
