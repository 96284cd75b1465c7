"""A base pipeline with an adapter merged into its weights, as a diffusers directory, whole or not at all."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engines.directory import DEFAULTS, PICKLES, read_json
from engines.training.errors import TrainingError
from engines.training.lora_file import Factors, factors_of, layer_of, write_adapter

ADAPTER = "adapter"
"""Folder of the adapter within the merged directory."""
_INDEX = "model_index.json"
_KEPT = (".json", ".txt", ".model", ".safetensors")
"""Configurations, vocabularies, weights; other frameworks' weights stay behind."""


@dataclass(frozen=True)
class Layout:
    """Which files of a base make up its merged copy."""

    base: Path
    index: Mapping[str, object]
    files: Sequence[Path]
    """Relative to the base."""

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum((self.base / path).stat().st_size for path in self.files)


def layout_of(base: Path) -> Layout:
    """The components that the index names; one whose weights are pickles only, a safety checker say, is left out of the copy."""
    index = read_json(base / _INDEX, "it names the components of a diffusers pipeline")
    named = [name for name, value in index.items() if isinstance(value, list) and (base / name).is_dir()]
    dropped = {name for name in named if _pickled(base / name)}
    files = [
        path.relative_to(base)
        for name in named
        if name not in dropped
        for path in sorted((base / name).iterdir())
        if path.suffix in _KEPT and path.is_file()
    ]
    if (base / DEFAULTS).is_file():
        files.append(Path(DEFAULTS))
    return Layout(base, {name: [None, None] if name in dropped else value for name, value in index.items()}, files)


def check_room(out: Path, layout: Layout) -> None:
    """Raise TrainingError when the merged copy would not fit where ``out`` lies: before training, not after."""
    parent = next(path for path in out.resolve().parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < layout.bytes:
        raise TrainingError(
            f"{out} needs {layout.bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there; free space or choose another directory"
        )


def check_apart(out: Path, base: Path) -> None:
    """Raise TrainingError when writing ``out`` would replace the base."""
    if base.resolve().is_relative_to(out.resolve()):
        raise TrainingError(f"{out} is or holds the base {base}, which is only read; choose a new directory")


def write_merged(out: Path, layout: Layout, adapter: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """The base with ``W + B A`` for every adapted W, in the precision that W is stored in, and the adapter itself in ``adapter/``.

    All other tensors and files are those of the base; ``texts`` (name -> content) are added.  Raises TrainingError when the disk is full.
    """
    from safetensors import SafetensorError

    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _copy(partial, layout, factors_of(adapter))
        write_adapter(partial / ADAPTER, adapter, {})
        for name, content in {**texts, _INDEX: json.dumps(layout.index, indent=2) + "\n"}.items():
            (partial / name).write_text(content, encoding="utf-8")
        for path in partial.rglob("*.safetensors"):
            path.chmod(0o644)  # written as the owner's alone, but a server runs as somebody else
        shutil.rmtree(out, ignore_errors=True)
        os.replace(partial, out)  # noqa: PTH105  # atomic on one file system
    except (SafetensorError, OSError) as error:
        raise TrainingError(f"{out} cannot be written ({error}); free space there and run again: it goes on") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _copy(partial: Path, layout: Layout, factors: Mapping[str, Factors]) -> None:
    adapted = {layer.split(".", 1)[0] for layer in factors}
    merged: set[str] = set()
    for path in layout.files:
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors" and path.parts[0] in adapted:
            merged |= _merge(layout.base / path, partial / path, path.parts[0], factors)
        else:
            shutil.copyfile(layout.base / path, partial / path)
    if missing := sorted(factors.keys() - merged):
        raise TrainingError(f"the adapter changes {missing[0]}, which the base does not have; use the base that it was trained on")


def _merge(stored: Path, to: Path, part: str, factors: Mapping[str, Factors]) -> set[str]:
    """One file of weights; returns the layers that were changed in it."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    tensors = load_file(stored)
    layers = {layer: name for name in tensors if name.endswith(".weight") and (layer := layer_of(f"{part}.{name}")) in factors}
    for layer, name in layers.items():
        weight = tensors[name]
        tensors[name] = (weight.float() + factors[layer].change_of(name, weight)).to(weight.dtype)
    with safe_open(stored, framework="pt") as file:
        save_file(tensors, to, metadata=file.metadata() or {"format": "pt"})
    return set(layers)


def _pickled(folder: Path) -> bool:
    suffixes = {path.suffix for path in folder.iterdir()}
    return ".safetensors" not in suffixes and not suffixes.isdisjoint(PICKLES)
