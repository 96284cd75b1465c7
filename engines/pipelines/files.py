"""The files of a directory: which of them hold weights, whether all are there, and what they amount to as one digest."""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import DigestError, MissingFileError, PipelineError, UnsafeWeightsError

SOLVERS = "solvers.json"
"""Fitted solvers (:mod:`engines.pipelines.solvers`).  No part of a directory's digest: unless asked for they change no picture."""
OUTLINES = "graphs"
"""Folder of graphs without weights (:mod:`engines.pipelines.outlines`).  No part of a directory's digest either."""
CAPTIONS = "captions.txt"
"""Captions of the kind that a generator was trained on, a line each: the words that it understands, where they stand.  No part of a digest."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_STANDARD = ("diffusion_pytorch_model", "model")
"""What diffusers and transformers call weights."""


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Nobody else writes beside the weights of a directory meanwhile."""
    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def read_json(path: Path, why: str) -> dict[str, object]:
    """One JSON object; errors name the file."""
    if not path.is_file():
        raise MissingFileError(str(path), why)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PipelineError(f"{path} is not valid JSON ({error}); copy the file again") from error
    if not isinstance(value, dict):
        raise PipelineError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def weight_files(folder: Path) -> list[Path]:
    """The weight files of one component, with their index where there are shards: full precision before a half-precision variant."""
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = sorted(path for path in folder.glob("*") if path.suffix in PICKLES)
        if pickled:
            raise UnsafeWeightsError(str(pickled[0]))
        raise MissingFileError(str(folder / "*.safetensors"), "the weights of this component")
    full = [path for path in found if ".fp16" not in path.name and ".non_ema" not in path.name]
    chosen = full or found
    named = [path for path in chosen if path.name.startswith(_STANDARD)] or chosen
    if any(_SHARD.search(path.name) for path in named):
        return _sharded(folder, half=not full)
    return named[:1]


def _sharded(folder: Path, *, half: bool) -> list[Path]:
    """The index, then the shards it lists."""
    indexes = [path for path in sorted(folder.glob("*.safetensors.index*.json")) if (".fp16" in path.name) == half]
    if not indexes:
        raise MissingFileError(str(folder / "*.safetensors.index.json"), "it says which of the weight files holds what")
    listed = read_json(indexes[0], "").get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    if not names or any("/" in name or "\\" in name for name in names):
        raise PipelineError(f"{indexes[0]} lists no weight files of this folder; copy the file again")
    for name in names:
        if not (folder / name).is_file():
            raise MissingFileError(str(folder / name), f"a part of the weights that {indexes[0].name} lists")
    return [indexes[0], *(folder / name for name in names)]


def digest_files(directory: Path, files: Iterable[Path]) -> str:
    """SHA-256 over names and contents, wherever the directory lies."""
    total = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(directory).as_posix()} {content}\n".encode())
    return total.hexdigest()


def check_pin(directory: Path, digest: str, pin: str | None) -> None:
    """Raise DigestError when the directory is not the one that was pinned."""
    if pin is not None and pin.lower().removeprefix("sha256:") != digest:
        raise DigestError(str(directory), pin, digest)
