"""Does texture or shape decide for two ImageNet classifiers, and does the audit say so?  No generator: the published pictures are the probes.

python -m tests.bench.case_cue_conflict [--data DIR] [--quick] [--pictures DIR] [--json FILE] [--markdown FILE]

Needs ``cue-conflict``, ``squeezenet-imagenet`` and ``mobilenet-v1-025-imagenet``.  Each picture has the shape of one class and the texture of
another; a flip of a concept is another picture with the other texture (or shape) and the same shape (or texture).  What another picture changes
by itself is measured by the second one of the same shape and texture, and taken off.  Sixteen entry-level classes are merged from the models'
1000 or 1001 by the client.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audit_plugin.core.results import AuditResult
from audit_plugin.demo.repository import write_model
from audit_plugin.statistics.intervals import wilson
from tests.bench.case_studies import Bar, audited, chart, keep, options_of, read_table, real_answers, served, write_table
from tests.bench.report import Cell, Report, publish

NEEDS = ("cue-conflict", "squeezenet-imagenet", "mobilenet-v1-025-imagenet")
PUBLISHED = {"squeezenet": 0.297, "mobilenet": 0.443}
"""Shape bias that the data's own description states for these pictures."""
RULE = {
    "name": "texture-decides",
    "metric": "flip_rate_excess",
    "threshold": 0.5,
    "roles": ["nuisance"],
    "owner": "case study",
    "reason": "a classifier of things should keep most of its decisions when only the texture changes",
    "date": "2026-11-29",
}
"""Texture is as common with every shape, so that it costs no accuracy against the shapes: decisions are what a rule must be about."""
FIGURES = {
    "flip_rate": "decisions that the flip changes",
    "flip_rate_excess": "the same, less what another picture of the same shape and texture changes",
    "score_shift": "mean absolute change of the true class's score",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options, data = options_of("case_cue_conflict", __doc__, NEEDS, arguments)
    rows = conflicts(data)
    if options.quick:
        rows = [row for row in rows if row["shape"] < "bp" and row["texture"] < "bp"]  # five classes of each
    write_models(data, options.work / "repository")
    write_table(options.work / "table.csv", rows)
    report = Report(
        name="case_cue_conflict",
        question="Does texture or shape decide for two ImageNet classifiers?",
        mode="quick" if options.quick else "full",
        seeds={"audit": "cue-conflict"},
    )
    with served(options.work) as url:
        loaded, results = audited(configuration(data, rows), options.work, url)
        for name in targets(data):
            tell_bias(report, name, rows, *real_answers(loaded, name))
    for result in results:
        tell(report, result)
    keep(options.pictures, "cue-conflict-flips.svg", flips_chart(results))
    keep(options.pictures, "cue-conflict-importance.svg", importance_chart(results))
    publish(report, options)


def conflicts(data: Path) -> list[dict[str, str]]:
    """The lines of the pictures whose texture contradicts their shape."""
    return [row for row in read_table(data / "cue-conflict" / "labels.csv") if row["kind"] == "cue_conflict"]


def write_models(data: Path, repository: Path) -> None:
    """Both classifiers as they were published, with numbers for labels, since ImageNet names two of its classes alike."""
    for name, file, classes in (
        ("squeezenet", "squeezenet-imagenet/squeezenet_v1.0.onnx", 1000),
        ("mobilenet", "mobilenet-v1-025-imagenet/mobilenet_v1_0.25_128.onnx", 1001),
    ):
        write_model(repository, name, data / file, [str(number) for number in range(classes)])


def merged(data: Path, *, first: int = 0) -> dict[str, list[int]]:
    """Entry-level class -> indices of the model's classes; ``first`` is the index of the first ImageNet class."""
    known = json.loads((data / "squeezenet-imagenet" / "imagenet16_indices.json").read_text())
    return {name: [first + index for index in known[name]] for name in sorted(known)}


def targets(data: Path) -> Mapping[str, dict[str, Any]]:
    """Model -> how a client asks it: other layouts, types, sizes, and another first class."""
    return {
        "squeezenet": {
            "output": "probabilities",
            "preprocess": {"size": [227, 227]},  # stretched, as the stated bias was measured
            "classes": merged(data),
            "merge": "mean",  # as published: the class with the highest mean of its own classes
        },
        "mobilenet": {
            "output": "probabilities",
            "preprocess": {"layout": "NHWC", "dtype": "UINT8"},
            "classes": merged(data, first=1),
            "merge": "mean",
        },
    }


def configuration(data: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What a user with such pictures would write.  Each model is asked twice: against the shapes, and against the textures."""
    concepts = [
        {"name": name, "role": role, "levels": {cell: f"{cell} {name}" for cell in sorted({row[name] for row in rows})}}
        for name, role in (("shape", "core"), ("texture", "nuisance"))
    ]
    return {
        "version": 1,
        "audit": "cue-conflict",
        "source": {
            "images": str((data / "cue-conflict" / "images.zip").resolve()),
            "table": "table.csv",
            "image_column": "file",
            "label_columns": ["shape", "texture"],
        },
        "concepts": concepts,
        "template": "{shape}, {texture}",
        "generator": {"pictures": {"size": 224}},
        "detector": {"table": True},
        "analysis": {"metric": "accuracy", "resamples": 300, "adjusted_resamples": 20},
        "policy": {"name": "texture", "thresholds": [RULE]},
        "models": [
            {"model": name, "label": label, **target} for name, target in targets(data).items() for label in ("shape", "texture")
        ],
    }


def tell_bias(
    report: Report, name: str, rows: Sequence[Mapping[str, str]], classes: Sequence[str], scores: Mapping[str, np.ndarray]
) -> None:
    """Shape bias from the decisions of the served model: shape decisions among those for the shape's or the texture's class."""
    decided = [classes[int(scores[row["file"]].argmax())] for row in rows]
    shape = sum(says == row["shape"] for says, row in zip(decided, rows, strict=True))
    texture = sum(says == row["texture"] for says, row in zip(decided, rows, strict=True))
    interval = wilson(shape, shape + texture)
    report.figures[f"shape_bias_{name}"] = shape / (shape + texture)
    report.tables.setdefault("shape bias of the served models", []).append(
        {
            "model": name, "pictures": len(rows), "shape": shape, "texture": texture, "neither": len(rows) - shape - texture,
            "shape bias": shape / (shape + texture), "low": interval.low, "high": interval.high, "stated": PUBLISHED[name],
        }
    )  # fmt: skip


def tell(report: Report, result: AuditResult) -> None:
    """What the audit said of both concepts."""
    for concept in result.concepts:
        row: dict[str, Cell] = {
            "model": result.model, "label": result.label, "concept": concept.concept, "verdict": concept.verdict.value,
            "importance": concept.importance.value, "low": concept.importance.low, "high": concept.importance.high,
        }  # fmt: skip
        for figure in FIGURES:
            estimate = getattr(concept, figure)
            row |= {figure: estimate.value, f"{figure} low": estimate.low, f"{figure} high": estimate.high}
        report.rows.append(row)
        report.figures[f"{result.model}_{result.label}_{concept.concept}_importance"] = concept.importance.value
        report.figures[f"{result.model}_{result.label}_{concept.concept}_flip_rate"] = concept.flip_rate.value
        report.figures[f"{result.model}_{result.label}_{concept.concept}_excess"] = concept.flip_rate_excess.value
    if alone := result.placebo.get("flip_rate"):
        report.figures[f"{result.model}_{result.label}_another_picture_flip_rate"] = alone.value
        report.notes.append(
            f"{result.model}, label {result.label}: another picture of the same shape and texture changes {alone.value:.3f} of decisions "
            f"[{alone.low:.3f}, {alone.high:.3f}]"
        )
    report.notes.append(f"{result.model}, label {result.label}: {result.state.value}; {result.headline}")
    report.notes += [f"  {finding.severity}: {finding.summary}" for finding in result.findings]
    report.tables[f"gates of {result.model}, label {result.label}"] = [
        {"gate": gate.name, "subject": gate.subject, "status": gate.status.value, "value": gate.value, "what": gate.title}
        for gate in result.gates
    ]


def flips_chart(results: Sequence[AuditResult]) -> str:
    """Share of decisions that a flip of texture, or of shape, changes beyond what another picture of the same two changes."""
    bars = [
        Bar(
            label=f"{result.model}: {concept.concept} changed",
            value=concept.flip_rate_excess.value,
            low=concept.flip_rate_excess.low,
            high=concept.flip_rate_excess.high,
            strong=concept.concept == "texture",
        )
        for result in results
        if result.label == "shape"
        for concept in sorted(result.concepts, key=lambda one: one.concept, reverse=True)
    ]
    return chart(
        "Decisions changed by texture or shape, beyond another picture of both",
        bars,
        axis="share of flips, less that of other pictures",
        most=1.0,
    )


def importance_chart(results: Sequence[AuditResult]) -> str:
    """Fall of accuracy against a label when that very concept is permuted."""
    bars = [
        Bar(
            label=f"{result.model}: {concept.concept}",
            value=concept.importance.value,
            low=concept.importance.low,
            high=concept.importance.high,
            strong=concept.concept == "texture",
        )
        for result in results
        for concept in result.concepts
        if concept.concept == result.label
    ]
    return chart("Accuracy that is lost when the concept itself is permuted", bars, axis="importance for its own label")


if __name__ == "__main__":
    main()
