"""Ask the deployed model about every picture once: the stored bytes, decoded to the 8-bit pixels that a client would send.

Scores are kept under the sha256 of the picture's file, per target.  Each batch is committed as a whole, so that when the server or
this process dies, running again asks only for what is missing.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from audit_plugin.bank.real import RealImages, loaders
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.stream import decoded
from audit_plugin.core.errors import TargetOutputError
from audit_plugin.core.protocols import Classifier, Progress, ScoreTable


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """What a scoring pass did."""

    scored: int
    reused: int
    """Pictures whose scores of this target were there already."""
    seconds: float


def score(
    bank: ProbeBank,
    classifier: Classifier,
    table: ScoreTable,
    *,
    progress: Progress,
    real: RealImages | None = None,
    twins: Iterable[str] = (),
    batch: int = 128,
) -> ScoreReport:
    """Score every usable picture of the bank's plan, the real images and the twins, that this target has not scored yet.

    A batch is what is committed together; it holds several requests, so that the target can keep more than one under way.
    """
    start, target = time.monotonic(), classifier.info.id
    load = loaders(bank, real) | dict.fromkeys(twins, bank.pictures.pixels)
    known = table.known(target, load)
    todo = [sha for sha in load if sha not in known]
    reused = done = len(load) - len(todo)
    progress(done, len(load), "scores")
    for shas, images in decoded(todo, lambda sha: load[sha](sha), batch=batch):
        scores = classifier.predict(images)
        if len(scores) != len(shas):
            raise TargetOutputError(f"{classifier.info.model}: {len(shas)} images were sent but {len(scores)} answers came back")
        table.add(target, dict(zip(shas, scores, strict=True)))
        done += len(shas)
        progress(done, len(load), "scores")
    return ScoreReport(scored=len(todo), reused=reused, seconds=time.monotonic() - start)
