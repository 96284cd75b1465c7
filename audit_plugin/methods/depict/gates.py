"""The validity gates G0 to G9, evaluated before any importance is shown.

Every figure carries a row-bootstrap interval except the counts of G0.  A gate whose interval crosses a threshold takes the worse status,
by at most one step: uncertainty alone turns "pass" into "warn" and "warn" into "fail", never "pass" into "fail".  Three figures are
judged by value, because at the usual few hundred rows their noise is as wide as their bands and a perfect renderer would not pass: the
gap of G2, a difference of two AUROCs of a rare level (the AUROC on generated images is judged with its interval); G4, the largest of
many noisy rates, which fails only if its interval (Bonferroni over the other concepts) also excludes the placebo's rate; and G8, a
ratio of two skills.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.results import Gate, GateStatus
from audit_plugin.methods.depict.assemble import Array, Ints, Mask
from audit_plugin.methods.depict.coinciding import coinciding, inseparable
from audit_plugin.methods.depict.edits import compliance, detector_drop, leakage
from audit_plugin.methods.depict.placebo import placebo_drop
from audit_plugin.methods.depict.study import Study, known, minus, over, ratios
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap
from audit_plugin.statistics.conditional import OffSupport, off_support, support
from audit_plugin.statistics.metrics import METRICS

_ORDER = (GateStatus.PASS, GateStatus.WARN, GateStatus.FAIL)
_SLACK = 1e-9
_CHANCE = 0.5
_LEAST_SKILL = 0.05
"""AUROC above chance below which "share of skill" says nothing."""

_SUPPORT_PENALTY = 0.1
"""Ridge of the support regression; with 1 two concepts that always coincide would still look 3 % apart at 300 rows."""


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Thresholds as (pass, warn); beyond the second is a failure."""

    rows_per_level: tuple[int, int] = (30, 15)
    """G0: fewest rows of any level of a concept."""
    parity_gap: tuple[float, float] = (0.05, 0.10)
    """G1: AUROC of the model on real minus on generated images of the same rows."""
    skill_kept: tuple[float, float] = (0.85, 0.70)
    """G1: share of the skill above chance that generated images keep."""
    concept_gap: tuple[float, float] = (0.05, 0.10)
    """G2: AUROC of a concept's detector on real minus on generated images."""
    concept_auroc: tuple[float, float] = (0.80, 0.70)
    """G2: AUROC of a concept's detector on generated images."""
    over_rendering: float = 0.03
    """G2: how much easier a concept may be to see on generated images before it is said."""
    obedience: tuple[float, float] = (0.80, 0.50)
    """G3a: achieved share of asked-for changes, relative to real images."""
    erasure: tuple[float, float] = (0.80, 0.50)
    """G3b: share of a detector's skill that permuting its own concept removes."""
    leakage: tuple[float, float] = (0.05, 0.10)
    """G4: change rate of another concept in excess of the placebo's."""
    detector_auroc: tuple[float, float] = (0.85, 0.75)
    """G5: AUROC of a concept's detector on real images it has not learnt from."""
    off_support: tuple[float, float] = (0.20, 0.50)
    """G7: share of flips that ask for a combination which hardly occurs."""
    skill_left: tuple[float, float] = (0.2, 0.5)
    """G8: share of the model's skill that is left when all listed concepts are flipped together."""
    surrogate_r2: tuple[float, float] = (0.5, 0.25)
    """G8: cross-validated R² of the concepts for the model's score; the better of the two G8 figures counts."""
    rejected: tuple[float, float] = (0.01, 0.05)
    """G9: share of flips that the quality filter refused."""
    cautious: bool = True
    """Whether an interval that crosses a threshold takes the worse status; off, values alone decide."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GateReport:
    """All gates, and the figures behind them that estimates need."""

    gates: tuple[Gate, ...]
    compliance: Mapping[str, Bootstrap]
    leakage: Mapping[str, Mapping[str, Bootstrap]]
    support: Mapping[str, OffSupport]
    """Concept -> which flips of its usable rows ask for combinations that occur."""
    coinciding: Mapping[str, tuple[str, ...]]
    """Concept -> what it coincides with in the audited rows; nothing can separate them."""
    placebo: Bootstrap | None
    """Effect of the placebo edit on the metric."""
    noise_floor: float
    """Largest placebo effect that the data allow (95 %), 0 without a placebo."""
    margin: float
    """Practical margin δ₀ before it is widened to the noise floor."""

    @property
    def widened(self) -> float:
        """Margin of every verdict: max(δ₀, noise floor)."""
        return max(self.margin, self.noise_floor)

    def status(self, name: str, concept: str = "") -> GateStatus:
        """Status of one gate for one concept (or for the audit); "not run" when there is no such gate."""
        found = [gate.status for gate in self.gates if gate.name == name and gate.subject.split("->")[0] == concept]
        return found[0] if found else GateStatus.NOT_RUN

    @property
    def invalid(self) -> str:
        """Why the whole audit is invalid; empty when it is not."""
        if self.status("G1") is GateStatus.FAIL:
            return "the model does not treat generated images like real ones (G1)"
        if self.status("G6") is GateStatus.FAIL and self.noise_floor > 3 * self.margin:
            return f"a caption change that must not matter moves the metric by up to {self.noise_floor:.3f} (G6)"
        return ""

    @property
    def remedy(self) -> str:
        """What to do where G1 failed, else empty: G2 tells a generator that draws badly from captions that leave something out."""
        if self.status("G1") is not GateStatus.FAIL:
            return ""
        drawn = {gate.subject: gate.status for gate in self.gates if gate.name == "G2"}
        faint = [name for name, status in drawn.items() if status is GateStatus.FAIL]
        if faint:
            more = f" and {len(faint) - 3} more" if len(faint) > 3 else ""
            return f"The generator does not draw {', '.join(faint[:3])}{more} well enough (G2): use a better one."
        why = (
            "Nothing shows whether concepts are drawn well (G2); if they are, "
            if GateStatus.NOT_RUN in drawn.values()
            else "No concept is drawn badly (G2), so "
        )
        return (
            f"{why}the model may rely on what no concept names: `audit-plugin discover` finds words for it; list that as a concept, and "
            "audit again."
        )

    def leaks(self, concept: str) -> tuple[str, ...]:
        """Concepts that flips of this one change as well: G4 failed for them."""
        found = [gate for gate in self.gates if gate.name == "G4" and gate.status is GateStatus.FAIL]
        return tuple(gate.subject.split("->")[1] for gate in found if gate.subject.split("->")[0] == concept)


def run_gates(
    study: Study, options: GateOptions, *, margin: float, detector_auroc: Mapping[str, float] | None = None
) -> GateReport:
    """Evaluate every gate.  ``detector_auroc`` is what the detector's own card says of each concept, for want of real images."""
    card = detector_auroc or {}
    names = study.arrays.names
    obeyed = {name: found for name in names if (found := compliance(study, name)) is not None}
    leaks = leakage(study)
    supported = {name: _support(study, name) for name in names}
    same = {name: others for name in names if (others := coinciding(study, name))}
    idle = None if study.arrays.placebo is None else placebo_drop(study, study.arrays.placebo)
    judge = _Judge(study=study, options=options)
    gates = [
        *(judge.rows(name) for name in names),
        judge.parity(),
        *(judge.concept_parity(name, card.get(name)) for name in names),
        *(judge.obedience(name, obeyed.get(name)) for name in names),
        *(judge.erasure(name) for name in names),
        *(judge.independence(name, leaks[name]) for name in names),
        *(judge.detector(name, card.get(name)) for name in names),
        judge.placebo(idle, margin),
        *(judge.off_support(name, supported[name], same.get(name, ())) for name in names),
        judge.concept_set(),
        judge.sanity(),
    ]
    interval = None if idle is None else idle.interval()
    return GateReport(
        gates=tuple(gates),
        compliance=obeyed,
        leakage=leaks,
        support=supported,
        coinciding=same,
        placebo=idle,
        noise_floor=0.0 if interval is None else max(abs(interval.low), abs(interval.high)),
        margin=margin,
    )


