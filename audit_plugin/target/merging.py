"""Audited classes that are made of several of the model's own: sixteen kinds of thing out of a thousand, or "animal" out of four."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import Scores

Own = int | str
"""One of the model's own classes, by index or by label."""


@dataclass(frozen=True, kw_only=True)
class Merging:
    """How the model's own scores become those of the audited classes."""

    labels: tuple[str, ...]
    """The model's own classes, in the order of its scores; a name may be there twice."""
    columns: tuple[tuple[int, ...], ...]
    """Per audited class its columns of the model's scores."""
    total: bool
    """Whether scores are summed, not averaged."""

    def __call__(self, scores: Scores) -> Scores:
        """``(n, audited classes)`` from ``(n, own classes)``; classes that no audited one is made of are left out.

        >>> Merging(labels=("cat", "dog", "car"), columns=((0, 1), (2,)), total=False)(np.array([[0.2, 0.4, 0.4]])).round(2).tolist()
        [[0.3, 0.4]]
        """
        parts = [scores[:, list(columns)] for columns in self.columns]
        return np.stack([part.sum(1) if self.total else part.mean(1) for part in parts], axis=1)


def merging(classes: Mapping[str, Sequence[Own]], labels: Sequence[str], *, total: bool, model: str) -> Merging:
    """The columns that ``classes`` name.  Raises ConfigError for an index or a label that the model does not have."""
    columns = tuple(tuple(_column(own, labels, name, model) for own in parts) for name, parts in classes.items())
    chosen = [column for part in columns for column in part]
    if twice := sorted({column for column in chosen if chosen.count(column) > 1}):
        raise ConfigError(f"`classes` of model {model!r} take its class {twice[0]} ({labels[twice[0]]!r}) twice; name it once")
    return Merging(labels=tuple(labels), columns=columns, total=total)


def _column(own: Own, labels: Sequence[str], name: str, model: str) -> int:
    if isinstance(own, int):
        if not 0 <= own < len(labels):
            raise ConfigError(f"`classes.{name}`: model {model!r} has no class {own}; its {len(labels)} classes count from 0")
        return own
    times = labels.count(own)
    if times != 1:
        has = f"has {times} classes" if times else "has no class"
        raise ConfigError(f"`classes.{name}`: model {model!r} {has} called {own!r}; give the index of the score")
    return labels.index(own)
