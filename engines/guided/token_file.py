"""A course of learning words as one file: safetensors, written all or nothing, and checked before it is used."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from torch import Tensor

from engines.errors import EngineError
from engines.pipelines.wording import Rows

FORMAT = "class-tokens-1"
LOG = logging.getLogger(__name__)
_PARTS = ("rows", "first", "second")


class TokenFileError(EngineError):
    """Learned words cannot be written."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Course:
    """Where learning stands: the words, for each text encoder, and Adam's moments of their gradients."""

    rows: Rows
    first: Rows
    second: Rows
    losses: tuple[float, ...] = ()
    """Of every iteration so far."""

    @classmethod
    def begin(cls, rows: Rows) -> "Course":
        """Before the first iteration."""
        return cls(rows=rows, first=tuple(map(torch.zeros_like, rows)), second=tuple(map(torch.zeros_like, rows)))

    @property
    def iterations(self) -> int:
        """Those that are over."""
        return len(self.losses)


def save_course(path: Path, key: str, course: Course) -> None:
    """Store at ``path``; readers see the file whole or not at all.  Raises TokenFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {
        f"{part}.{at}": each.detach().to("cpu", torch.float32).contiguous().clone()
        for part in _PARTS
        for at, each in enumerate(getattr(course, part))
    }
    notes = {"format": FORMAT, "key": key, "losses": json.dumps(course.losses)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".partial", delete=False) as file:
            partial = Path(file.name)
        try:
            save_file(tensors, partial, metadata=notes)
            os.replace(partial, path)  # noqa: PTH105  # atomic on one file system
        finally:
            partial.unlink(missing_ok=True)
    except (SafetensorError, OSError) as error:
        raise TokenFileError(f"learned words cannot be written to {path} ({error}); free space there and try again") from error


def load_course(path: Path, key: str) -> Course | None:
    """What was stored under the same key, on the CPU; None, with a warning where there is a file, for anything else."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _read(notes, tensors, key)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        LOG.warning("learned words in %s cannot be used (%s); they are learned again", path, error)
        return None


def _read(notes: Mapping[str, str], tensors: Mapping[str, Tensor], key: str) -> Course:
    if notes.get("format") != FORMAT or notes.get("key") != key:
        raise ValueError("it belongs to other pictures, another pipeline or other settings")
    losses = tuple(float(loss) for loss in json.loads(notes["losses"]))
    return Course(rows=_part(tensors, "rows"), first=_part(tensors, "first"), second=_part(tensors, "second"), losses=losses)


def _part(tensors: Mapping[str, Tensor], name: str) -> Rows:
    return tuple(tensors[f"{name}.{at}"] for at in range(len(tensors) // len(_PARTS)))
