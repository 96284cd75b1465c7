"""The score table: an image is scored once per model version, and what was scored stays scored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine, select
from sqlalchemy.dialects import postgresql, sqlite

from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult
from audit_plugin.core.seeds import digest
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.tables import ScoreRow

_CHUNK = 500
"""Bound parameters per statement stay well below SQLite's smallest limit (999)."""


def target_of(result: AuditResult) -> str:
    """Key of the run's model version in the score table, as :attr:`audit_plugin.core.values.TargetInfo.id` has it."""
    origin = result.provenance
    return digest(result.model, result.version, origin.model_config_hash, origin.scoring)


class SqlScoreTable:
    """Implements :class:`audit_plugin.core.protocols.ScoreTable` on the store's database; shared by threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, target: str, shas: Iterable[str]) -> set[str]:
        """Which of these images already have scores of this target."""
        found: set[str] = set()
        with errors_as_ours(self._engine), self._engine.connect() as connection:
            for chunk in _chunks(shas):
                found.update(
                    connection.scalars(select(ScoreRow.sha256).where(ScoreRow.target == target, ScoreRow.sha256.in_(chunk)))
                )
        return found

    def add(self, target: str, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Commit the scores of a batch, all or nothing; an image that is already there is left alone."""
        rows = [{"target": target, "sha256": sha, "vector": _pack(sha, vector)} for sha, vector in scores.items()]
        if not rows:
            return
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        with errors_as_ours(self._engine), self._engine.begin() as connection:
            connection.execute(insert(ScoreRow).on_conflict_do_nothing(), rows)

    def get(self, target: str, shas: Iterable[str]) -> Mapping[str, NDArray[np.float64]]:
        """Image sha256 -> score vector ``(k,)`` for those that are known."""
        found: dict[str, NDArray[np.float64]] = {}
        with errors_as_ours(self._engine), self._engine.connect() as connection:
            for chunk in _chunks(shas):
                query = select(ScoreRow.sha256, ScoreRow.vector).where(ScoreRow.target == target, ScoreRow.sha256.in_(chunk))
                found.update((sha, np.frombuffer(vector, "<f8").astype(np.float64)) for sha, vector in connection.execute(query))
        return found


def _pack(sha: str, vector: NDArray[np.float64]) -> bytes:
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise StoreError(f"scores of image {sha} must be one finite number per class, got shape {vector.shape}")
    return vector.astype("<f8").tobytes()


def _chunks(shas: Iterable[str]) -> Iterator[Sequence[str]]:
    every = list(dict.fromkeys(shas))
    return (every[start : start + _CHUNK] for start in range(0, len(every), _CHUNK))
