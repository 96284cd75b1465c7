"""Does DiffEx find planted nodes on edited scenes, and at what cost?  `python -m tests.bench.diffex_planted [--quick] [--json FILE]`.

Scenes are edited by the shipped generator once, for all planted classifiers; every search reads the same edits.  The classifiers run in
this process: what is compared is which edits a search asks for.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from audit_plugin.bank.asks import Asking, concept_nodes
from audit_plugin.bank.drafts import Drafting, EditSource
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.judging import Judging
from audit_plugin.bank.pilot import run_pilot
from audit_plugin.bank.studio import Studio
from audit_plugin.concepts.default_tree import default_tree
from audit_plugin.core.diffex_results import ClassEffects, EffectState, NodeEffect
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.demo.planted import CLASSES, SUITE, Planted, predictor
from audit_plugin.demo.renderer import SCENES
from audit_plugin.demo.truth import audit_rows, onnx_path, read_truth
from audit_plugin.methods.diffex import DiffexOptions, PaperOptions, paper_search, run_diffex
from audit_plugin.methods.diffex.combine import CombineOptions
from audit_plugin.methods.diffex.racing import RaceOptions
from audit_plugin.perception.quality import QualityFilter
from audit_plugin.sources.images import to_float
from audit_plugin.sources.scenes import render
from audit_plugin.studios import PipelineEditor, concept_kinds
from engines.errors import UnsupportedPipelineError
from tests.bench.report import CACHE, Report, parser, publish
from tests.bench.scenes_bank import GENERATOR, Say, shipped_detector

STRONG = 0.05
"""Importance from which a concept must be found."""
RELEASED_ROWS = 150
"""Network rows of one edit in the released procedure: 50 of inversion and 2 x 50 of editing."""
OPERATORS = ("sde20", "ddpm_ef50", "turbo4")
MODES = ("racing", "parent_gated", "random_order")


@dataclass(frozen=True, eq=False)
class Answered:
    """Edits of a studio with one classifier's answers; what was asked for is counted."""

    rows_of: Mapping[EditCell, EditRow]
    scores: Mapping[str, tuple[float, ...]]
    asked: set[EditCell]

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        """Implements :class:`audit_plugin.core.edits.EditArms`."""
        self.asked.update(cells)
        found = [self.rows_of[cell] for cell in cells]
        return [
            replace(row, before=self.scores[row.before_sha256], after=self.scores[row.after_sha256]) if row.after_sha256 else row
            for row in found
        ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__).parse_args(arguments)
    images, suite = (32, SUITE) if options.quick else (128, SUITE)
    report = Report(
        name="diffex_planted",
        question="Does DiffEx find planted nodes on edited scenes, at what cost, against paper mode, a beam and random order?",
        seeds={"rows": "bench diffex"},
    )
    report.mode = "quick" if options.quick else "full"
    studio, editor = scenes_studio(CACHE / "diffex_planted", images)
    cells = every_cell(studio)
    table = dict(zip(cells, studio.rows(cells), strict=True))
    generated = [row for row in table.values() if row.after_sha256 and not row.operator.startswith("deterministic")]
    judge(report, studio, table, suite)
    report.figures |= cost(editor, studio)
    report.figures["cost_ratio_paper_over_ours"] = RELEASED_ROWS / report.figures["rows_per_edit"]
    report.figures["valid_edit_rate"] = float(np.mean([row.valid for row in generated if not row.cell.placebo]))
    report.tables["edits by node"] = by_node(studio, table)
    report.figures["null_error_max"] = max(null_errors(studio, table))
    report.tables["edits by operator"] = [by_operator(operator) for operator in OPERATORS]
    report.notes += [
        "- recall_at_5: share of the planted concepts that have a node among the first five, mean over classifiers.",
        "- recall_at_5_importance: the same over all concepts with a true importance of 0.05 or more, those beside a shortcut included.",
        "- false nodes: drawn nodes of idle concepts with an effect and a spuriousness score above 0.25; all of them are estimated, dropped or not.",
        (
            "- All searches ask for at most as many edits as racing did; paper mode ranks for one image at a time, mean over images. Its "
            "items are the concepts' first levels, its leaves all levels."
        ),
        (
            "- edits by operator: all nodes of the concepts on eight images, at strengths that the operator's own pilot found on eight others; "
            "the error is of null edits, coding included; rows are of the network, inversions included. turbo4 is for distilled models."
        ),
        "- rows_per_edit: network rows of 48 edits of 8 new images, inversions and null edits among them; the released procedure takes 150.",
    ]
    publish(report, options)


