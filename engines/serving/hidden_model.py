"""Hidden features of a classifier as a model of its own on Triton: the classifier, its file and its callers stay what they are."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import ExportError
from engines.serving.config import TYPES, Device, Platform, Port, classifier_config
from engines.serving.hidden import HiddenTensor, survey
from engines.serving.hidden_outputs import HiddenParity, check_parity, with_outputs
from engines.serving.hidden_reading import answers, image_input, noise, read_graph, shape_of
from engines.serving.repository import WrittenModel, refuse_strangers, write_models
from engines.serving.resources import python_model


@dataclass(frozen=True, kw_only=True)
class HiddenModel:
    """What was written, and how it was checked."""

    directory: Path
    tensors: tuple[HiddenTensor, ...]
    parity: HiddenParity


def export_hidden(
    classifier: Path,
    repository: Path,
    names: Sequence[str],
    *,
    name: str,
    images: NDArray[np.generic] | None = None,
    size: tuple[int, int] | None = None,
    labels: Sequence[str] = (),
    platform: Platform = "python",
    batches: Sequence[int] = (16,),
    device: Device = "cpu",
    maps: bool = False,
) -> HiddenModel:
    """Write model ``name``: all that the ONNX file answers and, of the tensors ``names``, every unit as one number.

    ``images``, as the graph takes them, are compared beside noise; ``size`` is height and width where the graph leaves them free; ``labels``
    become those of the model; ``batches``: the largest is the most images of a request; ``maps``: show where units respond, too.

    Raises ExportError, ParityError, RepositoryError; nothing is written then.
    """
    if platform == "tensorrt":
        raise ExportError("a TensorRT plan with more outputs is another engine; choose platform python or onnxruntime")
    refuse_strangers(repository / name)  # before the work, not after it
    chosen = tuple(replace(each, with_map=maps) for each in survey(classifier, size).chosen(names, classifier))
    extended, graph = with_outputs(classifier, chosen), read_graph(classifier).graph
    drawn = noise(graph, classifier, size)
    source = image_input(graph, classifier)
    single = shape_of(source)[0] == 1
    parity = check_parity(classifier, extended, [drawn, *_batches(images, rows=1 if single else max(batches))])
    sizes = tuple(each or -1 for each in shape_of(source))
    config = classifier_config(
        name,
        platform,
        [Port(name=source.name, dtype=str(drawn.dtype), dims=sizes if single else sizes[1:])],
        [_port(key, value, len(drawn), single=single) for key, value in answers(extended, drawn, classifier).items()],
        device,
        rows=0 if single else max(batches),
        parameters={
            "classifier": hashlib.sha256(classifier.read_bytes()).hexdigest(),
            "hidden": json.dumps([_told(each, key) for each in chosen for key in each.outputs]),
            "parity": str(parity),
            **({"labels": json.dumps(list(labels))} if labels else {}),
        },
    )
    files: dict[str, str | bytes | Path] = {"model.onnx": extended}
    if platform == "python":
        files["model.py"] = python_model("graph")
    (directory,) = write_models(repository, [WrittenModel(name=name, config=config, files=files)])
    return HiddenModel(directory=directory, tensors=chosen, parity=parity)


def _batches(images: NDArray[np.generic] | None, rows: int) -> list[NDArray[np.generic]]:
    return [] if images is None else [images[at : at + rows] for at in range(0, len(images), rows)]


def _told(tensor: HiddenTensor, output: str) -> dict[str, Any]:
    """What a reader of the configuration should know of an output."""
    return {"output": output, "tensor": tensor.name, "reduced_by": tensor.outputs[output] or None, "units": tensor.channels}


def _port(name: str, value: Any, images: int, *, single: bool) -> Port:
    """An output as Triton is told of it."""
    kind = "string" if getattr(value, "dtype", None) == np.object_ else str(getattr(value, "dtype", type(value).__name__))
    if kind not in TYPES or not value.ndim or len(value) != images:
        raise ExportError(
            f"output {name!r} is {kind} {getattr(value, 'shape', '')} for {images} images, and cannot be served; needed is a tensor with one "
            "row per image"
        )
    return Port(name=name, dtype=kind, dims=value.shape if single else value.shape[1:])
