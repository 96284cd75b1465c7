"""The card of an exported noise network: how it speaks, as ``denoiser`` of its directory's ``audit.json``.

``audit-plugin generator import`` writes it.  What else stands in that file is the plan, as for any directory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from engines.errors import PipelineError
from engines.pipelines.files import digest_files
from engines.precondition import Prediction
from engines.spec import digest

CARD = "denoiser"
"""Key of ``audit.json`` that makes a directory one of this family."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """How an exported noise network speaks."""

    schedule: Mapping[str, Any]
    """A file's table (``file`` with ``alpha_bars`` or ``betas``, the key in an .npz) or a rule (``beta_schedule``, ``beta_start``, …)."""
    size: tuple[int, int]
    """Height and width of the images in pixels."""
    channels: int = 3
    """3 for RGB, 1 for grey."""
    file: str = "denoiser.onnx"
    """The graph."""
    image: str = "sample"
    """Input that takes noisy images (n c h w)."""
    time: str = "t"
    """Input that takes one time per row, (n) or (n 1)."""
    output: str = "prediction"
    """Output (n c h w); channels beyond those of the image (a learned variance) are not used."""
    range: tuple[float, float] = (-1.0, 1.0)
    """What black and white are to the network."""
    time_scale: float = 1.0
    """The network is told time_scale * i + time_offset at entry i of its schedule, i from 0."""
    time_offset: float = 0.0
    """See ``time_scale``."""
    prediction: Prediction = "epsilon"
    """What the output is: epsilon (the noise), v_prediction or sample."""
    clip: bool = True
    """Whether clean estimates are kept within the range."""

    def __post_init__(self) -> None:
        low, high = self.range
        if not low < high:
            raise ValueError(f"`range` is (black, white) with black below white, got {list(self.range)}")
        if self.channels not in {1, 3} or min(self.size) < 1:
            raise ValueError(f"needed are 1 or 3 `channels` and a `size` in pixels, got {self.channels} and {list(self.size)}")
        if self.time_scale == 0:
            raise ValueError("`time_scale` 0 would tell the network the same time at every step")
        if self.prediction not in get_args(Prediction):
            raise ValueError(f"`prediction` is one of {', '.join(get_args(Prediction))}, got {self.prediction!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, *self.size

    @property
    def affine(self) -> tuple[float, float]:
        """Half the range's width, and its middle."""
        low, high = self.range
        return (high - low) / 2, (high + low) / 2


def is_exported(audit: Mapping[str, object]) -> bool:
    """Whether an ``audit.json`` is that of an exported network."""
    return CARD in audit


def card_of(directory: Path, audit: Mapping[str, object]) -> Card:
    """The card, checked.  Raises PipelineError."""
    where, told = directory / "audit.json", audit.get(CARD)
    known = {each.name for each in fields(Card)}
    if not isinstance(told, dict) or (odd := sorted(set(told) - known)):
        said = f"unknown {', '.join(odd)}" if isinstance(told, dict) else "it is no object"
        raise PipelineError(f"{where}: {CARD}: {said}; it may hold {', '.join(sorted(known))}")
    missing = [name for name in ("schedule", "size") if name not in told]
    if missing:
        raise PipelineError(f"{where}: {CARD}: {', '.join(missing)} must be said; `audit-plugin generator import` writes it all")
    pairs = {name: tuple(told[name]) for name in ("size", "range") if isinstance(told.get(name), list)}
    try:
        return Card(**{**told, **pairs})
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{where}: {CARD}: {error}") from error


def exported_files(directory: Path, card: Card) -> list[Path]:
    """The graph, and the file of its schedule where there is one.  Raises PipelineError for what lies elsewhere."""
    named = [card.file, *([str(card.schedule["file"])] if "file" in card.schedule else [])]
    if outside := [name for name in named if Path(name).name != name]:
        raise PipelineError(f"{directory / 'audit.json'}: {CARD}: {outside[0]!r} must lie in the directory itself")
    return [directory / name for name in named]


def exported_digest(directory: Path, audit: Mapping[str, object]) -> str:
    """Of the files and the card.  Raises PipelineError."""
    files = exported_files(directory, card_of(directory, audit))
    if missing := [path for path in files if not path.is_file()]:
        raise PipelineError(f"{missing[0]} is missing, which {directory / 'audit.json'} names; copy the complete directory")
    return digest({"files": digest_files(directory, files), CARD: audit[CARD]})
