"""Ask the audited model about pictures while the next ones are drawn, so that the device that draws does not wait for the server.

What is scored ahead is not asked again by :func:`audit_plugin.bank.score.score`, which does the rest and raises what is to be raised: a
server that fails here costs no picture.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.protocols import Classifier, ScoreTable
from audit_plugin.core.values import DrawnImage
from audit_plugin.sources.images import to_float

DEPTH = 3
"""Batches that may wait for the server; then drawing waits."""

LOG = structlog.get_logger(__name__)


class ScoringAhead:
    """Takes batches as they are stored; one of them is with the server at a time."""

    def __init__(self, bank: ProbeBank, classifier: Classifier, table: ScoreTable, pool: ThreadPoolExecutor) -> None:
        self._bank, self._classifier, self._table, self._pool = bank, classifier, table, pool
        self._waiting: deque[Future[None]] = deque()
        self.scored = 0
        self.failure: Exception | None = None

    def __call__(self, images: Sequence[DrawnImage]) -> None:
        """Hand over a stored batch; waits while ``DEPTH`` of them are not answered."""
        if self.failure is None:
            self._waiting.append(self._pool.submit(self._score, [image.sha256 for image in images if not image.rejected]))
        while len(self._waiting) > DEPTH:
            self._waiting.popleft().result()

    def _score(self, shas: Sequence[str]) -> None:
        try:
            known = self._table.known(self._classifier.info.id, shas) if self.failure is None else set(shas)
            fresh = [sha for sha in dict.fromkeys(shas) if sha not in known]
            if fresh:
                scores = self._classifier.predict(to_float([self._bank.pictures.pixels(sha) for sha in fresh]))
                self._table.add(self._classifier.info.id, dict(zip(fresh, scores, strict=True)))
                self.scored += len(fresh)
        except Exception as error:  # noqa: BLE001  # the audit meets it again, in its own time and words
            self.failure = error
            LOG.warning("scoring ahead stopped", reason=str(error))


@contextmanager
def scoring_ahead(bank: ProbeBank, classifier: Classifier, table: ScoreTable) -> Iterator[ScoringAhead]:
    """Everything handed over is answered, or has failed, when the context ends; after an interruption nothing more is sent."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="score")
    ahead = ScoringAhead(bank, classifier, table, pool)
    try:
        yield ahead
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown(wait=True)
