"""Two audits on the same pictures: their stored answers put in their places again, with one set of resamples for both.

Nothing is asked of any server.  That the answers are the right ones is checked, not assumed: what an audit said about the pictures is
computed again from them, and has to come out as it was stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import yaml

from audit_plugin.bank.table import BankTable
from audit_plugin.core.errors import AuditError
from audit_plugin.core.protocols import ScoreTable
from audit_plugin.core.results import AuditResult
from audit_plugin.methods.depict.assemble import assemble
from audit_plugin.methods.depict.gates import skill
from audit_plugin.methods.depict.study import Study, make_study
from audit_plugin.store.scores import target_of

_SAME = 1e-6
"""Largest difference of a score of performance that counts as the same number."""


class NotPairedError(Exception):
    """Why two audits cannot be compared row by row; a reason to tell, not a failure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedStudies:
    """Both audits over the same rows, with the same resamples."""

    old: Study
    new: Study
    identical: bool
    """Whether both gave the same answer to every picture."""


def why_not_paired(old: AuditResult, new: AuditResult) -> str:
    """What of the two audits differs, so that their rows cannot be paired; empty when nothing does."""
    then, now = old.provenance, new.provenance
    if not old.concepts or not new.concepts:
        return "one of the two audits permuted no concepts"
    if not then.bank_digest or then.bank_digest != now.bank_digest:
        return f"the banks differ ({then.bank_digest[:12] or 'none'} then, {now.bank_digest[:12] or 'none'} now)"
    if then.rows_digest != now.rows_digest:
        return "the audited rows differ"
    if old.classes != new.classes:
        return f"the classes differ ({', '.join(old.classes)} then, {', '.join(new.classes)} now)"
    if not then.model_config_hash or not now.model_config_hash:
        return "a run of an earlier version of this program does not say which stored answers are its own"
    return ""


def pair(
    old: AuditResult, new: AuditResult, table: BankTable | None, scores: ScoreTable, *, resamples: int, seed: str
) -> PairedStudies:
    """Both audits from their stored answers.  Raises NotPairedError with the reason where that cannot be done."""
    if reason := why_not_paired(old, new):
        raise NotPairedError(reason)
    if table is None or table.digest != new.provenance.bank_digest:
        raise NotPairedError("the bank that both rest on has been rebuilt or removed since")
    try:
        studies = _studies(old, new, table, scores, resamples=resamples, seed=seed)
    except NotPairedError:
        if table.real is None:
            raise
        drawn = replace(table, real=None)  # files that have changed since have no answers; the pictures of the bank do
        studies = _studies(old, new, drawn, scores, resamples=resamples, seed=seed)
    return PairedStudies(old=studies[0], new=studies[1], identical=_identical(*studies))


def _studies(
    old: AuditResult, new: AuditResult, table: BankTable, scores: ScoreTable, *, resamples: int, seed: str
) -> tuple[Study, Study]:
    """One for each; for a run with itself the same one twice."""
    first = _study(old, table, scores, resamples=resamples, seed=seed)
    return first, first if new is old else _study(new, table, scores, resamples=resamples, seed=seed)


def _study(result: AuditResult, table: BankTable, scores: ScoreTable, *, resamples: int, seed: str) -> Study:
    """The run's study.  Which column of its answers belongs to which class is found by what the run said of the pictures."""
    answers = scores.get(target_of(result), _pictures(table))
    if not answers:
        raise NotPairedError(f"the answers of run {result.run} are no longer in the store")
    width = len(next(iter(answers.values())))
    positive = result.classes[-1] if len(result.classes) == 2 else None
    problem = ""
    for classes in _orders(result, table, width):
        try:
            arrays = assemble(table, answers, label=result.label, classes=classes)
            study = make_study(
                arrays, metric=result.metric, positive=positive, threshold=_threshold(result), resamples=resamples, seed=seed
            )
        except AuditError as error:
            problem = str(error)
            continue
        told = skill(study, study.arrays.baseline)
        if told is not None and result.generated_score is not None and abs(told.value - result.generated_score) < _SAME:
            return study
        problem = "they do not give the performance that it reported"
    raise NotPairedError(f"the stored answers of run {result.run} cannot be used: {problem}")


def _orders(result: AuditResult, table: BankTable, width: int) -> Iterator[tuple[str, ...]]:
    """Orders of the classes that the columns may have: an audit of a favourable class says only which one that is."""
    if len(result.classes) != 2:
        yield result.classes
        return
    favourable = result.classes[1]
    named = {row.labels[result.label] for row in table.rows if result.label in row.labels} - {favourable}
    others = sorted(named | ({result.classes[0]} if width == 2 else set()))
    others += [f"class {at}" for at in range(len(others), width - 1)]
    for at in reversed(range(width)):
        yield (*others[:at], favourable, *others[at : width - 1])


def _threshold(result: AuditResult) -> float:
    """Decision threshold of the run, from the configuration that is stored with it."""
    try:
        told = yaml.safe_load(result.provenance.config) or {}
        return float(told.get("analysis", {}).get("threshold", 0.5))
    except (yaml.YAMLError, AttributeError, TypeError, ValueError):
        return 0.5


def _pictures(table: BankTable) -> set[str]:
    """sha256 of every picture whose answers an audit reads."""
    flips: Mapping[str, np.ndarray] = table.flips
    places: Sequence[np.ndarray] = [table.baseline, *flips.values(), *table.groups.values()]
    further = [part for part in (table.placebo, table.replicates, table.real) if part is not None]
    return {str(sha) for part in (*places, *further) for sha in np.unique(part)} - {""}


def _identical(old: Study, new: Study) -> bool:
    """Whether the baseline and every flip were answered alike to the last bit."""
    pairs = [(old.arrays.baseline, new.arrays.baseline)]
    pairs += [(old.arrays.flips[name].scores, new.arrays.flips[name].scores) for name in old.arrays.names]
    pairs += [(old.arrays.real, new.arrays.real)] if old.arrays.real is not None and new.arrays.real is not None else []
    return all(np.array_equal(before, after, equal_nan=True) for before, after in pairs)
