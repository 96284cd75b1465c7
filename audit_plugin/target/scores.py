"""From the output tensor to class scores ``(n, k)``.  Pure; whatever is not a table of scores is refused."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Scores
from audit_plugin.target.options import Activation

SMALLEST = 1e-300
"""Probabilities below it are too small to be told: they become smaller ones that keep the order of their logits, and none becomes 0.  Else a
very sure model has no runner-up."""


def labels_only(datatype: str, shape: Sequence[int]) -> bool:
    """Whether an output of this type and shape (batch axis first) can only say which class, never how much.

    >>> labels_only("INT64", [-1, 1]), labels_only("FP32", [-1, 1])
    (True, False)
    """
    return datatype == "BYTES" or ("INT" in datatype and list(shape[1:]) in ([], [1]))


def to_scores(output: NDArray[np.generic], *, rows: int, labels: Sequence[str], activation: Activation) -> Scores:
    """Scores of ``rows`` images.  An output of class numbers or names becomes one-hot rows.

    Raises:
        TargetOutputError: the output has other rows or classes than expected, or numbers that are not finite.
    """
    if not output.ndim or len(output) != rows:
        raise TargetOutputError(
            f"the server answered {output.shape[0] if output.ndim else 0} rows for {rows} images; check `output`"
        )
    if output.dtype.kind in "OSU":
        return _one_hot(_named(output.reshape(rows, -1), labels), labels)
    table = output.reshape(rows, -1).astype(np.float64)
    if output.dtype.kind in "iu" and table.shape[1] == 1:
        return _one_hot(table.astype(np.int64), labels)
    if not np.isfinite(table).all():
        bad = int((~np.isfinite(table)).any(axis=1).sum())
        raise TargetOutputError(
            f"the server answered NaN or infinity for {bad} of {rows} images; look at the model, not at the audit"
        )
    return _complete(_activated(table, activation), len(labels))


def _activated(table: Scores, activation: Activation) -> Scores:
    if activation is Activation.SIGMOID:
        return np.exp(-np.logaddexp(0, -table))
    if activation is Activation.SOFTMAX:
        gaps = table - table.max(axis=1, keepdims=True)
        powers = np.exp(gaps)
        return np.asarray(np.maximum(powers / powers.sum(axis=1, keepdims=True), SMALLEST / (1 - gaps)), np.float64)
    return table


def _complete(table: Scores, classes: int) -> Scores:
    """One column per class; a single probability is that of the second of two classes."""
    width = table.shape[1]
    if width == 1 and classes == 2:
        if table.min(initial=0) < 0 or table.max(initial=0) > 1:
            raise TargetOutputError(
                "one score per image for two labels is read as a probability but leaves [0, 1]; set `activation: sigmoid`"
            )
        return np.hstack([1 - table, table])
    if width != classes:
        raise TargetOutputError(
            f"the server answered {width} scores per image but there are {classes} labels; check `labels` and `output`"
        )
    return table


def _named(names: NDArray[np.generic], labels: Sequence[str]) -> NDArray[np.int64]:
    """Class numbers of class names."""
    index = {label: number for number, label in enumerate(labels)}
    texts = [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in names.ravel()]
    unknown = sorted(set(texts) - set(index))
    if unknown:
        raise TargetOutputError(f"the server answered classes that are not in `labels`: {unknown[:5]}; `labels` are {list(labels)}")
    return np.array([index[text] for text in texts], np.int64).reshape(names.shape)


def _one_hot(numbers: NDArray[np.int64], labels: Sequence[str]) -> Scores:
    if numbers.shape[1] != 1:
        raise TargetOutputError(f"the server answered {numbers.shape[1]} class numbers per image, expected one; check `output`")
    column = numbers[:, 0]
    if len(column) and not 0 <= column.min() <= column.max() < len(labels):
        raise TargetOutputError(f"the server answered class {column.max()} but there are {len(labels)} labels; check `labels`")
    return np.eye(len(labels))[column]
