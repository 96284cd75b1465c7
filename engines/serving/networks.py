"""The networks that are served: those that draw, the autoencoder's other half, and gradients."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from engines.graphs.gradients import Vjp
from engines.network import Network
from engines.networks import VaeEncode
from engines.noise import start_noise
from engines.parity import ROWS, Feeds
from engines.pipelines.building import PROFILE
from engines.serving.classifier import Classifier
from engines.serving.reading import Source
from engines.spec import BATCH, EngineSpec, Precision, TensorSpec, digest


def pipeline_networks(source: Source, *, gradients: bool) -> list[Network]:
    """What denoises, and the halves of the autoencoder; with ``gradients`` the decoder's VJP as well."""
    if source.decoder is None:
        return [source.denoiser]
    decoder = source.decoder.spec
    encoder = replace(
        decoder,
        name="vae_encoder",
        inputs=(replace(decoder.outputs[0], name="images"),),
        outputs=(replace(decoder.inputs[0], name="latents"),),
        model_hash=digest({"of": decoder.model_hash, "network": "vae_encoder"}),
    )
    networks = [*source.networks, Network(VaeEncode(source.parts.vae), encoder, lambda: _cut({"images": source.images}))]
    if gradients:
        module, latents = source.decoder.module, source.decoder.batches
        spec = vjp_spec(decoder, "vae_decoder_vjp")
        networks.append(Network(Vjp(module), spec, lambda: _pulled(spec, latents()[0]["latents"])))
    return networks


def classifier_network(
    classifier: Classifier, image: tuple[int, int, int], images: Callable[[], Tensor], precision: Precision = "fp32"
) -> Network:
    """The classifier's scores, and their product with a cotangent, pulled back to the image; ``images`` (n *image) in [0, 1]."""
    forward = EngineSpec(
        name="classifier",
        inputs=(TensorSpec("image", "float32", (BATCH, *image)),),
        outputs=(TensorSpec("scores", "float32", (BATCH, classifier.classes)),),
        profile=PROFILE,
        model_hash=classifier.digest,
        precision=precision,
    )
    spec = vjp_spec(forward, "classifier_vjp")
    return Network(Vjp(classifier.module), spec, lambda: _pulled(spec, images()))


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


def _pulled(spec: EngineSpec, x: Tensor) -> list[Feeds]:
    """Cotangents of unit variance, row by row another one."""
    first, second = spec.inputs
    cotangent = torch.randn(len(x), *second.row, generator=torch.Generator().manual_seed(0))
    return _cut({first.name: x, second.name: cotangent})


def _cut(feeds: Feeds) -> list[Feeds]:
    """Full, ragged and single."""
    return [{name: value[:size] for name, value in feeds.items()} for size in (ROWS, 3, 1)]
