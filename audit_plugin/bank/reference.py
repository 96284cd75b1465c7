"""Twins: some of the bank's pictures drawn again by the reference, that is, in full, in torch, in single precision.

A backend is certified network by network; what remains is whether a whole trajectory, or a plan that saves steps, changes what an
audited model says.  Twins depend on no model, so they are drawn once, with the bank; every model is asked about them when it is audited.
"""

import json
from collections.abc import Collection, Sequence
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
    _remember(bank, plan.generator, made)
    return tuple(made)


def twins(bank: ProbeBank, plan: Plan) -> tuple[Twin, ...]:
    """Those that were drawn for this plan and are still whole; none when any is lost."""
    generator, noted = _noted(bank)
    found = noted if generator == plan.generator else ()
    lost = any(bank.pictures.damage(twin.sha256) for twin in found)
    return () if lost or {twin.row for twin in found} != set(_chosen(bank, plan)) else found


def twin_pictures(bank: ProbeBank) -> frozenset[str]:
    """sha256 of all that were drawn last, whole or not."""
    return frozenset(twin.sha256 for twin in _noted(bank)[1])


def twins_of(bank: ProbeBank, rows: Collection[str]) -> set[str]:
    """sha256 of the twins of these rows."""
    return {twin.sha256 for twin in _noted(bank)[1] if twin.row in rows}


def alike(bank: ProbeBank, sha256: str) -> frozenset[str]:
    """A picture of the bank with its twin, or a twin with its picture; empty for what nobody drew."""
    images, noted = bank.images(), _noted(bank)[1]
    recipes = {twin.recipe for twin in noted if twin.sha256 == sha256}
    recipes |= {recipe for recipe, image in images.items() if image.sha256 == sha256}
    drawn = {images[recipe].sha256 for recipe in recipes if recipe in images}
    return frozenset(drawn | {twin.sha256 for twin in noted if twin.recipe in recipes})


def forget_twins(bank: ProbeBank, rows: Collection[str], shas: Collection[str] = ()) -> frozenset[str]:
    """Delete the twins of these rows, and those of these names, files first; their sha256."""
    generator, noted = _noted(bank)
    gone = frozenset(twin.sha256 for twin in noted if twin.row in rows or twin.sha256 in shas)
    for sha in gone:
        bank.pictures.remove(sha)
    if gone:
        _remember(bank, generator, [twin for twin in noted if twin.sha256 not in gone])
    return gone


def _noted(bank: ProbeBank) -> tuple[str, tuple[Twin, ...]]:
    """Fingerprint of the bank's generator then, and the twins; none where nothing, or nothing readable, was noted."""
    try:
        note = json.loads((bank.root / _FILE).read_text(encoding="utf-8"))
        return str(note["generator"]), tuple(Twin(**twin) for twin in note["twins"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", ()


def _remember(bank: ProbeBank, generator: str, made: Sequence[Twin]) -> None:
    note = {"generator": generator, "twins": [asdict(twin) for twin in made]}
    with storage(str(bank.root)):
        temporary = (bank.root / _FILE).with_suffix(".tmp")
        temporary.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
        temporary.replace(bank.root / _FILE)


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
