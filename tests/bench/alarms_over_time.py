"""How often do scheduled audits alarm for nothing, and how late for something?  `python -m tests.bench.alarms_over_time [--quick] [--pictures DIR]`.

Real audits of models with known truth (:mod:`tests.bench.audits_planted`) are drawn at random, fresh ones for every audit of a year, and go through
the policy's own code with a history (:mod:`tests.bench.audit_years`): a thousand model-years of daily audits cost a minute.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from audit_plugin.core.results import AuditResult
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.findings.history import assessed
from audit_plugin.statistics.intervals import z_value
from tests.bench import audit_years as years
from tests.bench.audit_years import ALARM, E_VALUES, RULES, SHIPPED, Drawn
from tests.bench.audits_kept import population
from tests.bench.audits_planted import FAIR, SIZES, Setting, concepts_of, importances, moved_to_margin
from tests.bench.curves import Plane, drawing
from tests.bench.report import Cell, Report, parser, publish

NAME = "alarms_over_time"
SEED = "2026"
SCHEDULES = {"daily": 365, "weekly": 52, "monthly": 12}
RELIES = Setting(name="relies", importances=SIZES, noise=0.1)
IDLE = {name: Setting(name=name, noise=noise) for name, noise in (("quiet", 0.03), ("idle", 0.1), ("noisy", 0.3))}
MARGIN = SIZES[1]
AT_MARGIN = "at the margin"
GROUPS = 20
"""Bootstrap resamples of the population; model-years are spread over them, and intervals are between them."""
HALF_A_YEAR = 180
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is made and drawn."""

    audits: Mapping[str, int]
    """Of each setting."""
    model_years: int
    chains: int
    """Of models that change, for each size and rule; a quarter of them for a change after a long time without."""
    resamples: int = 400
    """Behind the intervals of an audit (the shipped 2,000 take five times as long)."""


QUICK = Size(audits={"relies": 40, "idle": 40, "noisy": 20, "quiet": 20}, model_years=200, chains=100)
FULL = Size(audits={"relies": 100, "idle": 100, "noisy": 20, "quiet": 20}, model_years=1_000, chains=160)


@dataclass(frozen=True, kw_only=True)
class World:
    """All audits there are to draw from."""

    audits: Mapping[str, Sequence[AuditResult]]
    size: Size

    def drawn(self, setting: str, *subjects: years.Subject) -> list[Drawn]:
        """With what each finds by itself about these subjects; about all when none is named."""
        return years.drawn(self.audits[setting], subjects or None)


def measured(size: Size, say: Callable[[str], None]) -> tuple[Report, dict[str, str]]:
    """The report, and the pictures by file name."""
    settings = (RELIES, *IDLE.values())
    audits = {one.name: population(one, size.audits[one.name], resamples=size.resamples, say=say) for one in settings}
    audits[AT_MARGIN] = [one for concept in ("c2", "c3", "c4") for one in moved_to_margin(audits["relies"], concept, AT_MARGIN)]
    world = World(audits=audits, size=size)
    report = Report(
        name=NAME,
        question="how often scheduled audits alarm for nothing, and how many audits it takes until a true change is alarmed",
        seeds={"audits": "calibration", "draws": SEED},
    )
    report.figures["audits"] = float(sum(size.audits.values()))
    _check(world, report)
    _false_alarms(world, report, say)
    report.tables["Single audits, as they are drawn"] = _singles(world)
    firsts = {truth: _delays(world, at, truth, say) for at, truth in enumerate(SIZES[1:], start=1)}
    late = {truth: _delays(world, at, truth, say, before=HALF_A_YEAR) for at, truth in enumerate(SIZES[2:5], start=2)}
    report.tables["Audits until a change is alarmed, fresh rows each; importance 0.020 is the margin and ought not to be"] = _table(
        firsts
    )
    report.tables[f"The same, when the change comes after {HALF_A_YEAR} audits of this version that found nothing"] = _table(late)
    report.tables["The same rows in every audit of a year"] = _same_rows(world)
    for truth, found in firsts.items():
        report.figures[f"delay_median_{_key(truth)}"] = _median(found[SHIPPED.name])
        report.figures[f"never_in_52_{_key(truth)}"] = _never(found[SHIPPED.name], 52)
    report.notes += _notes(world)
    return report, _pictures(firsts)


