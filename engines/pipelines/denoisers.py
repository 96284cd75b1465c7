"""What denoises, by family, as plain modules: tensors in the order of an engine's inputs, one tensor out.

Networks that learned a variance as well give twice the channels; only the mean's are handed on.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from engines.networks import UNetForward, mean_half
from engines.pipelines.exported import ExportedForward
from engines.pipelines.families import DDPM, DIT, EXPORTED, STABLE_DIFFUSION, STABLE_DIFFUSION_3, STABLE_DIFFUSION_XL, Family

Sample = Float[Tensor, "n c h w"]
Rows = Float[Tensor, " n"]
Labels = Int[Tensor, " n"]
Context = Float[Tensor, "n l d"]
Vectors = Float[Tensor, "n d"]


class DistilledUNetForward(nn.Module):
    """The same with guidance distilled in: ``timestep_cond`` (n g) embeds how strong it is (Luo et al. 2023, section 4.2)."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Sample, t: Rows, context: Context, timestep_cond: Vectors) -> Tensor:
        """One prediction per row."""
        return mean_half(self.unet(sample, t, context, timestep_cond=timestep_cond, return_dict=False)[0], sample)


class XlUNetForward(nn.Module):
    """Stable Diffusion XL: ``text_embeds`` (n p) is the pooled caption, ``time_ids`` (n 6) sizes and crop in pixels."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Sample, t: Rows, context: Context, text_embeds: Vectors, time_ids: Vectors) -> Tensor:
        """One prediction per row."""
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        return mean_half(self.unet(sample, t, context, added_cond_kwargs=added, return_dict=False)[0], sample)


class DistilledXlUNetForward(nn.Module):
    """Stable Diffusion XL with guidance distilled in."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(  # noqa: PLR0917  # an exported graph's inputs are positional
        self, sample: Sample, t: Rows, context: Context, text_embeds: Vectors, time_ids: Vectors, timestep_cond: Vectors
    ) -> Tensor:
        """One prediction per row."""
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        answer = self.unet(sample, t, context, timestep_cond=timestep_cond, added_cond_kwargs=added, return_dict=False)
        return mean_half(answer[0], sample)


class PlainUNetForward(nn.Module):
    """Unconditional UNet2DModel."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Sample, t: Rows) -> Tensor:
        """One prediction per row."""
        return mean_half(self.unet(sample, t, return_dict=False)[0], sample)


class ClassUNetForward(nn.Module):
    """UNet2DModel with classes: ``class_label`` (n) int64."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Sample, t: Rows, class_label: Labels) -> Tensor:
        """One prediction per row."""
        return mean_half(self.unet(sample, t, class_label, return_dict=False)[0], sample)


class DitForward(nn.Module):
    """DiT: ``class_label`` (n) int64, the last class being none."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, sample: Sample, t: Rows, class_label: Labels) -> Tensor:
        """One prediction per row."""
        return mean_half(self.transformer(sample, timestep=t, class_labels=class_label, return_dict=False)[0], sample)


class Sd3Forward(nn.Module):
    """Stable Diffusion 3: the velocity; ``context`` (n l d) of three text encoders, ``pooled`` (n p) of two."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, sample: Sample, t: Rows, context: Context, pooled: Vectors) -> Tensor:
        """One velocity per row."""
        answer = self.transformer(
            hidden_states=sample, timestep=t, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False
        )
        return mean_half(answer[0], sample)


def denoiser_module(family: Family, network: Any) -> nn.Module:
    """The family's module around its network, by what the network is told."""
    config: Mapping[str, Any] = network.config
    distilled = config.get("time_cond_proj_dim") is not None
    classes = config.get("num_class_embeds") is not None
    kinds: Mapping[str, Any] = {
        STABLE_DIFFUSION.name: DistilledUNetForward if distilled else UNetForward,
        STABLE_DIFFUSION_XL.name: DistilledXlUNetForward if distilled else XlUNetForward,
        STABLE_DIFFUSION_3.name: Sd3Forward,
        DIT.name: DitForward,
        DDPM.name: ClassUNetForward if classes else PlainUNetForward,
        EXPORTED.name: ExportedForward,
    }
    found: nn.Module = kinds[family.name](network)
    return found
