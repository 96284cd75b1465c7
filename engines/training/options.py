"""What a training run does, as one frozen value; it is written into the model card."""

from dataclasses import dataclass

from engines.training.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes and budgets of a miniature latent diffusion pipeline.  The defaults make 64x64 pictures with some 9 M parameters."""

    image_size: int = 64
    """Pixels per side; a multiple of the autoencoder's downsampling times the UNet's."""
    autoencoder_channels: tuple[int, ...] = (32, 64, 96)
    """Width per resolution; n levels shrink the picture by 2^(n-1)."""
    latent_channels: int = 4
    unet_channels: tuple[int, ...] = (64, 112, 144)
    """Width per latent resolution; all but the first attend to the caption, the first does not (it is the costly one)."""
    unet_layers: int = 1
    """Residual blocks per resolution."""
    text_width: int = 128
    text_layers: int = 3
    max_tokens: int = 32
    """Longest caption in tokens, with its start and end."""
    vocabulary: int = 1_000
    """Most entries that the byte-pair vocabulary may have beyond single characters."""
    autoencoder_steps: int = 8_000
    diffusion_steps: int = 20_000
    autoencoder_seconds: float = float("inf")
    """Wall-clock limit; the learning rate decays to the end of whichever budget ends first."""
    diffusion_seconds: float = float("inf")
    autoencoder_batch: int = 64
    diffusion_batch: int = 128
    autoencoder_rate: float = 1e-3
    diffusion_rate: float = 6e-4
    kl_weight: float = 1e-3
    """On the mean over latent values of the divergence from the standard normal, beside a mean absolute error."""
    caption_dropout: float = 0.1
    """Share of training captions left empty, so that classifier-free guidance is possible."""
    mirror: bool = False
    """Left-right flips as augmentation; only where they change no caption."""
    shift: int = 0
    """Random translation in pixels (reflected at the border) as augmentation; refreshes the latents now and then."""
    ema_decay: float = 0.9995
    seed: int = 0
    sampling_steps: int = 8
    """Written into the pipeline as its default."""
    guidance: float = 1.0
    """Written into the pipeline as its default."""
    checkpoint_seconds: float = 60.0
    """How often the run is saved, so that a killed one goes on."""

    def __post_init__(self) -> None:
        problems = {
            f"image_size {self.image_size} is not a positive multiple of {self.shrinking * 2 ** (len(self.unet_channels) - 1)}, "
            "by which autoencoder and UNet shrink pictures": self.image_size < 1
            or self.image_size % (self.shrinking * 2 ** (len(self.unet_channels) - 1)),
            "channels must be multiples of 16, the groups that they are normalised in": any(
                width < 16 or width % 16 for width in (*self.autoencoder_channels, *self.unet_channels)
            ),
            "unet_channels needs at least two resolutions: the first does not read the caption": len(self.unet_channels) < 2,
            f"text_width {self.text_width} is not a multiple of the 4 attention heads": self.text_width < 4 or self.text_width % 4,
            f"max_tokens {self.max_tokens} leaves no room between start and end": self.max_tokens < 3,
            "steps, batches and seconds must be positive": min(self._amounts) <= 0,
            f"caption_dropout {self.caption_dropout} is not a share below one": not 0 <= self.caption_dropout < 1,
            f"shift {self.shift} must be at least 0 and less than the picture": not 0 <= self.shift < self.image_size,
        }
        for problem, holds in problems.items():
            if holds:
                raise TrainingError(f"recipe: {problem}")

    @property
    def shrinking(self) -> int:
        """How many times smaller a latent is than its picture, per side."""
        return int(2 ** (len(self.autoencoder_channels) - 1))

    @property
    def _amounts(self) -> tuple[float, ...]:
        return (
            self.autoencoder_steps,
            self.diffusion_steps,
            self.autoencoder_seconds,
            self.diffusion_seconds,
            self.autoencoder_batch,
            self.diffusion_batch,
            self.sampling_steps,
        )
