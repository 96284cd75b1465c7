"""Twins: some of the bank's pictures drawn again by the reference, that is, in full, in torch, in single precision.

A backend is certified network by network; what remains is whether a whole trajectory, or a plan that saves steps, changes what an
audited model says.  Twins depend on no model, so they are drawn once, with the bank; every model is asked about them when it is audited.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from audit_plugin.bank.build import draw, drawing, run
from audit_plugin.bank.pictures import storage
from audit_plugin.bank.plan import Plan
from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.protocols import Generator, Images, Progress, ScoreTable
from audit_plugin.core.results import EngineCheck
from audit_plugin.core.values import Arm, Recipe, TargetInfo
from audit_plugin.statistics.likeness import agreement
from audit_plugin.statistics.metrics import METRICS

PICTURES = 64
"""Twins of a bank, where it has as many rows."""
_FILE = "reference.json"


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A row's baseline picture, drawn twice."""

    row: str
    recipe: str
    sha256: str
    """Of the reference's picture."""


def draw_twins(
    bank: ProbeBank, plan: Plan, reference: Generator, *, progress: Progress, batch: int = 16, workers: int = 1
) -> tuple[Twin, ...]:
    """Draw them unless they are there, and remember it when all is there; killed in between, it starts again."""
    known = twins(bank, plan)
    if known:
        return known
    wanted = _chosen(bank, plan)
    made: list[Twin] = []
    recipes, row_of = list(wanted.values()), {recipe.id: row for row, recipe in wanted.items()}
    starts = range(0, len(recipes), batch)
    work = (partial(draw, reference, _accepted, recipes[start : start + batch]) for start in starts)
    with drawing(None, workers) as pool:
        for drawn in run(work, pool, 2 * workers):
            made += [Twin(row=row_of[one.recipe], recipe=one.recipe, sha256=bank.pictures.put(one.png)) for one in drawn]
            progress(len(made), len(wanted), "reference pictures")
    note = {"generator": plan.generator, "twins": [asdict(twin) for twin in made]}
    with storage(str(bank.root)):
        temporary = (bank.root / _FILE).with_suffix(".tmp")
        temporary.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        temporary.replace(bank.root / _FILE)
    return tuple(made)


def twins(bank: ProbeBank, plan: Plan) -> tuple[Twin, ...]:
    """Those that were drawn for this plan and are still whole; none when any is lost."""
    try:
        note = json.loads((bank.root / _FILE).read_text(encoding="utf-8"))
        found = tuple(Twin(**twin) for twin in note["twins"]) if note["generator"] == plan.generator else ()
    except (OSError, ValueError, KeyError, TypeError):
        return ()
    lost = any(bank.pictures.damage(twin.sha256) for twin in found)
    return () if lost or {twin.row for twin in found} != set(_chosen(bank, plan)) else found


def compare(
    bank: ProbeBank, among: Sequence[Twin], scores: ScoreTable, info: TargetInfo, *, label: str, metric: str
) -> EngineCheck | None:
    """Compare what the model says of pictures and of their twins; None without twins."""
    images, labels = bank.images(), {row.id: row.labels[label] for row in bank.plan().rows}
    known = scores.get(info.id, {sha for twin in among for sha in (twin.sha256, images[twin.recipe].sha256)})
    pairs = [(known[images[twin.recipe].sha256], known[twin.sha256], labels[twin.row]) for twin in among]
    if not pairs:
        return None
    drawn, twin = np.array([one for one, _, _ in pairs]), np.array([two for _, two, _ in pairs])
    found = agreement(drawn, twin)
    right = np.array([info.labels.index(said) for _, _, said in pairs])
    both = len(set(right.tolist())) > 1
    return EngineCheck(
        pictures=found.pictures,
        same=found.same,
        change=found.change,
        passed=found.passed,
        metric_drawn=METRICS[metric].performance(drawn, right) if both else None,
        metric_reference=METRICS[metric].performance(twin, right) if both else None,
    )


def _accepted(images: Images) -> list[str]:
    return [""] * len(images)


def _chosen(bank: ProbeBank, plan: Plan) -> dict[str, Recipe]:
    """Row -> recipe of its baseline picture, for the first rows that have one."""
    images = bank.images()
    baselines: Sequence[tuple[str, Recipe]] = [
        (probe.row, probe.recipe)
        for probe in plan.probes
        if probe.arm is Arm.BASELINE and probe.recipe.id in images and not images[probe.recipe.id].rejected
    ]
    return dict(baselines[:PICTURES])
