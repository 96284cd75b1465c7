"""How often, how closely and at what cost is a planted classifier flipped?  `python -m tests.bench.counterfactuals_planted [--quick]`.

Every classifier is served by a real Triton, which has the last word.  Scenes are edited by the shipped diffusion over pixels; image i is explained
for classifier i modulo fourteen, by every approach from the same noise.  Closeness is compared on the images that DiME was run on.
For classifiers with a planted shortcut and for the clean one more scenes follow, with independent concepts, whose flips are read by the shipped
detector: which concepts change along with the decision more than the data say?  What was made is kept, so that a cut run goes on.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from audit_plugin.core.counterfactual_results import AttributeGap, Counterfactual
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES, SUITE
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import onnx_path
from audit_plugin.methods.counterfactuals.attributes import Attributes
from audit_plugin.methods.counterfactuals.figures import gaps
from audit_plugin.perception.edit_checks import dissimilarity
from audit_plugin.statistics.intervals import wilson
from audit_plugin.target.gradients import SUFFIX
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from engines.guided.canvas import Canvas
from engines.pipeline import load_pipeline
from engines.serving.export import export_classifier
from tests.bench.counterfactual_cases import APPROACHES, PIXELS, SEED, Approach, Bench, Outcome, Scenes, denoising_error
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.bench.scenes_bank import Say, shipped_detector

GAPS = {"shape_background_100": "background", "shape_ruler_100": "ruler", "shape_clean": ""}
"""Classifier -> concept that its shortcut is planted on."""
_REFERENCE = 512
"""Scenes that say how attributes and labels go together."""
LEARNED = {"shape"}
"""What the classifiers are about: it changes with the decision because it should."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--images", type=int, help="most images of every approach but DiME")
    made.add_argument("--dime", type=int, help="images of DiME, which takes minutes for each")
    made.add_argument("--slow", type=int, help="most images of the approaches that take half a minute for each")
    made.add_argument("--pool", type=int, help="pictures that students are taught with")
    made.add_argument("--gaps", type=int, help="images of each classifier whose side changes are read")
    made.add_argument("--kept", action="store_true", help="tell what was made so far, and make nothing")
    options = made.parse_args(arguments)
    report = Report(
        name="counterfactuals_planted",
        question="How often do edits flip the deployed classifiers, how close do they stay, and what do they cost?",
        mode="quick" if options.quick else "full",
        seeds={"scenes and noise": SEED},
    )
    wanted = {each: _count(each, options) for each in APPROACHES}
    scenes = Scenes.first(max(wanted.values()))
    with TemporaryDirectory() as workdir, _served(Path(workdir)) as server:
        bench = Bench(
            folder=CACHE / "counterfactuals_planted",
            connect=lambda name: TritonClassifier.connect(TargetOptions(model=name, url=server.grpc_url)),
            pool=options.pool or (600 if options.quick else 5000),
            kept=options.kept,
        )
        found = {
            each: bench.outcomes(each, scenes, n, each.classifiers[1 if options.quick else 0], Say()) for each, n in wanted.items()
        }
        report.rows = _table(found, scenes)
        along = _gap_table(bench, options.gaps or (64 if options.quick else 256))
        report.figures = _figures(found, scenes) | _gap_figures(along)
        report.tables = {"What changes along with the decision": along}
        report.notes += [f"- students of {name} were not taken: {why}" for name, why in bench.refused.items()]
    report.notes += [
        "- network rows are forward rows of the denoising network; DVCE takes as many backward, twice, beside them",
        "- realism: error of the denoising network at three levels of noise, over that of the originals; 1 is as plausible as they are",
        "- DSSIM: structural dissimilarity, 0 to 1",
        (
            "- gaps: correlation of an attribute's change with the decision's over flips, less that of attribute and label in scenes whose "
            "concepts are independent; intervals hold for all attributes of a classifier together (95 %, Bonferroni)"
        ),
    ]
    publish(report, options)


def _count(approach: Approach, options: argparse.Namespace) -> int:
    usual: int = approach.images[1 if options.quick else 0]
    if approach.method == "dime":
        return options.dime or usual
    return min(each for each in (usual, options.images, options.slow if approach.slow else None) if each)


def _served(workdir: Path) -> TritonServer:
    """All planted classifiers, each with its gradient beside it."""
    for planted in SUITE:
        write_model(workdir / "models", planted.name, onnx_path(planted.name), CLASSES)
        export_classifier(
            onnx_path(planted.name),
            workdir / "models",
            image=(3, 64, 64),
            buckets=(16,),
            cache=CACHE / "engines",
            name=planted.name + SUFFIX,
        )
    return TritonServer(workdir / "models", kit=ensure_kit(), log_file=workdir / "server.log")


def _l1(scenes: Scenes, found: Mapping[int, Outcome], rows: Sequence[int]) -> float:
    """Median over flips of the mean absolute change."""
    flips = [row for row in rows if row in found and found[row].flipped]
    return float(np.median([np.abs(found[row].image - scenes.images[row]).mean() for row in flips])) if flips else float("nan")


