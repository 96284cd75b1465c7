"""An inversion as one file: safetensors, what its rows are as metadata, written all or nothing, and checked before it is used."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from torch import Tensor

from engines.conditioning import Conditioning
from engines.editing.grid import TimeGrid
from engines.editing.inversion import Inversion
from engines.editing.steps import rule_note, rule_of
from engines.errors import EngineError

FORMAT = "inversion-1"
_TOLD = "source."


class InversionFileError(EngineError):
    """A stored inversion cannot be read or written."""


def save_inversion(path: Path, inversion: Inversion) -> None:
    """Store at ``path``; readers see the file whole or not at all.  Raises InversionFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {"start": inversion.start, "residuals": inversion.residuals, "predictions": inversion.predictions}
    tensors |= {_TOLD + name: value for name, value in inversion.source.tensors.items()}
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    about = {
        "times": inversion.grid.times,
        "alpha_bars": inversion.grid.alpha_bars,
        "timesteps": inversion.grid.timesteps,
        "rule": rule_note(inversion.rule),
        "seeds": inversion.seeds,
        "told": list(inversion.source.tensors),
    }
    notes = {"format": FORMAT, "inversion": json.dumps(about), "sha256": _digest(plain)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".partial", delete=False) as file:
            partial = Path(file.name)
        try:
            save_file(plain, partial, metadata=notes)
            os.replace(partial, path)  # noqa: PTH105  # atomic on one file system
        finally:
            partial.unlink(missing_ok=True)
    except (SafetensorError, OSError) as error:
        raise InversionFileError(f"inversion {path} cannot be written ({error}); free space there and try again") from error


def load_inversion(path: Path) -> Inversion:
    """What was stored, on the CPU.  Raises InversionFileError for a file that is missing, damaged or of another kind."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _read(notes, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InversionFileError(f"inversion {path} cannot be read ({error}); delete it and invert the images again") from error


def _read(notes: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Inversion:
    if notes.get("format") != FORMAT:
        raise ValueError(f"its format is {notes.get('format')!r}, not {FORMAT!r}")
    if notes["sha256"] != _digest(tensors):
        raise ValueError("its content is not what was written")
    about: Mapping[str, Any] = json.loads(notes["inversion"])
    seeds = tuple(int(seed) for seed in about["seeds"])
    grid = TimeGrid(tuple(about["times"]), tuple(about["alpha_bars"]), int(about["timesteps"]))
    return Inversion(
        start=tensors["start"],
        residuals=tensors["residuals"],
        predictions=tensors["predictions"],
        grid=grid,
        rule=rule_of(about["rule"]),
        source=Conditioning({name: tensors[_TOLD + name] for name in about["told"]}, len(seeds)),
        seeds=seeds,
    )


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
