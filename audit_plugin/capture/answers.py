"""Which class a model answered, from the body of its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.capture.events import malformed
from audit_plugin.capture.payload import Inference, Tensor
from audit_plugin.capture.pictures import MOST_ROWS
from audit_plugin.core.errors import ConfigError, TargetOutputError
from audit_plugin.target.merging import merging
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.scores import to_scores

_VALUES = 4_000_000
_NAME = 200
"""Characters of a class name."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    values: NDArray[Any]
    rows: int


def classes_of(body: Inference, target: TargetOptions) -> list[str]:
    """The answered class of each picture, by the labels of the model's configuration, else by its number.  Raises CaptureError."""
    try:
        table = _from_instances(body.instances) if body.instances is not None else _from_tensor(body.tensor(target.output))
        if table.values.dtype.kind == "O":
            return [_class_name(one, target.labels) for one in table.values]
        width = int(table.values.size // max(table.rows, 1))
        whole = table.values.dtype.kind in "iu" and width == 1
        if whole and not target.labels:
            return [str(int(number)) for number in table.values.ravel()]
        labels = target.labels or tuple(str(number) for number in range(max(width, 2)))
        with np.errstate(all="ignore"):  # scores of any size
            scores = to_scores(table.values, rows=table.rows, labels=labels, activation=target.activation)
        if target.classes:
            merged = merging(target.classes, labels, total=target.merge == "sum", model=target.model)
            labels, scores = tuple(target.classes), merged(scores)
    except (TargetOutputError, ConfigError) as error:
        raise malformed(f"the answer of model {target.model!r} cannot be read: {error}") from error
    return [labels[at] for at in scores.argmax(axis=1)]


def _from_tensor(tensor: Tensor) -> _Table:
    if tensor.datatype == "BYTES":
        names = tensor.pieces(_VALUES // 1000)
        rows = tensor.shape[0] if tensor.shape else len(names)
        if not 0 < rows <= MOST_ROWS or len(names) % rows:
            raise malformed(f"the answer has {len(names)} classes for {rows} pictures")
        first = np.empty(rows, object)  # Triton's classification extension lists the likeliest class first
        first[:] = [name.decode(errors="replace") for name in names[:: len(names) // rows or 1]][:rows]
        return _Table(values=first, rows=rows)
    values: NDArray[Any] = tensor.numbers(_VALUES)
    rows = tensor.shape[0] if tensor.shape else 0
    if not 0 < rows <= MOST_ROWS or not values.size:
        raise malformed(f"the answer of shape {list(tensor.shape)} is none for 1 to {MOST_ROWS} pictures")
    if "INT" in tensor.datatype and -(2**53) < float(values.min()) <= float(values.max()) < 2**53:
        values = values.astype(np.int64)
    return _Table(values=values, rows=rows)


def _from_instances(predictions: Sequence[Any]) -> _Table:
    if not 0 < len(predictions) <= MOST_ROWS:
        raise malformed(f"an answer has 1 to {MOST_ROWS} predictions, this one {len(predictions)}")
    if all(isinstance(one, str) for one in predictions):
        names = np.empty(len(predictions), object)
        names[:] = list(predictions)
        return _Table(values=names, rows=len(predictions))
    try:
        values = np.array(predictions, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise malformed("`predictions` must be numbers, in rows of equal length, or names of classes") from error
    if not values.size or values.size > _VALUES or not np.isfinite(values).all():
        raise malformed("`predictions` must be finite numbers")
    whole = values.ndim == 1 and all(isinstance(one, int) for one in predictions) and float(np.abs(values).max()) < 2**31
    return _Table(values=values.astype(np.int64) if whole else values, rows=len(predictions))


def _class_name(text: str, labels: Sequence[str]) -> str:
    """A class name, or ``score:number:name`` as Triton's classification extension writes it."""
    parts = text.split(":", 2)
    if text not in labels and len(parts) >= 2 and parts[1].isdecimal():
        number = int(parts[1][:9])
        text = labels[number] if number < len(labels) else parts[2] if len(parts) == 3 else parts[1]
    if not text.isprintable() or len(text) > _NAME or (labels and text not in labels):
        raise malformed(f"the answer names class {text[:60]!a}, which the model's `labels` do not have")
    return text
