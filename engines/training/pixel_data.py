"""Pictures without captions: a folder, or an array in a file."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.training.captioned import PICTURES
from engines.training.errors import TrainingDataError
from engines.training.reading import LIMIT

Pictures = NDArray[np.uint8]
"""``(n, h, w, c)``, RGB or grey (c 3 or 1)."""

_MODES = {"RGB": 3, "L": 1}
_WRONG = "pictures must be all RGB or all grey, 8 bits a channel; convert it or move it away"


def read_pictures(source: Path) -> Pictures:
    """All pictures of a folder and its subfolders, by name, as they are; or the array that an ``.npy`` file holds.

    Raises TrainingDataError naming the picture that is of another size or kind than the first.
    """
    if source.suffix == ".npy":
        return _array(source)
    if not source.is_dir():
        raise TrainingDataError(f"{source} is not a folder; name the one that holds the pictures, or an .npy file")
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    if not paths:
        raise TrainingDataError(f"{source} holds no pictures ({', '.join(PICTURES)})")
    first = _picture(paths[0])
    pictures = np.empty((len(paths), *first.shape), np.uint8)
    for place, path in enumerate(paths):
        one = _picture(path)
        if one.shape != first.shape:
            raise TrainingDataError(
                f"{path} is {_said(one)}, {paths[0].name} is {_said(first)}; pictures must be of one size and kind: resize or convert them"
            )
        pictures[place] = one
    return pictures


def check_pictures(pictures: Pictures, shrinking: int) -> None:
    """Raise TrainingDataError unless they are squares that can be halved down to the lowest resolution."""
    shape = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) != 4 or shape[-1] not in _MODES.values() or not len(pictures):
        raise TrainingDataError(f"training pictures must be uint8 (n, h, w, 3) or (n, h, w, 1), got {pictures.dtype} {shape}")
    if shape[1] != shape[2] or shape[1] % shrinking:
        raise TrainingDataError(
            f"pictures are {shape[2]}x{shape[1]} pixels; they must be squares whose side is a multiple of {shrinking}: crop or resize them"
        )


def digest_of(pictures: Pictures) -> str:
    """Of all pixels and their order."""
    return hashlib.sha256(repr(pictures.shape).encode() + np.ascontiguousarray(pictures).data).hexdigest()[:16]


def _array(source: Path) -> Pictures:
    try:
        found: Pictures = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TrainingDataError(f"{source} cannot be read as an array ({error}); write it with numpy.save") from error
    return found


def _picture(path: Path) -> Pictures:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > LIMIT:
                raise TrainingDataError(f"{path} has {picture.width}x{picture.height} pixels; shrink it below {LIMIT:,} pixels")
            if picture.mode not in _MODES:
                raise TrainingDataError(f"{path} has {len(picture.getbands())} channels of mode {picture.mode}; {_WRONG}")
            upright = ImageOps.exif_transpose(picture) or picture
            return np.asarray(upright, np.uint8).reshape(upright.height, upright.width, _MODES[picture.mode])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingDataError(f"{path} is not a picture that can be read ({error}); replace it or move it away") from error


def _said(picture: Pictures) -> str:
    height, width, channels = picture.shape
    return f"{width}x{height} {'grey' if channels == 1 else 'RGB'}"
