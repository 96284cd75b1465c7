"""All samples of a result: what bank, stored answers and table of edits hold, and where they are gone what the result names."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import structlog

from audit_plugin.bank.join import load_table
from audit_plugin.bank.store import ProbeBank
from audit_plugin.comparing.pairing import NotPairedError
from audit_plugin.core.errors import AuditError
from audit_plugin.core.protocols import ScoreTable
from audit_plugin.core.results import AuditResult
from audit_plugin.samples import stored
from audit_plugin.samples.concepts import concept_flips
from audit_plugin.samples.nodes import MOST_ROWS, NotItsTableError, node_edits
from audit_plugin.samples.sample import Kind, Sample, Samples

LOG = structlog.get_logger(__name__)


def all_samples(bank: Path, report: Path, scores: ScoreTable) -> Callable[[AuditResult], Samples]:
    """Samples of any result of an audit, whose probe bank lies at ``bank`` and whose tables of edits lie in the folder ``report``."""
    return lambda result: _gathered(result, bank, report, scores)


def _gathered(result: AuditResult, bank: Path, report: Path, scores: ScoreTable) -> Samples:
    told: list[str] = []
    whole: list[Kind] = []
    flips = _flips(result, bank, scores, told, whole)
    edits = _edits(result, report, told, whole)
    items = (*flips, *edits, *stored.flips(result), *stored.shortcuts(result), *stored.words(result))
    return Samples(items=items, partial=(*stored.partial(items, whole), *told))


def _flips(result: AuditResult, bank: Path, scores: ScoreTable, told: list[str], whole: list[Kind]) -> Sequence[Sample]:
    if not result.concepts:
        return ()
    try:
        found = concept_flips(result, load_table(ProbeBank.open(bank)), scores)
    except (NotPairedError, AuditError) as error:
        LOG.info("not all flips of concepts can be shown", run=result.run, why=str(error))
        told.append(f"The other flips of concepts cannot be shown: {error}.")
        return tuple(stored.pairs(result))
    whole.append(Kind.CONCEPT)
    return found


def _edits(result: AuditResult, report: Path, told: list[str], whole: list[Kind]) -> Sequence[Sample]:
    if result.diffex is None:
        return ()
    try:
        found, complete = node_edits(result, report)
    except NotItsTableError as error:
        told.append(f"The other edits of the tree cannot be shown: {error}.")
        return tuple(islice(stored.exemplars(result), stored.MOST_EXEMPLARS))
    whole.append(Kind.NODE)
    if not complete:
        told.append(f"Of the edits of the tree the first {MOST_ROWS} are shown; {result.diffex.rows_file} holds all.")
    return found
