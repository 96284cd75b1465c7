"""Write a pipeline's engines, and a classifier's gradients, as models of a Triton repository.  What is written: docs/serving-engines.md."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from engines.cache import BuildCache, default_root
from engines.serving.classifier import read_classifier
from engines.serving.config import RUNNERS, Device, Platform, renamed
from engines.serving.graphs import Serving, graph_model
from engines.serving.identity import served_name
from engines.serving.loops import COUNTERFACTUAL, SAMPLER, Audited, counterfactual_model, sampler_model
from engines.serving.networks import classifier_network, pipeline_networks, some_images
from engines.serving.reading import read_source
from engines.serving.repository import refuse_strangers, write_models
from engines.spec import Precision

BUCKETS = (1, 2, 4, 8, 16)


def export_triton(
    directory: Path,
    repository: Path,
    *,
    classifier: Path | nn.Module | None = None,
    platform: Platform = "python",
    buckets: Sequence[int] = BUCKETS,
    device: Device = "cpu",
    cache: Path | None = None,
    audited: Audited | None = None,
    precision: Precision = "fp32",
) -> tuple[Path, ...]:
    """Write ``audit_*`` models of a pipeline directory into ``repository``; returns their directories.

    Every network is built and certified first: nothing is written unless all are.  ``classifier``, an ONNX file or a torch module of
    images in [0, 1] to scores, adds its VJP, the decoder's, and ``audit_counterfactual``; ``audited`` names the served model that scores
    counterfactuals, the classifier itself unless given.  ``platform``: python runs graphs on any server with the Python backend,
    onnxruntime and tensorrt need those backends; ``buckets`` are the batch sizes that the server prepares for.

    Raises PipelineError, ExportError, ParityError, BackendUnavailableError, RepositoryError.
    """
    serving = _serving(platform, buckets, device, cache)
    source = read_source(directory, precision)
    judge = None if classifier is None else read_classifier(classifier, source.image)
    networks = pipeline_networks(source, gradients=judge is not None)
    if judge is not None:
        networks.append(classifier_network(judge, source.image, lambda: source.images / 2 + 0.5, precision))
    for name in (*(served_name(each.spec) for each in networks), SAMPLER, COUNTERFACTUAL):
        refuse_strangers(repository / name)  # before the work, not after it
    models = [graph_model(network, serving) for network in networks]
    models.append(sampler_model(source, networks, judge, serving))
    if judge is not None:
        models.append(counterfactual_model(source, networks, judge, audited, serving))
    return write_models(repository, models)


def export_classifier(
    classifier: Path | nn.Module,
    repository: Path,
    *,
    image: tuple[int, int, int],
    platform: Platform = "python",
    buckets: Sequence[int] = BUCKETS,
    device: Device = "cpu",
    cache: Path | None = None,
    precision: Precision = "fp32",
    name: str | None = None,
) -> tuple[Path, ...]:
    """Write ``audit_classifier_vjp`` alone: a classifier's scores and gradients, for images (n *image) in [0, 1].

    ``name`` is that of the served model where one server has the gradients of several classifiers.
    Raises ExportError, ParityError, BackendUnavailableError, RepositoryError.
    """
    serving = _serving(platform, buckets, device, cache)
    network = classifier_network(read_classifier(classifier, image), image, lambda: some_images(image), precision)
    plain = served_name(network.spec)
    refuse_strangers(repository / (name or plain))  # before the work, not after it
    model = graph_model(network, serving)
    if name is not None:
        model = replace(model, name=name, config=renamed(model.config, plain, name))
    return write_models(repository, [model])


def _serving(platform: Platform, buckets: Sequence[int], device: Device, cache: Path | None) -> Serving:
    if platform not in RUNNERS:
        raise ValueError(f"platform {platform!r} is unknown; use {', '.join(RUNNERS)}")
    if not buckets or min(buckets) < 1:
        raise ValueError(f"buckets are batch sizes from 1 on, got {list(buckets)}")
    if platform == "tensorrt" and device == "cpu":
        raise ValueError("platform tensorrt runs on a GPU only; give device cuda")
    return Serving(platform=platform, buckets=tuple(sorted(set(buckets))), device=device, cache=BuildCache(cache or default_root()))