def skill(study: Study, scores: Array) -> Bootstrap | None:
    """The metric on the rows that have these scores; None where their labels are all the same."""
    rows = known(scores)
    labels = study.arrays.labels[rows]
    if len(np.unique(labels)) < 2:
        return None
    return study.boot(lambda weights: study.metric.function(scores[rows], labels, weights), rows)


def _support(study: Study, name: str) -> OffSupport:
    rows = study.arrays.flips[name].usable
    own, levels = study.arrays.values[name][rows], len(study.arrays.concept(name).levels)
    others = [study.arrays.values[other][rows] for other in study.arrays.names if other != name]
    if not others or len(own) < 10:
        return OffSupport(share=0.0, excluded=0, allowed=np.ones((len(own), levels), np.bool_))
    return off_support(support(np.stack(others, 1), own, levels, study.rng(f"support {name}"), penalty=_SUPPORT_PENALTY), own)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judge:
    study: Study
    options: GateOptions

    def level(self, value: float, bounds: tuple[float, float], *, least: bool) -> int:
        """0 pass, 1 warn, 2 fail."""
        sign = -1 if least else 1
        return sum(sign * value > sign * bound + _SLACK for bound in bounds)

    def status(self, boot: Bootstrap, bounds: tuple[float, float], *, least: bool = False) -> GateStatus:
        """By value and, when cautious, by the bad end of the interval, at most one step below."""
        at = self.level(boot.value, bounds, least=least)
        if not self.options.cautious or not len(boot.known):
            return _ORDER[at]
        interval = boot.interval()
        worst = self.level(interval.low if least else interval.high, bounds, least=least)
        return _ORDER[max(at, min(worst, at + 1))]

    def rows(self, name: str) -> Gate:
        flip = self.study.arrays.flips[name]
        counts = np.bincount(flip.own[flip.usable], minlength=len(flip.concept.levels))
        bounds = self.options.rows_per_level
        at = self.level(float(counts.min()), (float(bounds[0]), float(bounds[1])), least=True)
        rarest = flip.concept.levels[int(counts.argmin())]
        return Gate(
            name="G0",
            title=f"rows of the rarest level ({rarest})",
            subject=name,
            status=_ORDER[at],
            value=float(counts.min()),
            bound=f"at least {bounds[0]}",
            consequence=("", "few rows of one level: wide intervals", "not assessable: add rows that show this level")[at],
        )

    def parity(self) -> Gate:
        title, bound = "model is as good on generated as on real images", _most(self.options.parity_gap)
        real = self.study.arrays.real
        if real is None:
            return _not_run(
                "G1", title, "", bound, "no real images with scores: nothing shows that the model reads generated images"
            )
        rows = self.study.arrays.usable & known(real)
        labels = self.study.arrays.labels
        on_real = _auroc(self.study, real, labels, rows)
        generated = _auroc(self.study, self.study.arrays.baseline, labels, rows)
        if on_real is None or generated is None:
            return _not_run("G1", title, "", bound, "the real images show one class only")
        gap = minus(on_real, generated)
        status = self.status(gap, self.options.parity_gap)
        if on_real.value - _CHANCE >= _LEAST_SKILL:
            kept = over(_shifted(generated), _shifted(on_real), least=0.01)
            status = _worse(status, self.status(kept, self.options.skill_kept, least=True))
            bound += f", and {self.options.skill_kept[0]:.0%} of the skill above chance kept (kept: {kept.value:.0%})"
        broken = "the audit is invalid: the model does not treat generated images like real ones, so no importance is shown"
        return _gate(
            "G1",
            title,
            "",
            status,
            gap,
            bound=bound,
            texts={GateStatus.WARN: "importance may be understated", GateStatus.FAIL: broken},
        )

    def concept_parity(self, name: str, card: float | None) -> Gate:
        title, bound = "concept is as visible on generated as on real images", _most(self.options.concept_gap)
        generated, real = self._detector_skill(name, real=False), self._detector_skill(name, real=True)
        if generated is None:
            return _not_run("G2", title, name, bound, "no detector reads this concept: nothing shows that it was drawn")
        status = self.status(generated, self.options.concept_auroc, least=True)
        reference = real if real is not None else _constant(card, generated)
        gap = None if reference is None else minus(reference, generated)
        if gap is not None:
            status = _worse(status, _ORDER[self.level(gap.value, self.options.concept_gap, least=False)])
        bound += f", and AUROC on generated images {_least(self.options.concept_auroc)} (is: {generated.value:.3f})"
        weak = (
            'the concept is drawn too faintly: its importance is "at least" what is shown, is not ranked and cannot be negligible'
        )
        gate = _gate(
            "G2",
            title,
            name,
            status,
            gap,
            bound=bound,
            texts={GateStatus.WARN: "cannot be declared negligible", GateStatus.FAIL: weak},
        )
        if gap is not None and gap.value < -self.options.over_rendering:
            return _with(gate, "drawn more clearly than on real images: its importance may be overstated")
        return gate

    def obedience(self, name: str, kappa: Bootstrap | None) -> Gate:
        title, bound = "asked-for changes are made", _least(self.options.obedience)
        if kappa is None or not np.isfinite(kappa.value):
            return _not_run("G3a", title, name, bound, "no detector reads this concept: nothing shows that the edits were made")
        weak = 'edits are weak: its importance is "at least" what is shown, is not ranked and cannot be negligible'
        said = {GateStatus.WARN: "edits are not always made: cannot be declared negligible", GateStatus.FAIL: weak}
        return _gate("G3a", title, name, self.status(kappa, self.options.obedience, least=True), kappa, bound=bound, texts=said)

    def erasure(self, name: str) -> Gate:
        title, bound = "permuting erases the concept", _least(self.options.erasure)
        whole = self._detector_skill(name, real=False)
        if whole is None or name not in self.study.arrays.flips[name].readings or whole.value - _CHANCE < _LEAST_SKILL:
            return _not_run("G3b", title, name, bound, "")
        drop = bootstrap(lambda weights: detector_drop(self.study, name, name, weights), self.study.weights)
        if not np.isfinite(drop.value):
            return _not_run("G3b", title, name, bound, "")
        share = over(drop, _shifted(whole), least=0.01)
        said = "for comparison with the paper only: labels stay predictable from concepts that occur together, so G3a decides"
        texts = {GateStatus.WARN: said, GateStatus.FAIL: said}
        return _gate("G3b", title, name, self.status(share, self.options.erasure, least=True), share, bound=bound, texts=texts)

    def independence(self, name: str, leaks: Mapping[str, Bootstrap]) -> Gate:
        title, bound = "edits leave the other concepts alone (worst one)", _most(self.options.leakage)
        others = {other: boot for other, boot in leaks.items() if other != name}
        if not others:
            return _not_run(
                "G4", title, name, bound, "no detector reads the other concepts" if len(self.study.arrays.names) > 1 else ""
            )
        worst = max(others, key=lambda other: others[other].value)
        said = {
            GateStatus.WARN: f"some edits also change {worst}: cannot be declared negligible",
            GateStatus.FAIL: f"edits also change {worst}: the leak-adjusted importance must agree before it alerts",
        }
        at = self.level(others[worst].value, self.options.leakage, least=False)
        status = _ORDER[at if others[worst].interval(1 - 0.05 / len(others)).low > 0 else min(at, 1)]
        return _gate("G4", title, f"{name}->{worst}", status, others[worst], bound=bound, texts=said)

    def detector(self, name: str, card: float | None) -> Gate:
        title, bound = "detector is good on real images", _least(self.options.detector_auroc)
        skilled = self._detector_skill(name, real=True)
        said = {
            GateStatus.WARN: "readings are uncertain",
            GateStatus.FAIL: "not assessable: use a better detector for this concept",
        }
        if skilled is not None:
            status = self.status(skilled, self.options.detector_auroc, least=True)
            return _gate("G5", title, name, status, skilled, bound=bound, texts=said)
        if card is None:
            return _not_run("G5", title, name, bound, "neither real images nor the detector's own card tell how good it is")
        status = _ORDER[self.level(card, self.options.detector_auroc, least=True)]
        figure = Bootstrap(value=card, samples=np.array([]))
        return _gate("G5", "detector is good on real images (by its own card)", name, status, figure, bound=bound, texts=said)

    def placebo(self, idle: Bootstrap | None, margin: float) -> Gate:
        title, bound = "a caption change that must not matter does not", f"95 % interval within ±{margin:g}"
        if idle is None:
            return _not_run("G6", title, "", bound, "no placebo arm: the noise floor is unknown")
        interval = idle.interval()
        if interval.inside(margin) or interval.low == interval.high == 0:
            status = GateStatus.PASS
        else:
            status = GateStatus.WARN if interval.low <= 0 <= interval.high else GateStatus.FAIL
        widest = max(abs(interval.low), abs(interval.high))
        said = f"margins widened to {widest:.3f}"
        failed = said + (f"; over three times {margin:g}, so the audit is invalid" if widest > 3 * margin else "")
        return _gate("G6", title, "", status, idle, bound=bound, texts={GateStatus.WARN: said, GateStatus.FAIL: failed})

    def off_support(self, name: str, found: OffSupport, same: tuple[str, ...]) -> Gate:
        flip = self.study.arrays.flips[name]
        whole = flip.drawn[flip.usable]
        rare = whole & ~found.allowed
        weights = self.study.weights[:, flip.usable]
        part, cells = rare.sum(1).astype(np.float64), whole.sum(1).astype(np.float64)
        share = bootstrap(lambda drawn: ratios(part, cells, drawn), weights)
        title, bound = "flips ask for combinations that occur", f"{_most(self.options.off_support)} off support"
        if same:
            return Gate(
                name="G7", title=title, subject=name, status=GateStatus.FAIL, value=1.0, bound=bound, consequence=inseparable(same)
            )
        if not np.isfinite(share.value):
            return _not_run("G7", title, name, bound, "")
        said = {
            GateStatus.WARN: "many flips ask for combinations that hardly occur: see the conditional importance",
            GateStatus.FAIL: "most flips ask for combinations that do not occur: the conditional importance decides",
        }
        return _gate("G7", title, name, self.status(share, self.options.off_support), share, bound=bound, texts=said)

    def concept_set(self) -> Gate:
        figures = [figure for figure in (self._skill_left(), self._surrogate()) if figure is not None]
        title = "the listed concepts explain the model"
        if not figures:
            return _not_run("G8", title, "", "", "too few rows to judge the concept list")
        at, text, boot, bound, explained = min(figures, key=lambda figure: figure[0])
        banner = f"the concept list explains only {explained:.0%} of the model's behaviour: the model cannot be called clean"
        said = {
            GateStatus.WARN: f"the concept list explains about {explained:.0%} of the model's behaviour",
            GateStatus.FAIL: banner,
        }
        return _gate("G8", f"{title} ({text})", "", _ORDER[at], boot, bound=bound, texts=said)

    def _skill_left(self) -> "_Figure | None":
        """Share of skill left when a group of all concepts takes a donor's values."""
        arrays = self.study.arrays
        every = [group for group in arrays.groups.values() if set(group.members) == set(arrays.names)]
        if not every:
            return None
        group = every[0]
        before = _auroc(self.study, arrays.baseline, arrays.labels, group.usable)
        after = _auroc(self.study, group.scores, arrays.labels, group.usable)
        if before is None or after is None or before.value - _CHANCE < _LEAST_SKILL:
            return None
        left = over(_shifted(after), _shifted(before), least=0.01)
        bounds = self.options.skill_left
        at = self.level(left.value, bounds, least=False)
        return at, "skill left when all are flipped", left, _most(bounds), min(1.0, max(0.0, 1 - left.value))

    def _surrogate(self) -> "_Figure | None":
        """Cross-validated R² of a ridge regression from concept indicators to the model's scores."""
        arrays = self.study.arrays
        scores, where = (arrays.baseline, "generated") if arrays.real is None else (arrays.real, "real")
        rows = known(scores)
        if rows.sum() < 20:
            return None
        features = np.concatenate(
            [arrays.values[name][rows, None] == np.arange(1, len(arrays.concept(name).levels)) for name in arrays.names], axis=1
        ).astype(np.float64)
        folds = _folds(arrays.units[rows], self.study.rng("surrogate"))
        fitted, plain = _cross_fitted(features, scores[rows], folds)
        missed, spread = ((scores[rows] - fitted) ** 2).sum(1), ((scores[rows] - plain) ** 2).sum(1)
        title, bounds = f"R² of the concepts for its score on {where} images", self.options.surrogate_r2
        if spread.sum() < 1e-9 * len(spread):
            constant = Bootstrap(value=1.0, samples=np.ones(1))
            return 0, f"{title}; the score is constant, so nothing is left to explain", constant, _least(bounds), 1.0
        lost = bootstrap(lambda weights: 1 - ratios(missed, spread, weights), self.study.weights[:, rows])
        return self.level(lost.value, bounds, least=True), title, lost, _least(bounds), max(0.0, lost.value)

    def sanity(self) -> Gate:
        flips = self.study.arrays.flips.values()
        refused = np.sum([flip.rejected for flip in flips], axis=0).astype(np.float64)
        wanted = np.sum([flip.drawn.sum(1) + flip.rejected for flip in flips], axis=0).astype(np.float64)
        share, bounds = self.study.ratio(refused, wanted), self.options.rejected
        said = f"{int(refused.sum())} flips were refused; their rows are left out of the concepts concerned"
        texts = {GateStatus.WARN: said, GateStatus.FAIL: said + ", and figures hold for the rows that are left"}
        return _gate(
            "G9",
            "flips pass the quality filter",
            "",
            self.status(share, bounds),
            share,
            bound=f"{_most(bounds)} refused",
            texts=texts,
        )

    def _detector_skill(self, name: str, *, real: bool) -> Bootstrap | None:
        arrays = self.study.arrays
        readings = arrays.real_readings if real else arrays.readings
        if name not in readings:
            return None
        return _auroc(self.study, readings[name], arrays.values[name], known(readings[name]))


