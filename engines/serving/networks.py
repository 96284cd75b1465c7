"""The networks of a source that are served, each with its spec and with inputs that it is judged on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from engines.graphs.gradients import Vjp
from engines.networks import VaeDecode, VaeEncode, decoder_spec
from engines.noise import start_noise
from engines.parity import ROWS, Feeds
from engines.pipelines.building import PROFILE
from engines.serving.classifier import Classifier
from engines.serving.reading import Source
from engines.spec import BATCH, EngineSpec, Precision, TensorSpec, digest


@dataclass(frozen=True, eq=False, kw_only=True)
class ServedNetwork:
    """One model to be."""

    module: nn.Module
    spec: EngineSpec
    batches: Callable[[], Sequence[Feeds]]
    """What it is compared with the reference on."""


def pipeline_networks(source: Source, *, gradients: bool) -> list[ServedNetwork]:
    """What denoises, and the halves of the autoencoder; with ``gradients`` the decoder's VJP as well."""
    networks = [ServedNetwork(module=source.denoiser, spec=source.spec, batches=source.probes.denoiser)]
    if not source.parts.family.latent:
        return networks
    decode, encode = VaeDecode(source.parts.vae), VaeEncode(source.parts.vae)
    decoder = decoder_spec(decode, source.latent, PROFILE, source.precision)
    encoder = replace(
        decoder,
        name="vae_encoder",
        inputs=(replace(decoder.outputs[0], name="images"),),
        outputs=(replace(decoder.inputs[0], name="latents"),),
        model_hash=digest({"of": decoder.model_hash, "network": "vae_encoder"}),
    )
    networks += [
        ServedNetwork(module=decode, spec=decoder, batches=source.probes.decoder),
        ServedNetwork(module=encode, spec=encoder, batches=lambda: [{"images": source.images[:size]} for size in (ROWS, 3, 1)]),
    ]
    if gradients:
        spec = vjp_spec(decoder, "vae_decoder_vjp")
        networks.append(
            ServedNetwork(
                module=Vjp(decode), spec=spec, batches=lambda: _pulled(spec, source.probes.clean, source.images.shape[1:])
            )
        )
    return networks


def classifier_network(
    classifier: Classifier, image: tuple[int, int, int], images: Callable[[], Tensor], precision: Precision = "fp32"
) -> ServedNetwork:
    """The classifier's scores, and their product with a cotangent, pulled back to the image; ``images`` (ROWS *image) in [0, 1]."""
    forward = EngineSpec(
        name="classifier",
        inputs=(TensorSpec("image", "float32", (BATCH, *image)),),
        outputs=(TensorSpec("scores", "float32", (BATCH, classifier.classes)),),
        profile=PROFILE,
        model_hash=classifier.digest,
        precision=precision,
    )
    spec, row = vjp_spec(forward, "classifier_vjp"), torch.Size([classifier.classes])
    return ServedNetwork(module=Vjp(classifier.module), spec=spec, batches=lambda: _pulled(spec, images(), row))


def some_images(image: tuple[int, int, int]) -> Tensor:
    """Noise (ROWS *image) in [0, 1], for a classifier that is served without a generator."""
    return start_noise(range(ROWS), image).sigmoid()


def vjp_spec(forward: EngineSpec, name: str) -> EngineSpec:
    """(x, cotangent) -> (y, gradient) for a network x -> y."""
    (x,), (y,) = forward.inputs, forward.outputs
    return replace(
        forward,
        name=name,
        kind="vjp",
        inputs=(x, replace(y, name="cotangent")),
        outputs=(y, replace(x, name="gradient")),
        gradients=("gradient",),
    )


def _pulled(spec: EngineSpec, x: Tensor, row: torch.Size) -> list[Feeds]:
    """Cotangents of unit variance, row by row another one."""
    cotangent = torch.randn(len(x), *row, generator=torch.Generator().manual_seed(0))
    name = spec.inputs[0].name
    return [{name: x[:size], "cotangent": cotangent[:size]} for size in (ROWS, 3, 1)]
