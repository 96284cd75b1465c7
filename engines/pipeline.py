"""A Stable Diffusion 1.x class directory as one generator: captions and seeds in, images out.

Everything that decides the pixels is in the fingerprint: weights, tokenizer, scheduler, plan, precision.  The backend is not: one is
used only when certified to compute the same numbers, and a fingerprint must not change with what a machine happens to be fast at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from engines.backends.eager import EagerBackend
from engines.backends.ort import OrtBackend
from engines.build import BackendChoice, Builder
from engines.cache import BuildCache, default_root
from engines.directory import DEFAULTS, Parts, read_parts
from engines.engine import Engine
from engines.errors import PipelineError, UnsupportedPipelineError
from engines.guidance import guide
from engines.networks import TextForward, UNetForward, VaeDecode, VaeEncode, decoder_spec, unet_spec
from engines.noise import start_noise
from engines.parity import ROWS, Feeds, clean_latents, noised_batches
from engines.plan import SamplingPlan
from engines.precondition import NoiseLevels, Prediction, noise_levels, precondition, prediction_of
from engines.protocols import ConditionalDenoiser, Denoiser
from engines.samplers import SAMPLERS, OnStep
from engines.spec import Precision, Profile, digest
from engines.text import ClipCaptions

Images = Float[np.ndarray, "n 3 h w"]
Latents = Float[Tensor, "n c h w"]

NOISE = "philox-1"
"""Changed whenever seeds come to mean other noise."""

PROFILE = Profile(1, 16, 1024)
"""Graphs have a dynamic batch, so that one serves every batch size."""

PROBE_CAPTIONS = ("", "a", "photo", "a photo")
PROBE_SIZES = (ROWS, 1, 3, ROWS, 1, 3, 1, 2)
"""Batches a backend is compared on: full, single and ragged."""


@dataclass(frozen=True, eq=False)
class NoisePredictor:
    """The UNet as preconditioning wants it; counts the rows that were really evaluated."""

    engine: Engine
    spent: list[int]

    def __call__(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        """One prediction per row."""
        self.spent[0] += len(x)
        return self.engine.run({"sample": x, "t": t, "context": context})["prediction"]


@dataclass(frozen=True, eq=False)
class KlCodec:
    """The autoencoder.  Decoding runs on an engine; encoding, which drawing never needs, on the module."""

    decoder: Engine
    encoder: nn.Module

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Latents:
        """Images in [-1, 1] to the mean latents."""
        with torch.no_grad():
            device = next(self.encoder.parameters()).device
            latents: Tensor = self.encoder(images.to(device))
        return latents

    def decode(self, latents: Latents) -> Float[Tensor, "n 3 h w"]:
        """Latents to images in [-1, 1], not clipped."""
        return self.decoder.run({"latents": latents})["images"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TextToImage:
    """Draws one image per caption and seed.  Not thread safe."""

    fingerprint: str
    """Changes whenever weights, sampler or settings change."""
    plan: SamplingPlan
    sigmas: tuple[float, ...]
    """Noise levels that are visited."""
    image_shape: tuple[int, int, int]
    latent_shape: tuple[int, int, int]
    batch: int
    """Most images drawn at once."""
    choices: Mapping[str, BackendChoice]
    """Who runs each network, and why."""
    text: ClipCaptions
    codec: KlCodec
    conditional: ConditionalDenoiser
    """The denoiser before guidance."""
    device: torch.device
    spent: list[int]

    @property
    def evaluations_per_image(self) -> int:
        """Rows the UNet evaluates for one image, those of guidance included."""
        return self.plan.guide.evaluations(self.sigmas)

    @property
    def evaluations(self) -> int:
        """Rows the UNet has evaluated since loading."""
        return self.spent[0]

    @property
    def choice(self) -> BackendChoice:
        """Who runs the UNet, and why."""
        return self.choices["unet"]

    def generate(self, captions: Sequence[str], seeds: Sequence[int], *, on_step: OnStep | None = None) -> Images:
        """One image per (caption, seed), float32 RGB in [0, 1].  Raises CaptionTooLongError before anything is drawn."""
        if len(captions) != len(seeds):
            raise ValueError(f"need one seed per caption, got {len(captions)} captions and {len(seeds)} seeds")
        self.text.check(captions)
        images = np.zeros((len(captions), *self.image_shape), np.float32)
        for rows in _batches(len(captions), self.batch):
            latents = self.draw(captions[rows], seeds[rows], on_step=on_step)
            images[rows] = (self.codec.decode(latents) / 2 + 0.5).clamp(0, 1).cpu().numpy()
        return images

    def draw(self, captions: Sequence[str], seeds: Sequence[int], *, on_step: OnStep | None = None) -> Latents:
        """The latents of one batch."""
        return SAMPLERS[self.plan.sampler](self.denoiser(captions), self.start(seeds), self.sigmas, on_step)

    def denoiser(self, captions: Sequence[str]) -> Denoiser:
        """The guided denoiser of these captions, row by row."""
        contexts = self.text.encode([*captions, ""]).to(self.device)
        return guide(self.conditional, contexts[:-1], contexts[-1], self.plan.guide)

    def start(self, seeds: Sequence[int]) -> Latents:
        """Where sampling starts: the marginal at sigmas[0] of data with unit variance, N(0, 1 + sigma^2)."""
        return float(np.hypot(1.0, self.sigmas[0])) * start_noise(seeds, self.latent_shape).to(self.device)


def load_pipeline(
    directory: str | Path,
    *,
    backend: str = "auto",
    steps: int | None = None,
    sampler: Literal["ddim", "dpmpp_2m"] | None = None,
    schedule: Literal["trailing", "karras"] | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    batch: int = 16,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    precision: Precision = "fp32",
    cache: str | Path | None = None,
) -> TextToImage:
    """Read a pipeline directory; what is left out comes from its ``audit.json``, then from SamplingPlan.

    Nothing is downloaded and no pickle is opened.  ``backend`` is auto or the name of one; a named one that cannot be used raises.
    """
    if batch < 1:
        raise ValueError(f"a batch holds at least one image, got {batch}")
    parts = read_parts(Path(directory))
    asked = {"steps": steps, "sampler": sampler, "schedule": schedule, "guidance": guidance, "guidance_interval": guidance_interval}
    plan = _plan(parts.defaults, {key: value for key, value in asked.items() if value is not None}, Path(directory))
    text = ClipCaptions(parts.tokenizer, torch.no_grad()(TextForward(parts.text_encoder)), _positions(parts))
    unet, decode = UNetForward(parts.unet), VaeDecode(parts.vae)
    unet_is = unet_spec(unet, text.length, PROFILE, precision)
    channels, height, width = unet_is.inputs[0].row
    decoder_is = decoder_spec(decode, (channels, height, width), PROFILE, precision)
    colours, rows, columns = decoder_is.outputs[0].row
    levels, prediction, spent = noise_levels(parts.scheduler), prediction_of(parts.scheduler), [0]
    builds = BuildCache(Path(cache) if cache else default_root())
    reference = EagerBackend(device, threads)
    builder = Builder(
        reference=reference,
        backends=(reference, OrtBackend(builds, device, threads)),
        cache=builds,
        rows=batch,
        where={"device": device, "threads": str(threads or torch.get_num_threads())},
    )
    probes = _Probes(EagerBackend().build(unet, unet_is.at("fp32")), text, levels, prediction, (channels, height, width))
    unet_runs, unet_choice = builder.build(unet, unet_is, backend, probes.unet)
    decoder_runs, decoder_choice = builder.build(decode, decoder_is, backend, probes.decoder)
    return TextToImage(
        fingerprint=digest({"parts": parts.digest, "plan": asdict(plan), "precision": precision, "noise": NOISE}),
        plan=plan,
        sigmas=tuple(plan.sigmas(levels)),
        image_shape=(colours, rows, columns),
        latent_shape=(channels, height, width),
        batch=batch,
        choices={"unet": unet_choice, "vae_decoder": decoder_choice},
        text=text,
        codec=KlCodec(decoder_runs, VaeEncode(parts.vae)),
        conditional=precondition(NoisePredictor(unet_runs, spent), levels, prediction),
        device=torch.device(device),
        spent=spent,
    )


@dataclass(frozen=True, eq=False)
class _Probes:
    """What backends are compared on: rough samples of the reference, noised to levels spread over the schedule."""

    reference: Engine
    text: ClipCaptions
    levels: NoiseLevels
    prediction: Prediction
    shape: tuple[int, int, int]

    @cached_property
    def contexts(self) -> Float[Tensor, "n l d"]:
        return self.text.encode([PROBE_CAPTIONS[i % len(PROBE_CAPTIONS)] for i in range(ROWS)])

    @cached_property
    def clean(self) -> Latents:
        denoise = precondition(NoisePredictor(self.reference, [0]), self.levels, self.prediction)
        return clean_latents(lambda x, sigma: denoise(x, sigma, self.contexts), self.levels, self.shape)

    def unet(self) -> list[Feeds]:
        return noised_batches(self.clean, self.contexts, self.levels, PROBE_SIZES)

    def decoder(self) -> list[Feeds]:
        return [{"latents": self.clean[:size]} for size in (ROWS, 3, 1)]


def _plan(defaults: Mapping[str, object], asked: Mapping[str, object], directory: Path) -> SamplingPlan:
    unknown = set(defaults) - {field.name for field in fields(SamplingPlan)}
    if unknown:
        raise PipelineError(f"{directory / DEFAULTS}: unknown {', '.join(sorted(unknown))}; see SamplingPlan for what it may hold")
    settings: dict[str, Any] = {**defaults, **asked}
    if settings.get("guidance_interval") is not None:
        settings["guidance_interval"] = tuple(settings["guidance_interval"])
    try:
        return SamplingPlan(**settings)
    except (TypeError, ValueError) as error:
        raise PipelineError(f"the sampling plan of {directory} cannot be used: {error}") from error


def _positions(parts: Parts) -> int:
    length: Any = parts.text_encoder.config.max_position_embeddings
    width = (parts.text_encoder.config.hidden_size, parts.unet.config.cross_attention_dim)
    if width[0] != width[1]:
        raise UnsupportedPipelineError(
            f"the text encoder makes {width[0]} numbers a token, the UNet reads {width[1]}; the parts do not fit"
        )
    return int(length)


def _batches(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
