"""Weak and leaky edits: second opinions beside the plain (intention-to-treat) importance, which stays primary.

The caption is an assigned treatment, the detector's reading the treatment received.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from audit_plugin.statistics.bootstrap import Bootstrap
from audit_plugin.statistics.flip_table import FlipTable
from audit_plugin.statistics.intervals import Interval
from audit_plugin.statistics.metrics import CLIP

LEAST_COMPLIANCE = 0.2
"""Below this the scaled importance is not shown."""


def contrasts(
    read: Float[np.ndarray, "m"] | Bool[np.ndarray, "m"], asked: Int[np.ndarray, "m"], weights: Float[np.ndarray, "B m"]
) -> Float[np.ndarray, "B"]:
    """P(detector sees it | asked for) − P(detector sees it | asked against), for every row of weights.

    The numerator of compliance κ; with real pictures and their labels, its denominator.  To scale an importance, give each row
    at both levels (baseline and flip): then κ is the share of edits that worked.  Flipped pictures alone count a failed edit on
    both sides, which gives 2κ − 1: a stricter gate, but too small a divisor.
    """
    here, gone = (weights[:, asked == level] for level in (1, 0))
    seen, still = here @ read[asked == 1], gone @ read[asked == 0]
    total_here, total_gone = here.sum(1), gone.sum(1)
    known = (total_here > 0) & (total_gone > 0)
    safe_here, safe_gone = np.where(known, total_here, 1), np.where(known, total_gone, 1)
    return np.asarray(np.where(known, seen / safe_here - still / safe_gone, np.nan))


def ratio(numerator: Bootstrap, denominator: Bootstrap, *, floor: float = 0.05) -> Bootstrap:
    """Quotient of two figures on the same resamples; the denominator's draws are cut at ``floor`` to keep them off zero."""
    if numerator.samples.shape != denominator.samples.shape:
        raise ValueError("both figures need the same resamples")
    return Bootstrap(
        value=numerator.value / max(denominator.value, floor),
        samples=numerator.samples / np.maximum(denominator.samples, floor),
    )


def compliance_scaled(importance: Bootstrap, compliance: Bootstrap, *, level: float = 0.95, least: float = 0.0) -> Interval | None:
    """Δ/κ by bootstrapping the ratio; None below κ = 0.2.  ``least`` >= 0 is how far the importance's interval reaches at least.

    Assumes that pictures which did not change contribute nothing and that the others are typical.
    """
    if not compliance.value >= LEAST_COMPLIANCE:
        return None
    return ratio(importance, compliance).interval(level).reaching(least / compliance.value)


def true_change(change: Float[np.ndarray, "m"], sensitivity: float, specificity: float) -> Float[np.ndarray, "m"]:
    """Detector changes corrected for the detector's own error: divided by sensitivity + specificity − 1."""
    youden = sensitivity + specificity - 1
    if not 0 < youden <= 1:
        raise ValueError(f"the detector is no better than chance: sensitivity {sensitivity}, specificity {specificity}")
    return np.asarray(change / youden)


def log_scores(scores: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Centred log scores; with two classes their difference is the logit."""
    logs = np.log(np.clip(scores, CLIP, 1.0))
    return np.asarray(logs - logs.mean(-1, keepdims=True))


def leak_coefficients(
    score_changes: Float[np.ndarray, "m k"],
    concept_changes: Float[np.ndarray, "m J"],
    weights: Float[np.ndarray, "m"] | None = None,
) -> Float[np.ndarray, "J k"]:
    """β of Δs = Σ_k β_k Δĥ_k + ε over all flips of all concepts stacked, least squares without intercept.

    Score changes are differences of :func:`log_scores`; an unidentified direction gets coefficient 0 (minimum norm).
    """
    if len(score_changes) != len(concept_changes):
        raise ValueError(f"{len(score_changes)} score changes but {len(concept_changes)} concept changes")
    root = np.ones(len(score_changes)) if weights is None else np.sqrt(weights)
    return np.asarray(np.linalg.lstsq(concept_changes * root[:, None], score_changes * root[:, None], rcond=None)[0])


def leak_adjusted(table: FlipTable, coefficient: Float[np.ndarray, "k"]) -> FlipTable:
    """The table a pure edit of this binary concept would have given: log s ± β_j, back to probabilities.

    Its importance is the leak-adjusted one.  Linear and detector-dependent: a diagnostic, not a verdict.
    """
    if table.levels != 2:
        raise ValueError(f"the leak adjustment is defined for binary concepts, this one has {table.levels} levels")
    moved = log_scores(table.baseline)[:, None, :] + (np.arange(2) - table.values[:, None])[:, :, None] * coefficient
    odds = np.exp(moved - moved.max(-1, keepdims=True))
    flips = odds / odds.sum(-1, keepdims=True)
    flips[np.arange(len(table)), table.values] = table.baseline
    return FlipTable(baseline=table.baseline, flips=flips, values=table.values, labels=table.labels)


def complied(
    before: Int[np.ndarray, "n J"], after: Int[np.ndarray, "n J"], concept: int, asked: Int[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Per-protocol rows: the detector reads the asked level after the flip, another one before, and no other concept changed.

    Use as ``table.rows(complied(...))``; it can select unusual rows.
    """
    changed = before != after
    others = np.delete(changed, concept, axis=1).any(1)
    return np.asarray(changed[:, concept] & (after[:, concept] == asked) & ~others)