def by_operator(operator: str) -> dict[str, Any]:
    """How well one rule of editing does what it is asked, and what it costs."""
    try:
        studio, editor = scenes_studio(CACHE / "diffex_planted" / operator, 16, operator)
    except UnsupportedPipelineError as error:
        return {"operator": operator, "nodes editable": "none", "why": str(error).rpartition(": ")[2]}
    nodes = [node for node in studio.tree.editable if node.operator != "deterministic"]
    cells = [EditCell(image=image, nodes=(node.path,)) for image in sorted(studio.sources)[8:] for node in nodes]
    before, started = editor.rows_spent(), time.monotonic()
    rows = studio.rows(cells)
    spent, seconds = editor.rows_spent() - before, time.monotonic() - started
    made = [row for row in rows if row.after_sha256]
    errors = null_errors(studio, dict(zip(cells, rows, strict=True)))
    tested = len({row.cell.nodes for row in made})
    return {
        "operator": operator,
        "nodes editable": f"{tested} of {len(concept_nodes(SCENES))}",
        "edits": len(made),
        "valid": float(np.mean([row.valid for row in made])) if made else 0.0,
        "class kept": float(np.mean([row.class_kept for row in made])) if made else 0.0,
        "null error, mean": float(np.mean(errors)) if errors else float("nan"),
        "rows per edit": spent / len(made) if spent and made else float("nan"),
        "seconds per edit": seconds / len(made) if spent and made else float("nan"),
        "why": "",
    }


def scenes_studio(folder: Path, images: int, operator: str = "sde20") -> tuple[Studio, PipelineEditor]:
    """Rendered scenes, the concepts' tree beside the exact operators, the shipped generator as editor."""
    editor = shipped_editor(operator)
    rows = audit_rows(images, "bench diffex")
    sources = {
        name: EditSource(
            image=name,
            sha256=f"scene {seed} {values}",
            load=lambda seed=seed, values=values: render(seed, values),
            values=tuple(values),
        )  # type: ignore[misc]
        for name, seed, values in zip(rows.names, rows.seeds, rows.values.tolist(), strict=True)
    }
    exact = [node for node in default_tree("scenes").nodes if node.operator == "deterministic" and not node.path.endswith("_grey")]
    tree = ConceptTree(domain="scenes", nodes=(*concept_nodes(SCENES), *exact))
    asking = Asking(SCENES)
    studio = Studio(
        drafting=Drafting(audit="bench diffex", tree=tree, sources=sources, editor=editor, size=64, asking=asking, judged=True),
        judging=Judging(asking=asking, kinds=concept_kinds(SCENES)),
        store=edit_store(folder),
        detector=shipped_detector(),
        quality=QualityFilter(None).reasons,
        progress=Say(),
    )
    pilot = run_pilot(studio, list(sources)[:8], progress=Say())
    return studio.settled(pilot.applied(tree), pilot.strengths), editor


def shipped_editor(operator: str) -> PipelineEditor:
    """The generator on all cores."""
    import torch

    from engines.pipeline import load_pipeline
    from engines.pipelines.replicas import replicas, shared_out

    workers, threads = shared_out(torch.get_num_threads())
    idle: SimpleQueue[Any] = SimpleQueue()
    for pipeline in replicas(load_pipeline(GENERATOR, threads=threads), workers):
        idle.put(pipeline)

    @contextmanager
    def lend() -> Any:
        pipeline = idle.get()
        try:
            yield pipeline
        finally:
            idle.put(pipeline)

    return PipelineEditor(lend, workers, operator, 0.15, nullcontext)


def every_cell(studio: Studio) -> list[EditCell]:
    """All nodes and one placebo on all images, and four seeds on those that paper mode looks at."""
    nodes = [node.path for node in studio.tree.editable]
    images = sorted(studio.sources)
    cells = [EditCell(image=image, nodes=(path,)) for image in images for path in nodes]
    cells += [EditCell(image=image, nodes=("photo",), placebo=True) for image in images]
    generative = [node.path for node in studio.tree.editable if node.operator != "deterministic"]
    cells += [EditCell(image=image, nodes=(path,), seed=seed) for image in images[:4] for path in generative for seed in (1, 2, 3)]
    return cells


