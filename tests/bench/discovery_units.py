"""Are hidden units that carry a planted artefact named after it?  `python -m tests.bench.discovery_units [--quick]`.

Which units carry what is measured on fresh pictures of the renderer, whose values are known: the units of a classifier's last activation that
tell a level of its planted concept from all others best (AUROC).  Each is then asked about without any of that: words drawn by the shipped
generator, activations by the audit model on a real Triton.  Named right is a unit whose first word, by the paired test, says that level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from audit_plugin.bank.edit_store import EditStore
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.discovery_results import DiscoveredSubject, Mode
from audit_plugin.core.protocols import Images
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES, SUITE, Planted
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import onnx_path
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions
from audit_plugin.methods.diffexplainer.units import UnitReader, usual
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.soft_prompts import unit_aim
from audit_plugin.sources.images import to_float
from audit_plugin.sources.scenes import SceneLaw, draw_values, render_many
from audit_plugin.statistics.separation import auroc
from audit_plugin.store.store import Store
from audit_plugin.target.features import ServedRows
from audit_plugin.target.gradients import check_units, read_units
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from engines.pipeline import Pipeline, load_pipeline
from engines.serving.hidden import survey
from engines.serving.hidden_model import export_hidden
from tests.bench.discovery_planted import SEED, by_gradient, discovering_of
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.bench.scenes_bank import GENERATOR, Say

MODELS = ("shape_ruler_100", "ruler_alone", "snowman_alone", "lighting_alone", "background_alone")
PICTURES = 600
"""Of the renderer, by which units are chosen."""
CARRIES = 0.85
"""AUROC from which on a unit counts as carrying a level."""
UNITS = 3
"""Most units of a classifier."""


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A unit, and what it carries by the renderer's truth."""

    unit: int
    concept: str
    phrase: str
    auroc: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--gradient", type=int, default=1, help="classifiers whose units are climbed by their file's gradient, too")
    options = made.parse_args(arguments)
    report = Report(
        name="discovery_units",
        question="Are hidden units that carry a planted artefact named after it?",
        mode="quick" if options.quick else "full",
        seeds={"prompts and noise": SEED, "renderer": "5"},
    )
    thorough = DiscoveryOptions(pairs=60, verify=60) if options.quick else DiscoveryOptions()
    pipeline, images, values = load_pipeline(GENERATOR, solver=4, batch=32), *_scenes()
    planted = [one for one in SUITE if one.name in MODELS]
    with TemporaryDirectory() as workdir:
        models = Path(workdir) / "models"
        outputs = {one.name: _written(one.name, models) for one in planted}
        with TritonServer(models, kit=ensure_kit(), log_file=Path(workdir) / "server.log") as server:
            scores = Store.open(f"sqlite:///{workdir}/scores.sqlite", migrate=True)
            for at, one in enumerate(planted):
                for mode in [Mode.SCORES, *([Mode.GRADIENT] if at < options.gradient else [])]:
                    with TritonClassifier.connect(TargetOptions(model=one.name, url=server.grpc_url)) as target:
                        ask = ServedRows(target.wire, f"{one.name}_hidden").of(outputs[one.name])
                        activity = ask(images)
                        carriers = _carriers(one, activity, values)
                        reader = UnitReader(
                            output=outputs[one.name],
                            units=tuple(each.unit for each in carriers),
                            ask=ask,
                            usual=usual(activity[:, [each.unit for each in carriers]]),
                        )
                        told = _asked(target, reader, mode=mode, pipeline=pipeline, scores=scores, options=thorough, images=images)
                    report.rows += [_row(one, mode, carrier, subject) for carrier, subject in zip(carriers, told, strict=True)]
                Say()(at + 1, len(planted), one.name)
            scores.close()
    report.figures = _figures(report.rows)
    report.notes += [
        f"- units of the last activation, averaged over space; truth: {PICTURES} renderer's pictures, all values independent; at most {UNITS} units with an AUROC of {CARRIES} or more each",
        "- words: those that raise the unit (paired test, strongest first), in standard deviations of what the renderer's pictures give",
        "- named: whether the first word says the level that the unit carries",
    ]
    publish(report, options)


