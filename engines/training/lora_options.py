"""What a LoRA fine-tune does, as one frozen value; it is written into the model card."""

from dataclasses import dataclass
from typing import Literal

from engines.training.errors import TrainingError

UNET_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections of diffusers' UNets, self and cross."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""The attention projections of transformers' CLIP text encoders."""


@dataclass(frozen=True, kw_only=True)
class LoraRecipe:
    """Low-rank adaptation (Hu et al. 2021) of a pipeline's UNet: y = W x + (alpha / rank) B A x, with W frozen."""

    rank: int = 16
    """Rows of A; the adapter's size and capacity grow with it."""
    alpha: float | None = None
    """Strength; the rank when absent, which makes the factor one.  It is folded into the stored B."""
    targets: tuple[str, ...] = UNET_TARGETS
    """Layers of the UNet that get an adapter: linear or convolution, by the end of their name."""
    text_encoder: bool = False
    """Adapt the text encoders too; for words they do not know.  Costs memory, and contexts can no longer be computed once."""
    text_targets: tuple[str, ...] = TEXT_TARGETS
    """Layers of the text encoders that get an adapter, where they do."""
    image_size: int | None = None
    """Pixels per side; what the pipeline draws at when absent."""
    steps: int = 1_000
    seconds: float = float("inf")
    """Wall-clock limit; the learning rate decays to the end of whichever budget ends first."""
    batch: int = 4
    learning_rate: float = 1e-4
    caption_dropout: float = 0.1
    """Share of training captions left empty, so that classifier-free guidance keeps working."""
    min_snr_gamma: float | None = 5.0
    """Weigh timesteps by min(SNR, gamma), in terms of the clean image (Hang et al. 2023); none when absent."""
    ema_decay: float = 0.0
    """Of the moving average that is written; 0 writes the last step's adapter."""
    mirror: bool = False
    """Left-right flips as augmentation; only where they change no caption."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the frozen weights and of arithmetic; auto is bf16 on a CUDA device that has it.  Adapters are always float32."""
    gradient_checkpointing: bool | None = None
    """Compute activations twice instead of keeping them; on CUDA devices when absent."""
    seed: int = 0
    checkpoint_seconds: float = 60.0
    """How often the run is saved, so that a killed one goes on."""

    def __post_init__(self) -> None:
        problems = {
            f"rank {self.rank} is not positive": self.rank < 1,
            f"alpha {self.alpha} is not positive": self.alpha is not None and not self.alpha > 0,
            "targets is empty; name at least one layer": not self.targets or (self.text_encoder and not self.text_targets),
            f"image_size {self.image_size} is not positive": self.image_size is not None and self.image_size < 1,
            "steps, batch, seconds and learning_rate must be positive": not all(
                amount > 0 for amount in (self.steps, self.batch, self.seconds, self.checkpoint_seconds, self.learning_rate)
            ),
            f"caption_dropout {self.caption_dropout} is not a share below one": not 0 <= self.caption_dropout < 1,
            f"ema_decay {self.ema_decay} is not a share below one": not 0 <= self.ema_decay < 1,
            f"min_snr_gamma {self.min_snr_gamma} is not positive": self.min_snr_gamma is not None and not self.min_snr_gamma > 0,
            f"precision {self.precision!r} is unknown; use auto, fp32 or bf16": self.precision not in {"auto", "fp32", "bf16"},
        }
        for problem, holds in problems.items():
            if holds:
                raise TrainingError(f"recipe: {problem}")

    @property
    def factor(self) -> float:
        """What B A is multiplied by."""
        return 1.0 if self.alpha is None else self.alpha / self.rank
