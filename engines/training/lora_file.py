"""Adapters at rest: diffusers' LoRA file, and the change that it makes to each weight.

``pytorch_lora_weights.safetensors`` holds two factors for every adapted layer, ``PART.LAYER.lora_A.weight`` (rank, in, …) and
``PART.LAYER.lora_B.weight`` (out, rank, …), where PART is unet, text_encoder or text_encoder_2; the layer's weight becomes W + B A.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.training.errors import TrainingError

FILE = "pytorch_lora_weights.safetensors"
"""What diffusers' ``load_lora_weights`` looks for in a folder."""

_DOWN = (".lora_A.weight", ".lora.down.weight", ".lora_linear_layer.down.weight")
_UP = (".lora_B.weight", ".lora.up.weight", ".lora_linear_layer.up.weight")
"""How diffusers names the factors, now and before."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The two factors of one layer's change."""

    down: Tensor
    """A, ``(rank, in)``, of a convolution ``(rank, in, kh, kw)``."""
    up: Tensor
    """B, ``(out, rank)``, of a convolution ``(out, rank, 1, 1)``."""

    def change_of(self, name: str, weight: Tensor) -> Tensor:
        """B A in float32, of the weight's shape: ``(out, in)`` or ``(out, in, kh, kw)``.  Raises TrainingError when it has another."""
        shape = (len(self.up), *self.down.shape[1:])
        if shape != tuple(weight.shape):
            raise TrainingError(
                f"the adapter changes {name} as if it were {shape}, the base has {tuple(weight.shape)}; "
                "use the base that it was trained on"
            )
        return (self.up.flatten(1).float() @ self.down.flatten(1).float()).reshape(shape)


def lora_delta(adapter: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an adapter adds to the base's parameters: name -> float32 tensor of the parameter's shape, on the adapter's device.

    ``adapter`` is what :func:`read_adapter` returns.  ``base`` are the parameters by ``PART.NAME``, such as
    ``unet.mid_block.….to_q.weight`` (the names of ``engines.networks.UNetForward``); only names and shapes are looked at, so tensors on
    the meta device do.  Only parameters that change are returned, under the base's own names: ``base[name] + delta[name]`` are the
    weights to refit an engine with, and zeros refit it back.  Raises TrainingError when the adapter belongs to another architecture.
    """
    own = {layer_of(name): name for name in base if name.endswith(".weight")}
    changes = {}
    for layer, factors in factors_of(adapter).items():
        if layer not in own:
            raise TrainingError(f"the adapter changes {layer}, which the base does not have; use the base that it was trained on")
        changes[own[layer]] = factors.change_of(own[layer], base[own[layer]])
    return changes


def layer_of(name: str) -> str:
    """Of a parameter ``PART.LAYER.weight``.  Text encoders of transformers 5 lack a prefix that those before, and files, have."""
    return name.removesuffix(".weight").replace(".text_model.", ".", 1)


def factors_of(adapter: Mapping[str, Tensor]) -> dict[str, Factors]:
    """The layers of an adapter (see :func:`layer_of`) with their factors.  Raises TrainingError for tensors that are neither A nor B."""
    downs, ups = _ending(adapter, _DOWN), _ending(adapter, _UP)
    if not adapter or downs.keys() != ups.keys() or len(downs) + len(ups) != len(adapter):
        known = {name for ends in (_DOWN, _UP) for name in adapter if name.endswith(ends)}
        odd = sorted(adapter.keys() - known) or sorted(downs.keys() ^ ups.keys()) or ["nothing"]
        raise TrainingError(
            f"not a plain LoRA adapter: it holds {odd[0]}; load it into a diffusers pipeline and save it with save_lora_weights"
        )
    return {layer: Factors(downs[layer], ups[layer]) for layer in sorted(downs)}


def folded(adapter: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """With a factor (alpha / rank) multiplied into every B, so that a reader needs to know neither alpha nor rank."""
    return {name: value * factor if name.endswith(_UP) else value for name, value in adapter.items()}


def write_adapter(folder: Path, adapter: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Store as ``folder/pytorch_lora_weights.safetensors``, float32; ``notes`` become its metadata."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to("cpu", torch.float32).contiguous() for name, value in adapter.items()}
    save_file(tensors, folder / FILE, metadata={"format": "pt", **notes})


def read_adapter(path: Path) -> dict[str, Tensor]:
    """The factors in an adapter file, or in a folder that holds one, with any alpha folded in.

    Reads what this module and diffusers' ``save_lora_weights`` write.  Raises TrainingError for other files.
    """
    from safetensors import SafetensorError, safe_open

    file = path / FILE if path.is_dir() else path
    try:
        with safe_open(file, framework="pt") as stored:
            settings = json.loads((stored.metadata() or {}).get("lora_adapter_metadata", "{}"))
            adapter = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            f"adapter {file} cannot be read ({error}); name a file or folder that diffusers' LoRA loader reads"
        ) from error
    scales = {layer: _scale(layer, factors, settings) for layer, factors in factors_of(adapter).items()}
    return {name: value * scales[_layer_ending(name, _UP)] if name.endswith(_UP) else value for name, value in adapter.items()}


def _scale(layer: str, factors: Factors, settings: Mapping[str, Any]) -> float:
    """Alpha / rank of a layer; without settings the two are equal, by diffusers' convention."""
    part = layer.split(".", 1)[0]
    for odd in ("use_rslora", "use_dora", "alpha_pattern"):
        if settings.get(f"{part}.{odd}"):
            raise TrainingError(f"the adapter was made with {odd}, which is not supported; merge it with diffusers' fuse_lora")
    rank = len(factors.down)
    return float(settings.get(f"{part}.lora_alpha", rank)) / rank


def _ending(adapter: Mapping[str, Tensor], ends: tuple[str, ...]) -> dict[str, Tensor]:
    return {_layer_ending(name, ends): value for name, value in adapter.items() if name.endswith(ends)}


def _layer_ending(name: str, ends: tuple[str, ...]) -> str:
    return next(layer_of(name.removesuffix(end)) for end in ends if name.endswith(end))
