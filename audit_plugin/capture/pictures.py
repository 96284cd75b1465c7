"""From what a model was sent back to 8-bit pictures: the client's preprocessing is undone, encoded files are decoded under limits."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.capture.events import malformed, unsupported
from audit_plugin.capture.payload import Inference, Tensor, from_base64
from audit_plugin.core.errors import CaptureError, ImageError
from audit_plugin.sources.images import ImageLimits, Pixels, read_image
from audit_plugin.target.options import PreprocessOptions

MOST_ROWS = 256
"""Most pictures of one request."""
_SLACK = 3.0
"""Steps of 255 by which rounding may lead beyond black and white."""
_OUTSIDE = 0.01
"""Share of values beyond them from which on the preprocessing must be another one."""
_CHANNELS = {"RGB": 3, "BGR": 3, "GREY": 1}


def refused(why: str) -> CaptureError:
    """The refusal of a picture."""
    return CaptureError("image", why, status=422)


def pictures_of(body: Inference, options: PreprocessOptions, *, name: str | None, pixels: int) -> list[Pixels]:
    """The pictures of a request, (h, w, 3) each; at most ``pixels`` in all, known before they are made.  Raises CaptureError."""
    if body.instances is not None:
        return _instances(body.instances, options, pixels)
    tensor = body.tensor(name)
    if tensor.datatype == "BYTES":
        return _decoded(tensor.pieces(MOST_ROWS), pixels)
    channels = _CHANNELS[options.channels]
    rows = tensor.shape[0] if len(tensor.shape) == 4 else 1
    if len(tensor.shape) not in {3, 4} or not 0 < rows <= MOST_ROWS:
        raise refused(f"input {tensor.name!r} of shape {list(tensor.shape)} is no picture or batch of 1 to {MOST_ROWS} pictures")
    _check_size(tensor, options, channels)
    values = tensor.numbers(pixels * channels)
    return undo(values.reshape(rows, *tensor.shape[-3:]), options)


def undo(values: NDArray[np.generic], options: PreprocessOptions) -> list[Pixels]:
    """Input tensor ``(n, ...)`` in the declared layout to pictures (h, w, 3) of 8 bits: the inverse of ``target.preprocess.to_input``.

    A tensor of type UINT8, or of a model that takes such, holds the pixels as they are.
    """
    planes = values.transpose(0, 2, 3, 1) if options.layout == "NCHW" else values
    if options.channels == "BGR":
        planes = planes[..., ::-1]
    as_they_are = planes.dtype == np.uint8
    shown = (one if as_they_are else _quantised(_steps(one.astype(np.float64), options)) for one in planes)
    return [np.ascontiguousarray(np.broadcast_to(one, (*one.shape[:2], 3)), dtype=np.uint8) for one in shown]


def _quantised(steps: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Steps of 255, most of them within it.  Raises CaptureError."""
    outside = float(((steps < -_SLACK) | (steps > 255 + _SLACK)).mean())
    if outside > _OUTSIDE:
        raise refused(
            f"{outside:.0%} of the values lie beyond black and white once the preprocessing is undone; set `preprocess` of this model to "
            "what its clients do"
        )
    return np.rint(np.clip(steps, 0, 255)).astype(np.uint8)


def _steps(planes: NDArray[np.float64], options: PreprocessOptions) -> NDArray[np.float64]:
    if options.dtype == "UINT8":
        return planes
    mean, std = (np.array(each, np.float64)[: planes.shape[-1]] for each in (options.mean, options.std))
    with np.errstate(over="ignore"):  # what is infinite then is refused
        steps: NDArray[np.float64] = (planes * std + mean) / options.scale
    return steps


def _check_size(tensor: Tensor, options: PreprocessOptions, channels: int) -> None:
    *_, a, b, c = tensor.shape
    depth, height, width = (a, b, c) if options.layout == "NCHW" else (c, a, b)
    wanted = options.size or (height, width)
    if depth != channels or (height, width) != wanted or not height * width:
        raise refused(
            f"input {tensor.name!r} has {depth} channels of {height} x {width}, but the model takes {channels} of {wanted[0]} x {wanted[1]} "
            f"in layout {options.layout}; set `preprocess` of this model to what its clients do"
        )


def _decoded(files: Sequence[bytes], pixels: int) -> list[Pixels]:
    """Encoded pictures, as they are or as base64; together no more than ``pixels``."""
    found: list[Pixels] = []
    for data in files:
        left = pixels - sum(one.shape[0] * one.shape[1] for one in found)
        limits = ImageLimits(max_pixels=max(left, 0))
        try:
            found.append(read_image(from_base64(data) or data, name="captured", limits=limits))
        except ImageError as error:
            raise refused(f"a picture of the request is refused: {str(error).partition(';')[0]}") from error
    if not found:
        raise malformed("the request has no picture")
    return found


def _instances(instances: Sequence[Any], options: PreprocessOptions, pixels: int) -> list[Pixels]:
    """The older protocol: nested numbers, base64 texts, or ``{"b64": text}``, alone or as the only value of an object."""
    if not 0 < len(instances) <= MOST_ROWS:
        raise refused(f"a request has 1 to {MOST_ROWS} instances, this one {len(instances)}")
    bare = [_bare(one) for one in instances]
    if all(isinstance(one, bytes) for one in bare):
        return _decoded([one for one in bare if isinstance(one, bytes)], pixels)
    if not all(isinstance(one, list) for one in bare):
        raise unsupported("`instances` must be pictures as nested numbers, or encoded as base64", status=422)
    shape = [len(bare), *_lengths(bare[0])]
    if len(shape) != 4:
        raise refused(f"an instance of shape {shape[1:]} is no picture")
    tensor = Tensor(name="instances", datatype="FP32", shape=tuple(shape), data=bare)
    return pictures_of(
        Inference(model="", version="", tensors=(tensor,), instances=None, audit=False), options, name=None, pixels=pixels
    )


def _bare(instance: Any) -> Any:
    for _ in range(2):
        if isinstance(instance, Mapping) and len(instance) == 1:
            instance = next(iter(instance.values()))
    return instance.encode("utf-8", errors="replace") if isinstance(instance, str) else instance


def _lengths(nested: Any) -> list[int]:
    found: list[int] = []
    while isinstance(nested, list) and len(found) < 5:
        found.append(len(nested))
        nested = nested[0] if nested else None
    return found