def _check(world: World, report: Report) -> None:
    """The short way through the policy and the long one, on one year of each model that has findings at all."""
    same = total = 0
    for name in ("relies", "noisy"):
        numbers = _rng("check", name).integers(len(world.audits[name]), size=52)
        audits = [world.audits[name][number] for number in numbers.tolist()]
        for rule in (one for one in RULES if one.runs == 2):
            long = years.alerts_of(audits, years.POLICIES[rule.policy])
            pairs = list(zip(years.fired_in_short(audits, rule), long, strict=True))
            same, total = same + sum(short == long for short, long in pairs), total + len(pairs)
    report.figures["agrees_with_alerts"] = same / total


def _false_alarms(world: World, report: Report, say: Callable[[str], None]) -> None:
    """Models that rely on nothing, and one whose importance is the margin itself."""
    about = {name: ([name], world.drawn(name)) for name in IDLE}
    about["drifting"] = (list(IDLE), [one for name in IDLE for one in world.drawn(name)])
    about[AT_MARGIN] = ([AT_MARGIN], world.drawn(AT_MARGIN))
    for model, (parts, drawn) in about.items():
        for schedule, audits in SCHEDULES.items():
            draws = _draws(world, model, parts, audits)
            row: dict[str, Cell] = {"model": model, "audits": schedule}
            concepts = [AT_MARGIN] if model == AT_MARGIN else list(concepts_of(IDLE["idle"]))
            for rule in RULES:
                counts = [np.mean(years.onsets(group, drawn, rule)) for group in draws]
                row[f"alarms a model-year: {rule.name}"] = _between(counts)
                if schedule == "daily" and (model == AT_MARGIN or rule is SHIPPED):
                    report.figures[f"false_alarms_{_key(model)}_{_key(rule.name)}"] = float(np.mean(counts))
            for runs in (1, 2):
                row[f"by a normal tail: each, {runs} run{'s' if runs > 1 else ''}"] = audits * _tail(world, parts, concepts, runs)
            row[f"model-years with any: {E_VALUES}"] = _between([_ever(world, parts, group, concepts) for group in draws])
            report.rows.append(row)
        say(f"false alarms: {model}")


def _draws(world: World, model: str, parts: Sequence[str], audits: int) -> list[Numbers]:
    """For each group ``(years, audits)`` numbers into the audits of ``parts``, one after the other.

    With several parts the model is in one of them at a time and moves to a neighbour (or stays) with every thirtieth of a year.
    """
    counts = np.array([len(world.audits[name]) for name in parts])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rng, made = _rng(model, str(audits)), []
    for _ in range(GROUPS):
        shape = (world.size.model_years // GROUPS, audits)
        levels = rng.integers(len(parts), size=(shape[0], 1)) + np.zeros(shape, np.int64)
        if len(parts) > 1:
            steps = rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=shape) * (rng.random(shape) < 30 / audits)
            for at in range(1, audits):
                levels[:, at] = np.clip(levels[:, at - 1] + steps[:, at], 0, len(parts) - 1)
        resampled = [rng.integers(count, size=count) for count in counts]
        chosen = np.zeros(shape, np.int64)
        for part, count in enumerate(counts.tolist()):
            here = levels == part
            chosen[here] = starts[part] + resampled[part][rng.integers(count, size=int(here.sum()))]
        made.append(chosen)
    return made


def _tail(world: World, parts: Sequence[str], concepts: Sequence[str], runs: int) -> float:
    """Alarms an audit but for strong ones, if estimates were normal around their mean: what no draw from few audits can show."""
    chances = []
    for name in parts:
        for concept in concepts:
            z = years.distances(world.audits[name], concept)
            chances.append(ndtr((z.mean() - z_value(0.95)) / z.std(ddof=1)))
    return float(np.sum(np.array(chances) ** runs)) / len(parts)


def _ever(world: World, parts: Sequence[str], draws: Numbers, concepts: Sequence[str]) -> float:
    """Share of model-years in which the e-value of any concept reached its bound."""
    audits = [told for name in parts for told in world.audits[name]]
    reached = [(years.log_e_values(years.distances(audits, name)[draws]) >= ALARM).any(1) for name in concepts]
    return float(np.any(reached, axis=0).mean())


