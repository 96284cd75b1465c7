"""``config.pbtxt`` of served networks and loops, as text.  Fields are those of Triton's ModelConfig message."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from engines.serving.identity import engine_key, served_name
from engines.spec import EngineSpec, Tier

Platform = Literal["python", "onnxruntime", "tensorrt"]
Device = Literal["cpu", "cuda"]

WRITTEN_BY = "audit-plugin"
"""Value of the parameter ``written_by``: only models that carry it are ever replaced."""

RUNNERS: Mapping[Platform, str] = {
    "python": 'backend: "python"',
    "onnxruntime": 'platform: "onnxruntime_onnx"',
    "tensorrt": 'platform: "tensorrt_plan"',
}
TYPES: Mapping[str, str] = {
    "bfloat16": "TYPE_BF16",
    "bool": "TYPE_BOOL",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "string": "TYPE_STRING",
    "uint64": "TYPE_UINT64",
    "uint8": "TYPE_UINT8",
}
GPU_DELAY_MICROSECONDS = 2000
"""Longest wait for a fuller batch; on a CPU waiting gains nothing."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output of a model without Triton's batch axis; -1 for a free size."""

    name: str
    dtype: str
    dims: tuple[int, ...]
    optional: bool = False


def graph_config(
    spec: EngineSpec, platform: Platform, buckets: Sequence[int], device: Device, *, tier: Tier, about: Mapping[str, str]
) -> str:
    """Configuration of one network: batched up to the largest bucket, one instance; ``about`` becomes parameters.

    Every bucket is run once before the model is ready, except on the Python backend: an error in a warm-up ends Triton 2.51 there.
    """
    return _text(
        f"# {served_name(spec)}: written by `audit-plugin engines export-triton`, which also replaces it.",
        f'name: "{served_name(spec)}"',
        RUNNERS[platform],
        f"max_batch_size: {max(buckets)}",
        _tensors("input", (_batched(each.name, each.dtype, each.row) for each in spec.inputs)),
        _tensors("output", (_batched(each.name, each.dtype, each.row) for each in spec.outputs)),
        _instances(device, 1),
        f"dynamic_batching {{ preferred_batch_size: {sorted(buckets)}, "
        f"max_queue_delay_microseconds: {GPU_DELAY_MICROSECONDS if device == 'cuda' else 0} }}",
        *([_cuda_graphs(spec, buckets)] if platform == "tensorrt" else []),
        *([_warm_up(spec, buckets)] if platform != "python" else []),
        *_parameters(
            {
                "device": device,
                "engine_key": engine_key(spec),
                "kind": spec.kind,
                "precision": spec.precision,
                "tier": tier,
                "written_by": WRITTEN_BY,
                **about,
            }
        ),
    )


def renamed(config: str, plain: str, name: str) -> str:
    """The configuration of a gradient that goes by a name of its own, which `audit-plugin engines export-vjp` writes."""
    return config.replace(plain, name).replace("engines export-triton`", "engines export-vjp`")


def loop_config(
    name: str, inputs: Sequence[Port], outputs: Sequence[Port], device: Device, *, instances: int, parameters: Mapping[str, str]
) -> str:
    """Configuration of a model that calls others: no batch axis of Triton's, since a request is a batch with one plan."""
    return _text(
        f"# {name}: written by `audit-plugin engines export-triton`, which also replaces it.",
        f'name: "{name}"',
        RUNNERS["python"],
        "max_batch_size: 0",
        _tensors("input", map(_port, inputs)),
        _tensors("output", map(_port, outputs)),
        _instances(device, instances),
        *_parameters({**parameters, "device": device, "written_by": WRITTEN_BY}),
    )


def classifier_config(
    name: str,
    platform: Platform,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    device: Device,
    *,
    rows: int,
    parameters: Mapping[str, str],
) -> str:
    """Configuration of a classifier's own graph: ``rows`` images at most, or 0 where its ports count the batch themselves."""
    return _text(
        f"# {name}: written by `audit-plugin engines export-hidden`, which also replaces it.",
        f'name: "{name}"',
        RUNNERS[platform],
        f"max_batch_size: {rows}",
        _tensors("input", (_batched(each.name, each.dtype, each.dims) for each in inputs)),
        _tensors("output", (_batched(each.name, each.dtype, each.dims) for each in outputs)),
        _instances(device, 1),
        *(["dynamic_batching { }"] if rows else []),
        *_parameters({**parameters, "device": device, "written_by": WRITTEN_BY}),
    )


def _batched(name: str, dtype: str, row: Sequence[int]) -> str:
    """One number per item is a column for Triton, which has no rows of no axes, and is reshaped to what the network takes."""
    shape = f"dims: {list(row)}" if row else "dims: [1], reshape: { shape: [] }"
    return f'{{ name: "{name}", data_type: {TYPES[dtype]}, {shape} }}'


def _port(port: Port) -> str:
    optional = ", optional: true" if port.optional else ""
    return f'{{ name: "{port.name}", data_type: {TYPES[port.dtype]}, dims: {list(port.dims)}{optional} }}'


def _tensors(field: str, entries: Iterable[str]) -> str:
    return f"{field} [\n  " + ",\n  ".join(entries) + "\n]"


def _instances(device: Device, count: int) -> str:
    where = "KIND_GPU, gpus: [0]" if device == "cuda" else "KIND_CPU"
    return f"instance_group [ {{ kind: {where}, count: {count} }} ]"


def _cuda_graphs(spec: EngineSpec, buckets: Sequence[int]) -> str:
    """One graph per bucket; a batch between two buckets is padded to the larger one instead of being run without a graph."""
    shapes = " ".join(f'input {{ key: "{each.name}", value: {{ dim: {list(each.row)} }} }}' for each in spec.inputs)
    lines = [
        f"{{ batch_size: {bucket} {shapes} graph_lower_bound {{ batch_size: {below + 1} {shapes} }} }}"
        for below, bucket in pairwise([0, *sorted(buckets)])
    ]
    return "optimization { cuda { graphs: true, graph_spec [\n  " + ",\n  ".join(lines) + "\n] } }"


def _warm_up(spec: EngineSpec, buckets: Sequence[int]) -> str:
    inputs = " ".join(
        f'inputs {{ key: "{each.name}", value: {{ data_type: {TYPES[each.dtype]}, dims: {list(each.row) or [1]}, '
        f"{'random_data' if each.dtype == 'float32' else 'zero_data'}: true }} }}"
        for each in spec.inputs
    )
    lines = [f'{{ name: "{bucket} rows", batch_size: {bucket} {inputs} }}' for bucket in sorted(buckets)]
    return "model_warmup [\n  " + ",\n  ".join(lines) + "\n]"


def _parameters(values: Mapping[str, str]) -> list[str]:
    return [f'parameters: {{ key: "{key}", value: {{ string_value: {json.dumps(values[key])} }} }}' for key in sorted(values)]


def _text(*lines: str) -> str:
    return "\n".join(lines) + "\n"