def _table(found: Mapping[Approach, Mapping[int, Outcome]], scenes: Scenes) -> list[dict[str, Cell]]:
    pipeline = load_pipeline(PIXELS, batch=32)
    canvas, dime = Canvas(pipeline), list(found[APPROACHES[0]])
    rows: list[dict[str, Cell]] = []
    for approach, outcomes in found.items():
        if not outcomes:
            rows.append({"approach": approach.name, "gradient": approach.rung, "images": 0})
            continue
        flips = [row for row, each in outcomes.items() if each.flipped]
        before, after = scenes.images[flips], np.stack([outcomes[row].image for row in flips]) if flips else scenes.images[:0]
        share = wilson(len(flips), len(outcomes))
        plausible = [denoising_error(pipeline.diffusion, each, canvas.untold) for each in (before, after)] if flips else []
        rows.append(
            {
                "approach": approach.name,
                "gradient": approach.rung,
                "images": len(outcomes),
                "flip rate": share.value,
                "low": share.low,
                "kept by JPEG": float(np.mean([outcomes[row].jpeg for row in flips])) if flips else None,
                "l1": _l1(scenes, outcomes, list(outcomes)),
                "l1, DiME's images": _l1(scenes, outcomes, dime),
                "DSSIM": float(np.median(dissimilarity(before, after))) if flips else None,
                "realism": float(plausible[1].mean() / plausible[0].mean()) if flips else None,
                "network rows": float(np.mean([each.network_rows for each in outcomes.values()])),
                "queries": float(np.mean([each.queries for each in outcomes.values()])),
                "gradient queries": float(np.mean([each.gradients for each in outcomes.values()]))
                if approach.rung == "endpoint"
                else None,
                "seconds a flip": sum(each.seconds for each in outcomes.values()) / max(1, len(flips)),
            }
        )
    return rows


def _figures(found: Mapping[Approach, Mapping[int, Outcome]], scenes: Scenes) -> dict[str, float]:
    dime, white, black = (
        next(each for each in APPROACHES if (each.method, each.rung, each.editor) == (method, rung, "pixels"))
        for method, rung in (("dime", "twin"), ("polyak", "twin"), ("ensemble", "none"))
    )
    spent = {each: float(np.mean([one.network_rows for one in found[each].values()])) for each in (dime, white, black)}
    shared = list(found[dime])
    return {
        "flip_rate_gradient": float(np.mean([one.flipped for one in found[white].values()])),
        "dime_rows_over_ours": spent[dime] / spent[white],
        "l1_over_dime_gradient": _l1(scenes, found[white], shared) / _l1(scenes, found[dime], shared),
        "flip_rate_scores": float(np.mean([one.flipped for one in found[black].values()])),
        "rows_scores": spent[black],
        "queries_scores": float(np.mean([one.queries for one in found[black].values()])),
        "l1_over_dime_scores": _l1(scenes, found[black], shared) / _l1(scenes, found[dime], shared),
        "images_gradient": float(len(found[white])),
        "images_scores": float(len(found[black])),
        "images_dime": float(len(found[dime])),
    }


def _gap_table(bench: Bench, n: int) -> list[dict[str, Cell]]:
    """Concepts that change along, of each classifier; attributes of what the classes are about are left out."""
    ours = next(each for each in APPROACHES if each.method == "polyak" and each.rung == "twin")
    rows: list[dict[str, Cell]] = []
    for name, planted in GAPS.items():
        scenes = Scenes.independent(n)
        found = bench.explained(ours, name, dict(enumerate(scenes.images)))
        for gap in _gaps(bench, name, scenes, found):
            if gap.concept in LEARNED:
                continue
            turned = bool(gap.opposite) and gap.r < 0  # of two levels the one that comes with the positive class
            low, high = sorted((sign := -1 if turned else 1) * limit for limit in (gap.gap.low, gap.gap.high))
            rows.append(
                {
                    "classifier": name,
                    "attribute": gap.opposite if turned else gap.attribute,
                    "planted": gap.concept == planted,
                    "flips": sum(each.flipped for each in found.values()),
                    "over flips": sign * gap.r,
                    "in the data": sign * gap.rho,
                    "gap": sign * gap.gap.value,
                    "low": low,
                    "high": high,
                    "changes along": low > 0,
                }
            )
    return rows


def _gap_figures(rows: Sequence[Mapping[str, Cell]]) -> dict[str, float]:
    planted = [row for row in rows if row["planted"]]
    found = {str(row["classifier"]) for row in planted if row["changes along"]}
    return {
        "shortcuts": float(sum(bool(concept) for concept in GAPS.values())),
        "shortcuts_found": float(len(found)),
        "idle_attributes": float(len(rows) - len(planted)),
        "idle_attributes_accused": float(sum(bool(row["changes along"]) for row in rows if not row["planted"])),
    }


def _gaps(bench: Bench, name: str, scenes: Scenes, found: Mapping[int, Outcome]) -> tuple[AttributeGap, ...]:
    target, detector, others = bench.target(name), shipped_detector(), Scenes.independent(_REFERENCE)
    said = target.predict(scenes.images).argmax(1)
    after = np.stack([found[row].image for row in range(len(scenes.images))])
    levels = [
        np.stack([read[concept.name].argmax(1) for concept in SCENES.concepts], 1)
        for read in (detector.read(scenes.images), detector.read(after), detector.read(others.images))
    ]
    planted = next(each for each in SUITE if each.name == name)
    labels = others.rows.labels(planted, SEED)
    items = [
        Counterfactual(
            image=str(row),
            original=CLASSES[said[row]],
            target=CLASSES[1 - said[row]],
            before_sha256="",
            after_sha256="",
            flipped=found[row].flipped,
            before=0.0,
            after=0.0,
            free=False,
            l1=0.0,
            changed=0.0,
            attempts=0,
            network_rows=0,
            queries=0,
        )
        for row in range(len(scenes.images))
    ]
    attributes = Attributes(
        concepts=SCENES.concepts,
        before=levels[0],
        after=levels[1],
        reference=levels[2],
        classes=tuple(CLASSES[each] for each in labels),
        positive=CLASSES[1],
    )
    return gaps(items, attributes, level=1 - 0.05 / len(attributes.columns))


if __name__ == "__main__":
    main()