_Figure = tuple[int, str, Bootstrap, str, float]


def _auroc(study: Study, scores: Array, labels: Ints, rows: Mask) -> Bootstrap | None:
    keep = rows & known(scores)
    if len(np.unique(labels[keep])) < 2:
        return None
    return study.boot(lambda weights: METRICS["auroc"].function(scores[keep], labels[keep], weights), keep)


def _folds(units: Ints, rng: np.random.Generator, count: int = 5) -> Ints:
    """Fold of every row; rows of one unit stay together."""
    codes = np.unique(units, return_inverse=True)[1]
    return np.asarray(rng.permutation(int(codes.max()) + 1)[codes] % count)


def _cross_fitted(features: Array, targets: Array, fold: Ints, *, ridge: float = 1.0) -> tuple[Array, Array]:
    """Out-of-fold predictions ``(n, t)`` of a ridge regression, and those of the training mean alone."""
    fitted, plain = np.zeros_like(targets), np.zeros_like(targets)
    for part in np.unique(fold):
        held = fold == part
        x, y = features[~held], targets[~held]
        x_mean, y_mean = x.mean(0), y.mean(0)
        centred = x - x_mean
        slope = np.linalg.solve(centred.T @ centred + ridge * np.eye(x.shape[1]), centred.T @ (y - y_mean))
        fitted[held] = y_mean + (features[held] - x_mean) @ slope
        plain[held] = y_mean
    return fitted, plain


