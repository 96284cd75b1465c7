"""Are audits right where the truth is exact?  `python -m tests.bench.coloured_shapes [--quick] [--json FILE] [--markdown FILE]`.

The acceptance of the coloured shapes: random targets that look at six concepts with known weights, generator stand-ins with one known
failure each, everything through pixels (drawn, seen by the target's own eye and by the detector, audited).  Half of the targets have
correlated concepts.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.table import BankTable
from audit_plugin.core.results import GateStatus, Verdict
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.values import Row
from audit_plugin.methods.depict import DepictOptions, DepictReport, audit
from audit_plugin.sources.scenes import coloured_shapes as shapes
from audit_plugin.statistics.agreement import agreement
from tests.bench.report import Report, parser, publish

NAME = "coloured_shapes"
SEED = "coloured shapes"
POPULATION = 40_000
"""Rows behind the true importance that intervals must cover."""
NOISE = 0.3

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A generator stand-in and the gates that must notice it."""

    name: str
    generator: shapes.ShapeGenerator
    gates: tuple[str, ...] = ()


STAND_INS = (
    Failure(name="perfect", generator=shapes.ShapeGenerator()),
    Failure(name="weak", generator=shapes.ShapeGenerator(obeys=(0.9, 0.8, 0.7, 0.6, 0.9, 0.8)), gates=("G2", "G3a")),
    Failure(name="leaky", generator=shapes.ShapeGenerator(leaks=0.2), gates=("G4",)),
    Failure(name="noisy", generator=shapes.ShapeGenerator(fresh=True)),
    Failure(name="fading", generator=shapes.ShapeGenerator(fade=0.45), gates=("G1", "G2")),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One audited target: what was said and what is true, per concept."""

    report: DepictReport
    weights: Array
    oracle: Array
    """On the audited rows."""
    truth: Array
    """In the population."""

    def figure(self, name: str) -> Array:
        """One figure of every concept: value, low, high or scaled."""
        results = [self.report.concept(concept.name) for concept in shapes.CONCEPTS]
        if name == "scaled":
            return np.array([np.nan if r.compliance_scaled is None else r.compliance_scaled.value for r in results])
        return np.array([getattr(r.importance, name) for r in results])

    @property
    def false_alarm(self) -> bool:
        """Whether a concept that the target does not look at is said to matter."""
        said = [self.report.concept(concept.name).verdict for concept in shapes.CONCEPTS]
        return any(verdict in {Verdict.RELIES, Verdict.HURTS} for verdict, w in zip(said, self.weights, strict=True) if w == 0)

    def worst(self, gates: Sequence[str]) -> GateStatus:
        """Worst status of these gates over all concepts."""
        order = [GateStatus.NOT_RUN, GateStatus.PASS, GateStatus.WARN, GateStatus.FAIL]
        return max((gate.status for gate in self.report.gates if gate.name in gates), key=order.index, default=GateStatus.NOT_RUN)


def trials(failure: Failure, targets: int, *, rows: int, resamples: int) -> list[Trial]:
    """Audits of this many targets through one stand-in; the targets and their rows are the same for every stand-in."""
    return [_trial(failure, at, rows=rows, resamples=resamples) for at in range(targets)]


def _trial(failure: Failure, at: int, *, rows: int, resamples: int) -> Trial:
    rng = np.random.default_rng(seed_of(SEED, str(at)))
    correlation, target = 0.7 * (at % 2), shapes.draw_target(rng)
    crowd = shapes.draw_values(POPULATION, rng, correlation=correlation)
    truth = shapes.permutation_oracle(target, crowd, rng.normal(0, NOISE, POPULATION), target.labels(crowd, rng))
    values, noise = shapes.draw_values(rows, rng, correlation=correlation), rng.normal(0, NOISE, rows)
    labels = target.labels(values, rng)
    seeds = [seed_of(SEED, f"{at}/{row}") for row in range(rows)]
    table, places, seen = _bank(failure.generator, values, labels, seeds)
    per_picture = rng.normal(0, NOISE, len(places)) if failure.generator.fresh else noise[places]
    p = 1 / (1 + np.exp(-target.score(seen, per_picture)))
    scores = dict(zip(table.readings, np.stack([1 - p, p], 1), strict=True))
    report = audit(
        table, scores, label="task", classes=("no", "yes"), seed=f"{SEED} {at}", real_scores=scores,
        options=DepictOptions(resamples=resamples, adjusted_resamples=20, random_pairs=0, extreme_pairs=0),
    )  # fmt: skip
    oracle = shapes.permutation_oracle(target, values, noise, labels)
    return Trial(report=report, weights=np.array(target.weights), oracle=oracle, truth=truth)


def _bank(
    generator: shapes.ShapeGenerator, values: shapes.Values, labels: shapes.Values, seeds: Sequence[int]
) -> tuple[BankTable, shapes.Values, shapes.Values]:
    """The flip table's pictures with placebo and real ones; also each picture's row, and what is seen in it ``(m, 6)``."""
    n, names = len(values), []
    captions: list[str] = []
    for row, own in enumerate(values.tolist()):
        flipped = [shapes.caption([*own[:k], 1 - own[k], *own[k + 1 :]]) for k in range(len(own))]
        text = shapes.caption(own)
        captions += [text, *flipped, f"{text}, indeed" if text else "indeed"]
        names += [f"base-{row}", *(f"flip-{k}-{row}" for k in range(len(own))), f"placebo-{row}"]
    per_row = len(names) // n
    drawn = generator.generate(captions, [seed for seed in seeds for _ in range(per_row)])
    real = np.stack([shapes.render(seed_of("real", str(s)), own) for s, own in zip(seeds, values.tolist(), strict=True)])
    pictures = np.concatenate([drawn, real.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)])
    names += [f"real-{row}" for row in range(n)]
    read = shapes.ShapeDetector().read(pictures)
    readings: Mapping[str, Mapping[str, Array]] = {
        name: {concept: probabilities[at] for concept, probabilities in read.items()} for at, name in enumerate(names)
    }
    table = BankTable(
        concepts=shapes.CONCEPTS,
        rows=tuple(
            Row(id=str(row), values=tuple(own), labels={"task": ("no", "yes")[labels[row]]})
            for row, own in enumerate(values.tolist())
        ),
        baseline=np.array([f"base-{row}" for row in range(n)], "<U32"),
        flips={
            concept.name: np.array(
                [[f"base-{row}" if values[row, k] == level else f"flip-{k}-{row}" for row in range(n)] for level in (0, 1)], "<U32"
            )
            for k, concept in enumerate(shapes.CONCEPTS)
        },
        placebo=np.array([f"placebo-{row}" for row in range(n)], "<U32"),
        real=np.array([f"real-{row}" for row in range(n)], "<U32"),
        readings=readings,
    )
    seen = np.stack([read[concept.name].argmax(1) for concept in shapes.CONCEPTS], 1)
    return table, np.array([int(name.rsplit("-", 1)[1]) for name in names]), seen


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What one stand-in's audits were like."""

    spearman: float
    """Mean over targets, with the permutation oracle on the same rows."""
    spearman_least: float
    first_right: float
    first_right_scaled: float
    """By the compliance-scaled importance."""
    coverage_worst: float
    """Share of 95 % intervals that hold the population's value, of the concept with the lowest."""
    false_alarms: float
    """Share of audits in which an unused concept is said to matter."""
    noticed: float | None
    """Share of audits in which a responsible gate does not pass."""
    failed: float | None
    """Share of audits in which a responsible gate fails."""


def summary(found: Sequence[Trial], gates: Sequence[str]) -> Summary:
    """Figures over all audited targets."""
    values = [trial.figure("value") for trial in found]
    agreed = [agreement(v.round(9), trial.oracle.round(9)) for v, trial in zip(values, found, strict=True)]
    covered = [(t.figure("low") - 1e-9 <= t.truth) & (t.truth <= t.figure("high") + 1e-9) for t in found]
    statuses = [trial.worst(gates) for trial in found]
    spearmans = [one.spearman for one in agreed]
    return Summary(
        spearman=float(np.mean(spearmans)),
        spearman_least=min(spearmans),
        first_right=float(np.mean([one.first_right for one in agreed])),
        first_right_scaled=float(np.mean([np.nanargmax(t.figure("scaled")) == t.oracle.argmax() for t in found])),
        coverage_worst=float(np.mean(covered, axis=0).min()),
        false_alarms=float(np.mean([trial.false_alarm for trial in found])),
        noticed=float(np.mean([s in {GateStatus.WARN, GateStatus.FAIL} for s in statuses])) if gates else None,
        failed=float(np.mean([s is GateStatus.FAIL for s in statuses])) if gates else None,
    )


def main() -> None:
    """One line per stand-in."""
    options = parser(__doc__).parse_args()
    targets, rows, resamples = (12, 400, 500) if options.quick else (60, 400, 1000)
    mode = "quick" if options.quick else "full"
    report = Report(name=NAME, question="are audits right where the truth is exact?", mode=mode, seeds={"targets": SEED})
    for failure in STAND_INS:
        started = time.perf_counter()
        found = summary(trials(failure, targets, rows=rows, resamples=resamples), failure.gates)
        figures = vars(found)
        seconds = round(time.perf_counter() - started, 1)
        report.rows.append(
            {"stand-in": failure.name, "targets": targets, **figures, "gates": " ".join(failure.gates), "seconds": seconds}
        )
        report.figures |= {f"{failure.name}_{name}": value for name, value in figures.items() if value is not None}
    report.notes.append(
        f"{rows} rows per target.  Wanted: perfect spearman >= 0.99 and first_right = 1; weak first_right_scaled >= 0.95; leaky and "
        "fading noticed >= 0.95; false_alarms <= 0.05 and coverage_worst >= 0.92 with the perfect generator."
    )
    publish(report, options)


if __name__ == "__main__":
    main()
