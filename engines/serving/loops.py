"""The models that call others: ``audit_sampler`` and ``audit_counterfactual``."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.network import Network
from engines.pipeline import NOISE
from engines.serving.classifier import Classifier
from engines.serving.config import Device, Port, loop_config
from engines.serving.graphs import Serving
from engines.serving.identity import PREFIX, engine_key, served_name
from engines.serving.reading import Source
from engines.serving.repository import WrittenModel
from engines.serving.resources import loop_files, python_model
from engines.spec import TensorSpec, digest

SAMPLER = f"{PREFIX}sampler"
COUNTERFACTUAL = f"{PREFIX}counterfactual"
INSTANCES = 2
"""Requests drawn at once; they share the networks' batches."""


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The model that has the last word on a counterfactual: images (n 3 h w) in [0, 1] of the generator's size in, scores (n k) out."""

    model: str
    input: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Rows of what a pipeline draws, and what its network is told besides its noise."""

    latent: tuple[int, int, int]
    image: tuple[int, int, int]
    told: tuple[TensorSpec, ...]


def shapes_of(source: Source) -> Shapes:
    """Of a pipeline."""
    return Shapes(latent=source.latent, image=source.image, told=source.told)


def sampler_model(source: Source, networks: Sequence[Network], classifier: Classifier | None, serving: Serving) -> WrittenModel:
    """The sampling loop over the served networks."""
    key = sampler_key(networks)
    settings = {
        "engine_key": key,
        "models": {_role(each, source): served_name(each.spec) for each in networks},
        "told": [each.name for each in source.told],
        "latent": list(source.latent),
        "levels": list(source.process.levels.sigmas),
        "log_levels": source.process.levels.log_sigmas.tolist(),
        "prediction": source.process.prediction,
        "clip": source.course.scheduler.clip,
        "reference": source.reference(),
        "classes": 0 if classifier is None else classifier.classes,
        "scores": None if classifier is None else classifier.scores,
        "rows": serving.rows,
        "arrays": serving.device,
    }
    null = io.BytesIO()
    np.savez(null, allow_pickle=False, **{name: value.numpy() for name, value in source.null.items()})
    files: dict[str, str | bytes | Path] = {"sampler.json": _json(settings), "null.npz": null.getvalue()}
    return WrittenModel(
        name=SAMPLER, config=sampler_config(shapes_of(source), serving.device, key), files={**sampler_code(), **files}
    )


def counterfactual_model(
    source: Source, networks: Sequence[Network], classifier: Classifier, audited: Audited | None, serving: Serving
) -> WrittenModel:
    """The sampler twice, and what the audited model says of both images; without one, the classifier of the VJP is asked."""
    judge: dict[str, Any] = {
        "model": f"{PREFIX}classifier_vjp",
        "input": "image",
        "output": "scores",
        "cotangent": classifier.classes,
    }
    if audited is not None:
        judge = {**asdict(audited), "cotangent": None}
    told = [each.name for each in source.told]
    settings = {"sampler": SAMPLER, "audited": judge, "told": told, "rows": serving.rows}
    config = counterfactual_config(shapes_of(source), serving.device, sampler_key(networks))
    files = {**counterfactual_code(), "counterfactual.json": _json(settings)}
    return WrittenModel(name=COUNTERFACTUAL, config=config, files=files)


def sampler_config(shapes: Shapes, device: Device, key: str) -> str:
    """Configuration of the sampler."""
    drawn = _drawn(shapes)
    outputs = [drawn[0], Port(name="latents", dtype="float32", dims=(-1, *shapes.latent)), *drawn[1:]]
    return _config(SAMPLER, [*_starts(shapes), *_told(shapes)], outputs, device, key)


def counterfactual_config(shapes: Shapes, device: Device, key: str) -> str:
    """Configuration of the comparison; another condition of the image before is optional."""
    outputs = [
        *_drawn(shapes),
        Port(name="image_before", dtype="float32", dims=(-1, *shapes.image)),
        *(Port(name=name, dtype="float32", dims=(-1, -1)) for name in ("scores", "scores_before")),
        Port(name="flipped", dtype="bool", dims=(-1,)),
        Port(name="l1", dtype="float32", dims=(-1,)),
    ]
    inputs = [*_starts(shapes), *_told(shapes), *_told(shapes, "reference_", optional=True)]
    return _config(COUNTERFACTUAL, inputs, outputs, device, key)


def sampler_code() -> dict[str, str | bytes | Path]:
    """Files of the sampler that do not depend on a pipeline."""
    modules = ("calls", "drawing", "noise", "plan", "sampler", "sampling", "steering")
    return {"model.py": python_model("sampler"), **loop_files(*modules)}


def counterfactual_code() -> dict[str, str | bytes | Path]:
    """Files of the comparison that do not depend on a pipeline."""
    return {"model.py": python_model("counterfactual"), **loop_files("calls", "comparison", "counterfactual", "plan")}


def sampler_key(networks: Sequence[Network]) -> str:
    """Changes with any network that draws, and with the meaning of seeds."""
    return digest({"networks": {each.spec.name: engine_key(each.spec) for each in networks}, "noise": NOISE})[:32]


def _role(network: Network, source: Source) -> str:
    return "denoiser" if network is source.denoiser else network.spec.name


def _starts(shapes: Shapes) -> list[Port]:
    """Where drawing starts, and how it goes."""
    return [
        Port(name="plan", dtype="string", dims=(1,), optional=True),
        Port(name="latents", dtype="float32", dims=(-1, *shapes.latent), optional=True),
        Port(name="image", dtype="float32", dims=(-1, *shapes.image), optional=True),
        Port(name="seeds", dtype="uint64", dims=(-1,), optional=True),
        Port(name="target", dtype="int64", dims=(-1,), optional=True),
    ]


def _told(shapes: Shapes, prefix: str = "", *, optional: bool = False) -> list[Port]:
    return [Port(name=prefix + each.name, dtype=each.dtype, dims=(-1, *each.row), optional=optional) for each in shapes.told]


def _drawn(shapes: Shapes) -> list[Port]:
    return [
        Port(name="image", dtype="float32", dims=(-1, *shapes.image)),
        Port(name="trajectory", dtype="float32", dims=(-1, -1, 4)),
        Port(name="evaluations", dtype="int64", dims=(1,)),
        Port(name="engine_key", dtype="string", dims=(1,)),
        Port(name="tier", dtype="string", dims=(1,)),
    ]


def _config(name: str, inputs: Sequence[Port], outputs: Sequence[Port], device: Device, key: str) -> str:
    parameters = {"engine_key": key}
    if device == "cuda":
        parameters["FORCE_CPU_ONLY_INPUT_TENSORS"] = "no"  # tensors that lie on the GPU stay there
    return loop_config(name, inputs, outputs, device, instances=INSTANCES, parameters=parameters)


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True) + "\n"