def _scenes() -> tuple[Images, np.ndarray]:
    rng = np.random.default_rng(5)
    values = draw_values(PICTURES, SceneLaw(positive={}), rng)
    return to_float(list(render_many(rng.integers(0, 2**62, PICTURES).tolist(), values))), values


def _written(name: str, models: Path) -> str:
    """Classifier and audit model; the output that is asked for."""
    write_model(models, name, onnx_path(name), CLASSES)
    last = [each for each in survey(onnx_path(name)).tensors if each.kind == "activation" and each.space][-1]
    export_hidden(onnx_path(name), models, [last.name], name=f"{name}_hidden", labels=CLASSES)
    return f"{last.name}_mean"


def _carriers(planted: Planted, activity: np.ndarray, values: np.ndarray) -> list[Carrier]:
    found = []
    for at, concept in enumerate(SCENES.concepts):
        if concept.name not in planted.expected:
            continue
        for level, phrase in enumerate(concept.phrases):
            if not phrase.strip():
                continue
            is_so = values[:, at] == level
            found += [
                Carrier(unit=unit, concept=concept.name, phrase=phrase, auroc=auroc(column[is_so], column[~is_so]))
                for unit, column in enumerate(activity.T.astype(float))
                if column.std() > 0
            ]
    best: dict[int, Carrier] = {}
    for one in sorted(found, key=lambda each: -each.auroc):
        best.setdefault(one.unit, one)
    return [one for one in best.values() if one.auroc >= CARRIES][:UNITS]


def _asked(
    target: TritonClassifier,
    reader: UnitReader,
    *,
    mode: Mode,
    pipeline: Pipeline,
    scores: Store,
    options: DiscoveryOptions,
    images: Images,
) -> tuple[DiscoveredSubject, ...]:
    asked = DiscoverConfig(classes=(CLASSES[1],), options=options, mode="gradient" if mode is Mode.GRADIENT else "scores")
    discovering = discovering_of(
        target, asked, mode, pipeline=pipeline, store=EditStore(CACHE / "discovery_planted"), scores=scores, units=(reader,)
    )
    if mode is Mode.GRADIENT:
        units = read_units(onnx_path(target.info.model), target.contract, reader.output)
        check_units(units, images, reader.ask(images), reader.units, reader.usual.sd)
        columns = range(len(CLASSES), len(CLASSES) + len(reader.units))
        aims = {
            ("unit", column): unit_aim(units, unit, reader.usual, at)
            for at, (column, unit) in enumerate(zip(columns, reader.units, strict=True))
        }
        discovering = by_gradient(discovering, pipeline, aims)
    return tuple(one for one in discovering.run().subjects if one.kind == "unit")


def _row(planted: Planted, mode: Mode, carrier: Carrier, subject: DiscoveredSubject) -> dict[str, Cell]:
    acting = [word for word in subject.words if word.causes]
    first = plain(acting[0].word) if acting else ""
    return {
        "classifier": planted.name,
        "mode": mode.value,
        "unit": subject.name,
        "carries": carrier.phrase.strip(),
        "AUROC": carrier.auroc,
        "words": ", ".join(f"{word.word} {word.shift.value:+.1f}" for word in acting[:3] if word.shift is not None) or "none",
        "named": bool(first) and (first == plain(carrier.phrase) or first in plain(carrier.phrase).split()),
        "tested": len(subject.words),
    }


def _figures(rows: Sequence[dict[str, Cell]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for mode in (Mode.SCORES, Mode.GRADIENT):
        mine = [row for row in rows if row["mode"] == mode.value]
        if mine:
            figures |= {
                f"units_{mode.value}": float(len(mine)),
                f"named_{mode.value}": sum(bool(row["named"]) for row in mine) / len(mine),
            }
    return figures


if __name__ == "__main__":
    main()
