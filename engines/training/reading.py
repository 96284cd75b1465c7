"""A folder of pictures and a table of captions, as training data."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engines.training.data import CaptionedImages
from engines.training.errors import TrainingDataError

if TYPE_CHECKING:
    from PIL import Image

LIMIT = 64_000_000
"""Pixels of the largest picture that is opened."""


def read_captioned(folder: Path, table: Path, *, image_size: int) -> CaptionedImages:
    """Pictures ``folder/file`` with the captions that ``table`` (CSV with columns file and caption, rows may repeat a file) gives them.

    Each is cut to its central square and resized.  Raises TrainingDataError naming the file or the row that cannot be used.
    """
    captions = read_captions(table)
    images = np.stack([read_image(folder, name, image_size) for name in captions])
    return CaptionedImages(images, list(captions.values()))


def read_captions(table: Path) -> dict[str, list[str]]:
    """File name -> its captions, in the order of the table."""
    captions: dict[str, list[str]] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream, strict=True)
            missing = [name for name in ("file", "caption") if name not in (rows.fieldnames or [])]
            if missing:
                raise TrainingDataError(
                    f"{table} has no column {missing[0]!r}; its first line must name the columns file and caption"
                )
            for row in rows:
                if not row["file"] or row["caption"] is None:
                    raise TrainingDataError(
                        f"{table}, line {rows.line_num}: a file or a caption is missing; complete or delete the row"
                    )
                captions.setdefault(row["file"], []).append(row["caption"].strip())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError(f"{table} cannot be read as a CSV table in UTF-8 ({error})") from error
    if not captions:
        raise TrainingDataError(f"{table} has no rows; list at least one file and its caption")
    return captions


def read_image(folder: Path, name: str, size: int) -> NDArray[np.uint8]:
    """The central square of one picture as ``(size, size, 3)``."""
    from PIL import Image, ImageOps

    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise TrainingDataError(f"{name!r} lies outside of {folder}; name files inside it")
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LIMIT:
                raise TrainingDataError(f"{path} has {picture.width}x{picture.height} pixels; shrink it below {LIMIT:,} pixels")
            square = ImageOps.fit(_upright(picture), (size, size), Image.Resampling.LANCZOS)
            return np.asarray(square, np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingDataError(f"{path} is not a picture that can be read ({error}); replace it or drop its rows") from error


def _upright(picture: "Image.Image") -> "Image.Image":
    from PIL import ImageOps

    return (ImageOps.exif_transpose(picture) or picture).convert("RGB")
