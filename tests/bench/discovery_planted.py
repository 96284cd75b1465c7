"""Which words does a planted classifier respond to, found with no data?  `python -m tests.bench.discovery_planted [--quick]`.

Every classifier is served by a real Triton and asked about pictures of words that the shipped generator draws; by its answers alone, and by
the gradient of its file (words that the gradient speaks for, and no others).  A word is found where saying it raises the share of pictures that
are taken for the class, on the same seeds.  Planted is what the classifier was trained on; all else, but for what it is about, is spurious.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from audit_plugin.bank.edit_store import EditStore
from audit_plugin.bank.prompted import PromptStudio
from audit_plugin.blends import Blends
from audit_plugin.concepts.phrasing import CaptionForms
from audit_plugin.config import DiscoverConfig
from audit_plugin.core.discovery_results import Discovery, Mode
from audit_plugin.core.tree import ConceptTree
from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES, SUITE, Planted
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import onnx_path
from audit_plugin.discovered import lines_of
from audit_plugin.discovering import Discovering
from audit_plugin.methods.diffexplainer.options import DiscoveryOptions, SubspaceSearch
from audit_plugin.methods.diffexplainer.units import UnitReader
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.soft_prompts import Aim, SoftPrompts, class_aim
from audit_plugin.store.store import Store
from audit_plugin.target.gradients import read_network
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from engines.pipeline import Pipeline, load_pipeline
from tests.bench.report import CACHE, Cell, Report, parser, publish
from tests.bench.scenes_bank import GENERATOR, Say

SEED = "bench discovery"
BLENDED = "scores + CMA-ES"
GRADIENT = ("background_alone", "ruler_alone", "lighting_alone", "snowman_alone", "colour_alone", "size_alone", "shape_background_100", "shape_ruler_100")  # fmt: skip
"""Those whose gradient is asked first."""
FIRST = 3
"""Words among which the planted cue must be."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    made = parser(__doc__)
    made.add_argument("--gradient", type=int, help="classifiers whose gradient is asked, too")
    made.add_argument("--subspace", type=int, default=0, help="strong classifiers for which blends of words are searched, too")
    options = made.parse_args(arguments)
    report = Report(
        name="discovery_planted",
        question="Which words does a planted classifier respond to, found with no data?",
        mode="quick" if options.quick else "full",
        seeds={"prompts and noise": SEED},
    )
    thorough = DiscoveryOptions(pairs=60, verify=60) if options.quick else DiscoveryOptions()
    names = [*GRADIENT, *(one.name for one in SUITE if one.name not in GRADIENT)]
    strong = names[: options.gradient if options.gradient is not None else 2 if options.quick else len(names)]
    blended = [one.name for one in SUITE if one.name in GRADIENT][: options.subspace]
    pipeline, folder = load_pipeline(GENERATOR, solver=4, batch=32), CACHE / "discovery_planted"
    with TemporaryDirectory() as workdir, _served(Path(workdir)) as server:
        scores = Store.open(f"sqlite:///{workdir}/scores.sqlite", migrate=True)
        for planted in SUITE:
            for mode in [Mode.SCORES, *([Mode.GRADIENT] if planted.name in strong else [])]:
                with TritonClassifier.connect(TargetOptions(model=planted.name, url=server.grpc_url)) as target:
                    found, beside = _discovery(
                        target, planted, mode, pipeline=pipeline, store=EditStore(folder), scores=scores, options=thorough
                    )
                report.rows.append(_row(planted, found, pipeline.evaluations_per_image, beside))
                Say()(len(report.rows), len(SUITE) + len(strong) + len(blended), f"{planted.name}, {mode.value}")
            if planted.name in blended:
                with TritonClassifier.connect(TargetOptions(model=planted.name, url=server.grpc_url)) as target:
                    found, beside = _discovery(
                        target, planted, Mode.SCORES, pipeline=pipeline, store=EditStore(folder), scores=scores, options=thorough, subspace=SubspaceSearch()
                    )  # fmt: skip
                report.rows.append(_row(planted, found, pipeline.evaluations_per_image, beside, blended=True))
                Say()(len(report.rows), len(SUITE) + len(strong) + len(blended), f"{planted.name}, {BLENDED}")
        scores.close()
    report.figures = _figures(report.rows)
    report.notes += [
        "- words: those that act, strongest first, with their effect on the share of pictures taken for the class (positive)",
        f"- {BLENDED}: best prompt is the best blend of words alone; queries and network rows are those beyond the row above it",
        f"- planted among the first {FIRST}: the share of planted concepts of which a word is",
        "- network rows: forward rows of the denoising network, as if no picture had been there; gradient rows are those among them that were differentiated",
        f"- {len(CaptionForms.learned(lines_of(GENERATOR / 'captions.txt', 'captions')).phrases)} words are in the bank, chance finds the planted one among the first three of them about once in six",
    ]
    publish(report, options)


def _served(workdir: Path) -> TritonServer:
    for planted in SUITE:
        write_model(workdir / "models", planted.name, onnx_path(planted.name), CLASSES)
    return TritonServer(workdir / "models", kit=ensure_kit(), log_file=workdir / "server.log")