def cost(editor: PipelineEditor, studio: Studio) -> dict[str, float]:
    """Network rows and seconds of an edit, inversions among them: six nodes on eight images that were not edited before."""
    from audit_plugin.core.editing import EditAsk, Original

    rows, nodes = (
        audit_rows(8, "bench diffex cost"),
        [node for node in studio.tree.editable if node.operator != "deterministic"][:6],
    )
    images = to_float([render(seed, values) for seed, values in zip(rows.seeds, rows.values.tolist(), strict=True)])
    sources = [
        EditSource(image=name, sha256=name, load=lambda: images[0], values=tuple(values))  # type: ignore[arg-type,return-value]
        for name, values in zip(rows.names, rows.values.tolist(), strict=True)
    ]
    asking = studio.drafting.asking
    originals = [
        Original(image=source.image, sha256=source.sha256, seed=at, caption=asking.caption(source))
        for at, source in enumerate(sources)
    ]
    before, started = editor.rows_spent(), time.monotonic()
    editor.null(originals, images)
    for node in nodes:
        asks: list[list[EditAsk]] = [[replace(asking.ask(node, 1, source), scale=1.0, threshold=0.0)] for source in sources]
        editor.edit(originals, images, asks)
    edits = len(nodes) * len(sources)
    return {"rows_per_edit": (editor.rows_spent() - before) / edits, "seconds_per_edit": (time.monotonic() - started) / edits}


def judge(report: Report, studio: Studio, table: Mapping[EditCell, EditRow], suite: Sequence[Planted]) -> None:
    """Every classifier by every search; rows and figures of the report."""
    shas = sorted({sha for row in table.values() if row.after_sha256 for sha in (row.before_sha256, row.after_sha256)})
    pictures = to_float([studio.store.pictures.pixels(sha) for sha in shas])
    recalls: dict[str, list[float]] = {mode: [] for mode in (*MODES, "paper", "importance")}
    false, idle, edits = 0, 0, 0
    drawn = {node.path for node in studio.tree.editable if node.operator != "deterministic"}
    for planted in suite:
        answers = predictor(onnx_path(planted.name))(pictures)
        scores = {sha: tuple(map(float, row)) for sha, row in zip(shas, answers, strict=True)}
        wanted = set(planted.expected)
        matters = {name for name, value in read_truth(planted.name).importance.items() if value >= STRONG}
        budget = 0
        for mode in MODES:
            effects, budget = explained(studio, table, scores, mode, budget)
            found = [node.node for node in effects.nodes[:5]]
            recalls[mode].append(recall(found, wanted))
            if mode == "racing":
                recalls["importance"].append(recall(found, matters))
                every, _ = explained(studio, table, scores, mode, budget, everything=True)
                unused = [node for node in every.nodes if node.node in drawn and _concept(node.node) in planted.idle]
                wrong = [node for node in unused if alarmed(node)]
                false += len(wrong)
                idle += len(unused)
                edits += budget
                report.rows.append(
                    {
                        "classifier": planted.name,
                        "planted": ", ".join(sorted(wanted)),
                        "matters": ", ".join(sorted(matters)),
                        "first five": ", ".join(found),
                        "recall": recalls[mode][-1],
                        "edits": budget,
                        "false": ", ".join(node.node for node in wrong),
                    }
                )
        recalls["paper"].append(by_paper(studio, table, scores, wanted))
    report.figures |= {
        f"recall_at_5{'' if mode == 'racing' else '_' + mode}": float(np.mean(found)) for mode, found in recalls.items()
    }
    report.figures |= {"false_nodes": float(false), "idle_nodes": float(idle), "edits_per_classifier": edits / len(suite)}


