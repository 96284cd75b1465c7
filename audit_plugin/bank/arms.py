"""Edits with what one model says to them: the studio's rows, scored from the stored bytes, each picture once per model version."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from audit_plugin.bank.stream import decoded
from audit_plugin.bank.studio import Studio
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Classifier, Progress, ScoreTable


@dataclass(frozen=True, eq=False)
class ScoredArms:
    """An :class:`audit_plugin.core.edits.EditArms` of one model version."""

    studio: Studio
    classifier: Classifier
    scores: ScoreTable
    progress: Progress = lambda *_: None
    batch: int = 64
    sent: list[int] = field(default_factory=lambda: [0])
    """Pictures that the model was asked about so far."""

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """One row per cell, in order; what is made and scored already costs nothing, and what was damaged is made again."""
        return self.studio.mended(lambda: self._rows(cells))

    def _rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        rows = self.studio.rows(cells)
        shas = {row.before_sha256 for row in rows if row.after_sha256} | {row.after_sha256 for row in rows if row.after_sha256}
        answers = self._answers(shas)
        return [
            replace(row, before=answers[row.before_sha256], after=answers[row.after_sha256]) if row.after_sha256 else row
            for row in rows
        ]

    def _answers(self, shas: set[str]) -> dict[str, tuple[float, ...]]:
        target, pictures = self.classifier.info.id, self.studio.store.pictures
        todo = sorted(shas - self.scores.known(target, shas))
        done = 0
        for some, images in decoded(todo, pictures.pixels, batch=self.batch):
            scores = self.classifier.predict(images)
            if len(scores) != len(some):
                raise TargetOutputError(
                    f"{self.classifier.info.model}: {len(some)} images were sent but {len(scores)} answers came back"
                )
            self.scores.add(target, dict(zip(some, scores, strict=True)))
            self.sent[0] += len(some)
            done += len(some)
            self.progress(done, len(todo), "scores of edits")
        return {sha: tuple(float(p) for p in scores) for sha, scores in self.scores.get(target, shas).items()}