def _shifted(auroc: Bootstrap) -> Bootstrap:
    """Skill above chance."""
    return Bootstrap(value=auroc.value - _CHANCE, samples=auroc.samples - _CHANCE)


def _constant(value: float | None, like: Bootstrap) -> Bootstrap | None:
    return None if value is None else Bootstrap(value=value, samples=np.full(like.samples.shape, value))


def _worse(*statuses: GateStatus) -> GateStatus:
    return max(statuses, key=_ORDER.index)


def _most(bounds: tuple[float, float]) -> str:
    return f"at most {bounds[0]:g}"


def _least(bounds: tuple[float, float]) -> str:
    return f"at least {bounds[0]:g}"


def _not_run(name: str, title: str, subject: str, bound: str, why: str) -> Gate:
    return Gate(name=name, title=title, subject=subject, status=GateStatus.NOT_RUN, value=None, bound=bound, consequence=why)


def _gate(
    name: str, title: str, subject: str, status: GateStatus, boot: Bootstrap | None, *, bound: str, texts: Mapping[GateStatus, str]
) -> Gate:
    interval = boot.interval() if boot is not None and len(boot.known) else None
    return Gate(
        name=name,
        title=title,
        subject=subject,
        status=status,
        value=None if boot is None else boot.value,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        bound=bound,
        consequence=texts.get(status, ""),
    )


def _with(gate: Gate, said: str) -> Gate:
    return replace(gate, consequence="; ".join(part for part in (gate.consequence, said) if part))