def explained(
    studio: Studio,
    table: Mapping[EditCell, EditRow],
    scores: Mapping[str, tuple[float, ...]],
    mode: str,
    budget: int,
    *,
    everything: bool = False,
) -> tuple[ClassEffects, int]:
    """Effects on the positive class, and the edits that the search asked for, by at most ``budget`` where there is one.

    ``everything``: also of the nodes that the search dropped, idle ones above all.
    """
    arms = Answered(table, scores, set())
    images = len(studio.sources)
    options = DiffexOptions(
        images_per_class=images,
        all_images=True,
        placebos=("photo",),
        seed_pilot=0,
        dose_nodes=0,
        hit_nodes=0,
        agreement_images=0,
        search=mode,  # type: ignore[arg-type]
        race=RaceOptions(keep=10),
        combine=CombineOptions(size=1),
        sample_eliminated=1.0 if everything else 0.05,
    )
    if mode != "racing":  # as many images as the budget pays for, for every node
        nodes = max(1, len(studio.tree.editable))
        images = max(4, 2 * (budget // nodes))
    told = run_diffex(
        arms,
        studio.tree,
        sorted(studio.sources)[:images],
        [CLASSES[1]],
        labels=CLASSES,
        classes_of=dict.fromkeys(studio.sources, CLASSES[1]),
        options=options,
    )
    (effects,) = told.classes
    return effects, effects.search.edits


def recall(found: Sequence[str], wanted: set[str]) -> float:
    """Share of the wanted concepts that have a node among those found."""
    return len({_concept(path) for path in found} & wanted) / len(wanted) if wanted else 1.0


def alarmed(node: NodeEffect) -> bool:
    """Whether the default policy would call it spurious."""
    return node.state is EffectState.EFFECT and (node.spuriousness or 0.0) > 0.25


def by_paper(studio: Studio, table: Mapping[EditCell, EditRow], scores: Mapping[str, tuple[float, ...]], wanted: set[str]) -> float:
    """Recall of the released procedure, mean over the images that it was run on."""
    leaves = [node for node in studio.tree.editable if node.operator != "deterministic"]
    concepts = list(dict.fromkeys(_concept(node.path) for node in leaves))
    first = {concept: next(node for node in leaves if _concept(node.path) == concept) for concept in concepts}
    nodes = [Node(path="scene", name="scene", editable=False)]
    nodes += [Node(path=f"scene/{concept}", name=first[concept].path, prompt_add=first[concept].path) for concept in concepts]
    nodes += [Node(path=f"scene/{node.path}", name=node.path, prompt_add=node.path) for node in leaves]
    tree = ConceptTree(domain="scenes", nodes=tuple(nodes))
    found = []
    for image in sorted(studio.sources)[:4]:

        def edit(image: str, keyword: str, seed: int) -> str:
            row = table[EditCell(image=image, nodes=(keyword,), seed=seed)]
            return row.after_sha256 or row.before_sha256

        def score(picture: str) -> tuple[float, ...]:
            if picture in scores:
                return scores[picture]
            return scores[next(row.before_sha256 for cell, row in table.items() if cell.image == picture and row.after_sha256)]

        told = paper_search(image, tree, edit=edit, score=score, labels=CLASSES, target=1, options=PaperOptions())
        found.append(recall([entry.keyword for entry in told.top_influential[:5]], wanted))
    return float(np.mean(found))


def by_node(studio: Studio, table: Mapping[EditCell, EditRow]) -> list[dict[str, Any]]:
    """Valid edits of every generative node."""
    lines = []
    for node in studio.tree.editable:
        rows = [row for cell, row in table.items() if cell.nodes == (node.path,) and row.after_sha256]
        if node.operator != "deterministic" and rows:
            kept = float(np.mean([row.class_kept for row in rows]))
            distance = float(np.median([row.distance for row in rows if row.distance is not None]))
            valid = float(np.mean([row.valid for row in rows]))
            lines.append({"node": node.path, "edits": len(rows), "valid": valid, "class kept": kept, "median distance": distance})
    return lines


def null_errors(studio: Studio, table: Mapping[EditCell, EditRow]) -> list[float]:
    """Root mean square differences, in [0, 1], between each image and its null edit: coding included."""
    nulls = {row.cell.image: row.before_sha256 for row in table.values() if not row.operator.startswith("deterministic")}
    return [
        float(np.sqrt(((to_float([studio.sources[image].load()]) - to_float([studio.store.pictures.pixels(sha)])) ** 2).mean()))
        for image, sha in nulls.items()
        if sha
    ]


def _concept(path: str) -> str:
    return path.partition("/")[0]


if __name__ == "__main__":
    main()
