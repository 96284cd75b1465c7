"""What a built network is: a frozen description whose digest is its name in the cache."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch

RECIPE_VERSION = 2
"""Raised whenever the way graphs are made changes, so that older artifacts are not found again."""

BATCH = "B"
"""The only symbol a shape may hold, and only in front."""

Kind = Literal["forward", "vjp", "guided", "loop"]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8"]
Dtype = Literal["float32", "float16", "bfloat16", "int64", "bool"]

TORCH_TYPES: Mapping[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "bool": torch.bool,
}

LADDER: tuple[Precision, ...] = ("fp8", "bf16", "fp16", "tf32", "fp32")
"""From the fastest to the most exact."""

Tier = Literal["exact", "approximate"]
"""Exact: the steps and the guidance of the reference plan on a certified engine.  Approximate: anything that saves by computing less."""


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        symbols = [(place, size) for place, size in enumerate(self.shape) if isinstance(size, str)]
        if any(place != 0 or size != BATCH for place, size in symbols):
            raise ValueError(f"only the first size of {self.name!r} may be symbolic, and only as {BATCH!r}; got {self.shape}")

    @property
    def row(self) -> tuple[int, ...]:
        """Sizes of one row, that is, without the batch."""
        return tuple(size for size in self.shape if isinstance(size, int))


@dataclass(frozen=True)
class Profile:
    """Batch sizes an engine takes and the one it is tuned for; all equal for a static engine."""

    min_b: int
    opt_b: int
    max_b: int

    def __post_init__(self) -> None:
        if not 1 <= self.min_b <= self.opt_b <= self.max_b:
            raise ValueError(f"need 1 <= min_b <= opt_b <= max_b, got {self.min_b}, {self.opt_b}, {self.max_b}")

    @property
    def static(self) -> bool:
        """Whether the engine takes one batch size only."""
        return self.min_b == self.max_b


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """Everything a built graph depends on.  Equal fingerprints mean interchangeable graphs."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    gradients: tuple[str, ...] = ()
    """Those of the outputs that are gradients, judged by the bounds for gradients."""
    profile: Profile
    model_hash: str
    kind: Kind = "forward"
    precision: Precision = "fp32"
    opset: int = 18
    recipe_version: int = RECIPE_VERSION

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON form."""
        return digest(asdict(self))

    def key(self, compiled_for: Mapping[str, str] | None = None) -> str:
        """Name of the artifact in the cache; pass what a compiled artifact depends on besides the graph (device, versions)."""
        return digest({"spec": asdict(self), "compiled_for": dict(compiled_for or {})})[:32]

    def about(self, made_by: str) -> Mapping[str, str]:
        """What an artifact's manifest says of it, for people; ``made_by`` is a backend, or ``onnx`` for a graph that several read."""
        return {"network": self.name, "kind": self.kind, "backend": made_by, "precision": self.precision}

    def at(self, precision: Precision) -> "EngineSpec":
        """The same network at another precision."""
        return replace(self, precision=precision)


def higher(precision: Precision) -> tuple[Precision, ...]:
    """The precision and those that are more exact, in order.

    >>> higher("fp16")
    ('fp16', 'tf32', 'fp32')
    """
    return LADDER[LADDER.index(precision) :]


def digest(value: object) -> str:
    """SHA-256 over canonical JSON: sorted keys, no spaces, no NaN.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