def _delays(world: World, at: int, truth: float, say: Callable[[str], None], *, before: int = 0) -> dict[str, list[int | None]]:
    """Rule -> audits until the first alarm about the reliance on one concept, of every chain."""
    concept, longest = AT_MARGIN if truth == MARGIN else f"c{at + 1}", SCHEDULES["daily"]
    audits = world.audits[AT_MARGIN if truth == MARGIN else "relies"]
    numbers = _rng("delay", concept).integers(len(audits), size=(world.size.chains // (4 if before else 1), longest))
    drawn = years.drawn(audits, [("reliance", concept)])
    found = {rule.name: [years.first_alarm(one, drawn, rule, before=before) for one in numbers.tolist()] for rule in RULES}
    z = years.distances(audits, concept)[numbers]
    quiet = years.distances(world.audits["relies"], "c1")[
        _rng("before", concept).integers(len(world.audits["relies"]), size=(len(z), before))
    ]
    reached = years.log_e_values(np.concatenate([quiet, z], axis=1))[:, before:] >= ALARM
    found[E_VALUES] = [int(row.argmax()) + 1 if row.any() else None for row in reached]
    if truth == FAIR:
        fair = world.drawn("relies", ("fairness", concept))
        found["fairness, each, 2 runs"] = [years.first_alarm(one, fair, SHIPPED, before=before) for one in numbers.tolist()]
    say(f"delays: importance {truth}, after {before} audits")
    return found


def _table(found: Mapping[float, Mapping[str, Sequence[int | None]]]) -> list[dict[str, Cell]]:
    return [
        {
            "importance": truth,
            "rule": rule,
            "median": _audits(_quantile(delays, 0.5)),
            "90 %": _audits(_quantile(delays, 0.9)),
            **{f"never in {audits}": _never(delays, audits) for audits in sorted(SCHEDULES.values())},
        }
        for truth, rules in found.items()
        for rule, delays in rules.items()
    ]


def _singles(world: World) -> list[dict[str, Cell]]:
    """What one audit says and finds, by the truth about the concept."""
    rows: list[dict[str, Cell]] = []
    for setting in (RELIES, *IDLE.values()):
        audits = world.audits[setting.name]
        working = [told for told in audits if assessed(told.state)]
        means = importances(working, setting)
        for truth, mean in means.items():
            names = [name for name, one in zip(concepts_of(setting), setting.importances, strict=True) if one == truth]
            found = [one for told in world.drawn(setting.name) for one in told.found["each"] if one.concept in names]
            tests = len(names) * len(working)
            concepts = [one for told in working for one in told.concepts if one.concept in names]
            reliance = [one for one in found if one.kind == "reliance"]
            rows.append(
                {
                    "model": setting.name,
                    "true importance": truth,
                    "audits": len(audits),
                    "broken": len(audits) - len(working),
                    "mean importance": mean,
                    "mean standard error": float(np.mean([one.se for one in concepts])),
                    "mean margin": float(np.mean([one.margin for one in concepts])),
                    "nearest to a finding": max(float(years.distances(working, name).max()) for name in names),
                    "reliance found": len(reliance) / tests,
                    "strong": sum(one.strong for one in reliance) / tests,
                    "audits with a fairness finding": len({id(told) for told in world.drawn(setting.name) if _unfair(told, names)})
                    / len(working),
                }
            )
    return rows


def _unfair(told: Drawn, names: Sequence[str]) -> bool:
    return any(one.kind == "fairness" and one.concept in names for one in told.found["each"])


def _same_rows(world: World) -> list[dict[str, Cell]]:
    """Every audit of the population, repeated on its rows for a year of weeks."""
    rows: list[dict[str, Cell]] = []
    for at, truth in enumerate(SIZES):
        drawn = world.drawn("relies", ("reliance", f"c{at + 1}"))
        row: dict[str, Cell] = {"true importance": truth}
        for rule in (SHIPPED, RULES[2]):
            for fresh in (False, True):
                ever = [
                    years.on_the_same_rows(number, drawn, rule, audits=SCHEDULES["weekly"], counted_fresh=fresh)
                    for number in range(len(drawn))
                ]
                row[f"{rule.name}{', had they counted as fresh' if fresh else ''}"] = float(np.mean(ever))
        rows.append(row)
    return rows


def _pictures(firsts: Mapping[float, Mapping[str, Sequence[int | None]]]) -> dict[str, str]:
    plane = partial(Plane, y="models alarmed", most=SCHEDULES["daily"], ticks=(1, 2, 5, 12, 52, 180, 365))
    since, rules = "audits since the change, fresh rows each", [*(rule.name for rule in RULES), E_VALUES]
    return {
        "alarms-delay.svg": drawing(
            plane(title="How long the shipped alerts take, by true importance", x=since),
            {f"importance {truth:g}": _curve(found[SHIPPED.name]) for truth, found in firsts.items()},
        ),
        "alarms-rules.svg": drawing(
            plane(title="Importance 0.05 under every rule", x=since), {rule: _curve(firsts[0.05][rule]) for rule in rules}
        ),
        "alarms-false.svg": drawing(
            plane(
                title="A concept whose importance is the margin itself: alarmed at least once",
                x="audits of this version, fresh rows each",
            ),
            {rule: _curve(firsts[MARGIN][rule]) for rule in rules},
        ),
    }


def _curve(delays: Sequence[int | None]) -> list[tuple[float, float]]:
    last = SCHEDULES["daily"]
    return [(at, sum(one is not None and one <= at for one in delays) / len(delays)) for at in range(1, last + 1)]


def _notes(world: World) -> list[str]:
    drawn = sum(len(audits) for name, audits in world.audits.items() if name != AT_MARGIN)
    return [
        (
            f"- {drawn} audits of 200 rows and 7 concepts, {world.size.resamples} resamples each; {world.size.model_years} model-years a cell, drawn from {GROUPS} "
            "bootstrap resamples of the audits; in brackets the middle 95 % of these. 0.000 (0.000 to 0.000) means that no drawn audit could alarm, not that none ever will: see the normal tail beside it, and how near the nearest came."
        ),
        (
            "- quiet, idle, noisy: six concepts that the model does not use, by how much two pictures of the same caption differ in the logit (0.06, 0.2, 0.6);"
            " drifting: moves between the three; at the margin: estimates of the concepts of importance 0.02, 0.03 and 0.05, each moved alike so that their mean is the margin, the edge of what is no reliance."
        ),
        "- e-values are not part of the policy; they are computed here from importance, margin and standard error, as the product over fresh rows.",
        "- Findings about nodes of a concept tree, counterfactuals and discoveries are not covered.",
    ]


def _rng(*what: str) -> np.random.Generator:
    return np.random.default_rng(seed_of(SEED, " ".join(what)))


def _between(counts: Sequence[float]) -> str:
    low, high = np.quantile(counts, [0.025, 0.975])
    return f"{np.mean(counts):.3f} ({low:.3f} to {high:.3f})"


def _quantile(delays: Sequence[int | None], share: float) -> float:
    return float(np.quantile([np.inf if one is None else one for one in delays], share, method="inverted_cdf"))


def _median(delays: Sequence[int | None]) -> float:
    """Audits; one more than a daily year where most chains never alarm."""
    return min(_quantile(delays, 0.5), SCHEDULES["daily"] + 1.0)


def _audits(number: float) -> str:
    return f"{number:.0f}" if np.isfinite(number) else "never"


def _never(delays: Sequence[int | None], audits: int) -> float:
    return sum(one is None or one > audits for one in delays) / len(delays)


def _key(name: str | float) -> str:
    return str(name).replace(",", "").replace(" ", "_").replace(".", "_")


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--pictures", type=Path, help="write the curves to this folder")
    return made.parse_args()


if __name__ == "__main__":
    options = _options()
    report, pictures = measured(QUICK if options.quick else FULL, partial(print, file=sys.stderr, flush=True))
    report.mode = "quick" if options.quick else "full"
    publish(report, options)
    for name, content in pictures.items() if options.pictures else ():
        options.pictures.mkdir(parents=True, exist_ok=True)
        (options.pictures / name).write_text(content, encoding="utf-8")