def _discovery(
    target: TritonClassifier,
    planted: Planted,
    mode: Mode,
    *,
    pipeline: Pipeline,
    store: EditStore,
    scores: Store,
    options: DiscoveryOptions,
    subspace: SubspaceSearch | None = None,
) -> tuple[Discovery, int]:
    """What was found, and rows of the network that drew no stored picture."""
    asked = DiscoverConfig(
        classes=(CLASSES[1],),
        options=options,
        mode="gradient" if mode is Mode.GRADIENT else "scores",
        objects={CLASSES[1]: "triangle"},
        subspace=subspace,
    )
    discovering = discovering_of(target, asked, mode, pipeline=pipeline, store=store, scores=scores)
    if mode is Mode.GRADIENT:
        aim = class_aim(read_network(onnx_path(planted.name), target.contract), 1, asked.gradient.enough)
        discovering = by_gradient(discovering, pipeline, {("class", 1): aim})
    return discovering.run(), discovering.spent["rows"]


def discovering_of(
    target: TritonClassifier,
    asked: DiscoverConfig,
    mode: Mode,
    *,
    pipeline: Pipeline,
    store: EditStore,
    scores: Store,
    units: Sequence[UnitReader] = (),
) -> Discovering:
    """With the shipped generator and its captions, and no concept tree."""
    studio = PromptStudio(
        fingerprint=pipeline.fingerprint,
        draw=lambda: pipeline.generate,
        store=store,
        batch=pipeline.batch,
        progress=lambda *_: None,
    )
    return Discovering(
        audit=SEED,
        asked=asked,
        target=target,
        studio=studio,
        scores=scores.scores,
        phrasing=CaptionForms.learned(lines_of(GENERATOR / "captions.txt", "captions")),
        vocabulary=tuple,
        generator=pipeline.fingerprint,
        rows_per_picture=lambda: pipeline.evaluations_per_image,
        tree=ConceptTree(domain="scenes", nodes=()),
        units=units,
        mode=mode,
        spans=lambda answers: Blends(lend=lambda: nullcontext(pipeline), errors=nullcontext, studio=studio, answers=answers).span,
    )


def by_gradient(discovering: Discovering, pipeline: Pipeline, aims: Mapping[tuple[str, int], Aim]) -> Discovering:
    """The same with soft prompts of these subjects."""
    asked = discovering.asked
    soft = SoftPrompts(
        audit=SEED,
        lend=lambda: nullcontext(pipeline),
        errors=nullcontext,
        aims=aims,
        phrasing=discovering.phrasing,
        studio=discovering.studio,
        answers=discovering.answers,
        options=asked.gradient,
        verify=asked.options.verify,
        shown=asked.options.pictures,
        progress=lambda *_: None,
        spent=discovering.spent,
    )
    return replace(discovering, prepare=soft.hints)


def _row(planted: Planted, found: Discovery, rows_per_picture: int, beside: int, *, blended: bool = False) -> dict[str, Cell]:
    (subject,) = found.subjects
    acting = [word for word in subject.words if word.causes]
    concepts = [_concept(word.word) for word in acting]
    wanted = set(planted.expected)
    spared = wanted | {tie.concept for tie in planted.ties} | {"shape"}
    prompts = [one for one in subject.prompts if not blended or one.how == "CMA-ES"]
    best = prompts[0] if prompts else None
    return {
        "classifier": planted.name,
        "mode": BLENDED if blended else found.mode.value,
        "planted": ", ".join(sorted(wanted)),
        "words": ", ".join(f"{word.word} {word.effect.value:+.2f} ({word.part.value})" for word in acting[:5]) or "none",
        "found": len(wanted & set(concepts[:FIRST])) / len(wanted),
        "idle accused": sum(concept not in spared for concept in concepts),
        "tested": len(subject.words),
        "base": subject.base.value,
        "best prompt": float("nan") if best is None else best.activation.value,
        "queries": found.queries,
        "network rows": found.queries * rows_per_picture + beside,
        "gradient rows": found.gradient_rows,
        "seconds": found.seconds,
    }


def _concept(word: str) -> str:
    """Concept of the scenes whose level a word says."""
    return next(
        (
            concept.name
            for concept in SCENES.concepts
            for phrase in concept.phrases
            if phrase.strip() and (plain(word) == plain(phrase) or plain(word) in plain(phrase).split())
        ),
        word,
    )


def _figures(rows: Sequence[Mapping[str, Cell]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for mode in (Mode.SCORES, Mode.GRADIENT):
        mine = [row for row in rows if row["mode"] == mode.value]
        if mine:
            figures |= {
                f"found_{mode.value}": sum(float(str(row["found"])) for row in mine) / len(mine),
                f"idle_accused_{mode.value}": float(sum(int(str(row["idle accused"])) for row in mine)),
                f"words_tested_{mode.value}": float(sum(int(str(row["tested"])) for row in mine)),
                f"queries_{mode.value}": sum(float(str(row["queries"])) for row in mine) / len(mine),
                f"network_rows_{mode.value}": sum(float(str(row["network rows"])) for row in mine) / len(mine),
            }
    return figures


if __name__ == "__main__":
    main()
