"""A directory's networks on engines: the one that denoises, and the decoder where there is one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.backends.eager import EagerBackend
from engines.backends.registry import choosable
from engines.backends.weights import copied
from engines.build import BackendChoice, Builder
from engines.cache import BuildCache, default_root
from engines.conditioning import Conditioning
from engines.course import Course
from engines.directory import Parts
from engines.engine import Engine
from engines.errors import PipelineError, UnsupportedPipelineError
from engines.graphs.precision import HALVES
from engines.network import Network
from engines.networks import VaeDecode, VaeEncode, decoder_spec, denoiser_spec, network_shape
from engines.parity import ROWS
from engines.pipelines.codecs import KlCodec, PixelCodec
from engines.pipelines.denoisers import denoiser_module
from engines.pipelines.families import EXPORTED, STABLE_DIFFUSION_3, STABLE_DIFFUSION_XL
from engines.pipelines.outlines import KeptGraphs
from engines.pipelines.probes import Probes
from engines.pipelines.schedulers import Scheduler
from engines.precondition import TimestepNetwork, noise_levels, prediction_of
from engines.process import Diffusing, Flowing, Process
from engines.protocols import Codec, Prompts
from engines.spec import Precision, Profile

PROFILE = Profile(1, 16, 1024)
"""Graphs have a dynamic batch, so that one serves every batch size."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """What networks are to run on."""

    backend: str
    device: str
    precision: Precision
    threads: int | None
    batch: int
    cache: Path | None
    served: str | None = None
    """Address of a Triton that serves the networks."""
    images: int | None = None
    """How many are about to be drawn; many unless said."""
    evaluations: int | None = None
    """Rows that denoising them takes."""
    outlines: Path | None = None
    """Pipeline directory that may hold its networks' graphs (:mod:`engines.pipelines.outlines`)."""

    def builder(self) -> Builder:
        """The backends that one is chosen from, torch being the reference."""
        builds = BuildCache(self.cache or default_root())
        kept = None if self.outlines is None else KeptGraphs(self.outlines)
        return Builder(
            reference=EagerBackend(self.device, self.threads),
            backends=choosable(self.backend, builds, self.device, self.threads, served=self.served, make=kept),
            cache=builds,
            rows=self.batch,
            where={"device": self.device, "threads": str(self.threads or torch.get_num_threads())}
            | ({"served": self.served} if self.served else {}),
        )


@dataclass(frozen=True, eq=False)
class NetworkOnEngine:
    """What denoises, as processes want it; counts the rows that were really evaluated."""

    engine: Engine
    spent: list[int]

    def __call__(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One prediction per row."""
        self.spent[0] += len(x)
        return self.engine.run({"sample": x, "t": t, **conditioning.tensors})["prediction"]


@dataclass(frozen=True, eq=False)
class Built:
    """The networks, ready to run."""

    network: NetworkOnEngine
    module: nn.Module
    """What the denoising engine was built from, on the CPU."""
    codec: Codec
    choices: Mapping[str, BackendChoice]


def networks_of(parts: Parts, process: Process, prompts: Prompts, precision: Precision) -> tuple[Network, ...]:
    """What denoises, and the decoder where there is one; each with what its engines are compared on."""
    _check_precision(parts, precision)
    module, shape = denoiser_module(parts.family, parts.network), network_shape(parts.network)
    told = prompts.examples(ROWS)
    spec = denoiser_spec(module, told.tensors, shape, PROFILE, precision)
    probes = Probes(NetworkOnEngine(EagerBackend().build(module, spec.at("fp32")), [0]), told, process, shape)
    denoiser = Network(module, spec, probes.denoiser)
    if not parts.family.latent:
        return (denoiser,)
    decode = VaeDecode(parts.vae)
    return denoiser, Network(decode, decoder_spec(decode, shape, PROFILE, decoder_precision(parts, precision)), probes.decoder)


def build_networks(parts: Parts, process: Process, prompts: Prompts, where: Where) -> Built:
    """Build, or take from the cache, what draws.  Raises BackendError."""
    networks, builder = networks_of(parts, process, prompts, where.precision), where.builder()
    rows = (where.evaluations, where.images)  # of what denoises, and of the decoder
    built = [
        builder.build(each.module, each.spec, where.backend, each.batches, ahead=ahead)
        for each, ahead in zip(networks, rows, strict=False)
    ]
    (engine, _), *decoders = built
    codec = KlCodec(decoders[0][0], VaeEncode(parts.vae)) if decoders else PixelCodec(network_shape(parts.network)[0])
    choices = {each.spec.name: choice for each, (_, choice) in zip(networks, built, strict=True)}
    return Built(NetworkOnEngine(engine, [0]), networks[0].module, codec, choices)


def process_of(parts: Parts, scheduler: Scheduler) -> Process:
    """A flow for Stable Diffusion 3, a diffusion for all others."""
    if scheduler.flowing != (parts.family is STABLE_DIFFUSION_3):
        raise UnsupportedPipelineError(
            f"a {parts.family.name} pipeline cannot be drawn from by {scheduler.name}; the parts do not fit"
        )
    if scheduler.flowing:
        return Flowing(int(scheduler.settings["num_train_timesteps"]))
    return Diffusing(noise_levels(scheduler.settings), prediction_of(scheduler.settings))


def course_of(parts: Parts, process: Process, scheduler: Scheduler, network: TimestepNetwork) -> Course:
    """The way from noise to data."""
    config = parts.network.config
    _, height, width = network_shape(parts.network)
    patch = int(config.get("patch_size") or 1)
    return Course(
        network=network,
        process=process,
        scheduler=scheduler,
        tokens=(height // patch) * (width // patch),
        distilled=distilled(parts),
    )


def distilled(parts: Parts) -> bool:
    """Whether the network itself is told how strong guidance should be, so that it is evaluated once."""
    return parts.network.config.get("time_cond_proj_dim") is not None


def image_shape(parts: Parts) -> tuple[int, int, int]:
    """Channels, height and width of what is drawn: of the resolution that the network was trained for."""
    _, height, width = network_shape(parts.network)
    factor = 2 ** (len(parts.vae.config.block_out_channels) - 1) if parts.family.latent else 1
    return 3, height * factor, width * factor


def decoder_precision(parts: Parts, precision: Precision) -> Precision:
    """Stable Diffusion XL's first autoencoder overflows in fp16, and says so (``force_upcast``): it runs in fp32 instead."""
    overflows = parts.family is STABLE_DIFFUSION_XL and parts.vae.config.get("force_upcast")
    return "fp32" if overflows and precision == "fp16" else precision


def differentiable(module: nn.Module, device: torch.device, precision: Precision) -> TimestepNetwork:
    """The module in torch, on the device when it is first needed; in fp32 where fp16 would lose small gradients."""
    safe: Precision = "fp32" if precision == "fp16" else precision
    there = cache(lambda: module if device.type == "cpu" else copied(module, safe, device))

    def network(x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        answer: Tensor = there()(x, t, *conditioning.tensors.values())
        return answer.to(x.dtype)

    return network


def _check_precision(parts: Parts, precision: Precision) -> None:
    if parts.family is EXPORTED and precision in HALVES:
        raise PipelineError(f"an exported network computes in what it was exported in, not in {precision}; use fp32 or tf32")
    if precision == "fp16" and parts.network.config.get("upcast_attention"):
        raise PipelineError(
            "the attention of this network overflows in fp16 (upcast_attention, as in Stable Diffusion 2.1); use bf16 or fp32"
        )
