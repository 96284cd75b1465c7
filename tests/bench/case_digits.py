"""Which exact changes of real digits break a published classifier, and does the audit stay silent about stroke thickness, which does not matter?

python -m tests.bench.case_digits [--data DIR] [--quick] [--pictures DIR] [--json FILE] [--markdown FILE]

Needs ``mnist`` and ``mnist-ddpm``.  Two audits of the classifier as it was published, one image at a time on a real Triton: a concept tree of exact
operators with counterfactuals by the published diffusion, and stroke thickness as a concept whose flips are looked up among real digits.
"""

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from scipy.ndimage import binary_erosion

from audit_plugin.concepts.operators import apply
from audit_plugin.core.diffex_results import NodeEffect
from audit_plugin.core.results import AuditResult
from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.demo.repository import write_model
from audit_plugin.sources.images import encode_png
from audit_plugin.statistics.intervals import wilson
from tests.bench.case_studies import Bar, audited, chart, keep, options_of, served, write_table
from tests.bench.report import Report, publish
from tests.fixtures.digits import LABELS, write_generator

NEEDS = ("mnist", "mnist-ddpm")
NODES: Mapping[str, Mapping[str, Any]] = {
    "inverted": {"op": "invert"},
    "grey_ground": {"op": "raised_black", "least": 100},
    "corner_patch": {"op": "corner_mark", "corner": "top_left", "side_px": 48},
    "weak_contrast": {"op": "contrast", "change": -0.7},
}
"""What may change in a picture; 48 px of 224 are 6 of 28."""
STROKES = ("thin", "medium", "thick")
KNOWN = 2000
"""Digits on which the truth is computed without any server."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options, data = options_of("case_digits", __doc__, NEEDS, arguments)
    report = Report(
        name="case_digits",
        question="Which exact changes break a published digit classifier, and is stroke thickness left alone?",
        mode="quick" if options.quick else "full",
        seeds={"audit": "digits"},
    )
    pixels, shown = mnist(data, KNOWN)
    count = 60 if options.quick else 700  # half is estimated on: a finding needs 32 images of each digit
    write_images(options.work, pixels, shown)
    write_model(options.work / "repository", "digits", data / "mnist" / "mnist_cntk_cnn.onnx", LABELS)
    truth = exact(data, pixels[: 200 if options.quick else KNOWN], shown)
    with served(options.work) as url:
        for name, document in {
            "tree": tree_configuration(options.work, data, count, explained=4 if options.quick else 8),
            "stroke": stroke_configuration(150 if options.quick else 600),
        }.items():
            _, (result,) = audited(document, options.work, url, name=name)
            (tell_tree if name == "tree" else tell_stroke)(report, result, truth)
            report.notes.append(f"{name}: {result.state.value}; {result.headline}")
            if name == "tree":
                keep(options.pictures, "digits-changes.svg", changes_chart(result, truth))
    report.tables["the truth, computed without a server"] = [{"change": name, **row} for name, row in truth.items()]
    publish(report, options)


def mnist(data: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images (n, 28, 28) uint8, white on black, and what they show."""
    images, labels = (
        gzip.decompress((data / "mnist" / f"t10k-{name}-ubyte.gz").read_bytes()) for name in ("images-idx3", "labels-idx1")
    )
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)[:count], np.frombuffer(labels, np.uint8, offset=8)[:count]


def thickness(pixels: np.ndarray) -> np.ndarray:
    """Ink of every image (n,) over the length of its outline: about half the width of the stroke, in pixels."""
    inked = pixels > 127
    outline = np.array([(one & ~binary_erosion(one)).sum() for one in inked])
    return np.asarray(inked.sum((1, 2)) / np.maximum(outline, 1))


def write_images(work: Path, pixels: np.ndarray, shown: np.ndarray) -> None:
    """The digits as files, with a table of what they show and how thick their strokes are, in thirds."""
    (work / "images").mkdir(exist_ok=True)
    measured = thickness(pixels)
    third = np.searchsorted(np.quantile(measured, [1 / 3, 2 / 3]), measured, side="right")
    rows = []
    for at, (picture, number) in enumerate(zip(pixels, shown, strict=True)):
        (work / "images" / f"{at}.png").write_bytes(encode_png(picture[..., None].repeat(3, 2), synthetic=False))
        rows.append({"file": f"{at}.png", "digit": LABELS[number], "stroke": STROKES[third[at]]})
    write_table(work / "table.csv", rows)


def exact(data: Path, pixels: np.ndarray, shown: np.ndarray) -> dict[str, dict[str, float]]:
    """Change -> accuracy, and share of decisions that it changes, of the classifier run here on the operators' own pixels."""
    session = onnxruntime.InferenceSession(str(data / "mnist" / "mnist_cntk_cnn.onnx"), providers=["CPUExecutionProvider"])

    def decided(images: np.ndarray) -> np.ndarray:
        return np.array([session.run(None, {"Input3": one[None, None].astype(np.float32)})[0].argmax() for one in images])

    right, before = shown[: len(pixels)], decided(pixels)
    found = {"unchanged": {"accuracy": float((before == right).mean()), "decisions changed": 0.0}}
    for name, params in NODES.items():
        node = Node(path=name, name=name, kind=NodeKind.NUISANCE, operator="deterministic", params=params)
        after = decided(np.stack([apply(node, one[..., None].repeat(3, 2), 0)[..., 0] for one in pixels]))
        found[name] = {"accuracy": float((after == right).mean()), "decisions changed": float((after != before).mean())}
    width = thickness(pixels)
    for name, chosen in (
        ("thinnest tenth", width <= np.quantile(width, 0.1)),
        ("thickest tenth", width >= np.quantile(width, 0.9)),
    ):
        found[name] = {"accuracy": float((before == right)[chosen].mean()), "decisions changed": 0.0}
    return found


def _common(name: str, rows: int) -> dict[str, Any]:
    return {
        "version": 1,
        "audit": f"digits-{name}",
        "source": {
            "images": "images",
            "table": "table.csv",
            "image_column": "file",
            "label_columns": ["digit"],
            "rows": rows,
            "balance": 1.0,
        },
        "models": [
            {"model": "digits", "label": "digit", "activation": "softmax", "preprocess": {"channels": "GREY", "scale": 1.0}}
        ],
    }


def tree_configuration(work: Path, data: Path, rows: int, *, explained: int) -> dict[str, Any]:
    """What a user without concepts would write: exact changes, and what flips decisions."""
    nodes = "".join(
        f"  - {{id: {name}, kind: nuisance, operator: deterministic, params: {{{', '.join(f'{k}: {v}' for k, v in params.items())}}}}}\n"
        for name, params in NODES.items()
    )
    (work / "changes.yaml").write_text(f"schema: concept-tree/1\ndomain: digits\nnodes:\n{nodes}")
    tree = {
        "tree": "changes.yaml",
        "default": False,
        "operator": "none",
        "options": {"images_per_class": rows, "sample_eliminated": 1.0, "combine": {"terms": 1, "size": 1}},
    }
    generator = work / "generator"
    explain = {
        "generator": str(generator if generator.is_dir() else write_generator(generator)),
        "method": "polyak",
        "images": explained,
        "paths": 0,
        "gradients": {"digits": {"file": str((data / "mnist" / "mnist_cntk_cnn.onnx").resolve())}},
    }
    return _common("tree", rows) | {"diffex": tree, "explain": explain}


def stroke_configuration(rows: int) -> dict[str, Any]:
    """Stroke thickness as a nuisance: a flip is a real digit of the same number with another stroke."""
    concepts = [
        {"name": "digit", "role": "core", "levels": LABELS},
        {"name": "stroke", "role": "nuisance", "levels": {stroke: f"{stroke} stroke" for stroke in STROKES}},
    ]
    return _common("stroke", rows) | {
        "concepts": concepts,
        "template": "{digit}, {stroke}",
        "generator": {"pictures": {"size": 28}},
        "detector": {"table": True},
        "analysis": {"metric": "accuracy"},
    }


def flips(result: AuditResult) -> dict[str, tuple[int, int]]:
    """Node -> decisions that it changes, and images, over all classes."""
    found: dict[str, tuple[int, int]] = {}
    for effects in result.diffex.classes if result.diffex else ():
        for node in effects.nodes:
            changed, images = found.get(node.node, (0, 0))
            found[node.node] = (changed + _changed(node), images + (node.images if node.flip_rate else 0))
    return found


def _changed(node: NodeEffect) -> int:
    return 0 if node.flip_rate is None else round(node.flip_rate.value * node.images)


def tell_tree(report: Report, result: AuditResult, truth: Mapping[str, Mapping[str, float]]) -> None:
    """Changes of decisions as the audit counted them, beside the truth; and what flips."""
    for name, (changed, images) in sorted(flips(result).items(), key=lambda item: -item[1][0]):
        interval = wilson(changed, images)
        effects = [node for one in result.diffex.classes for node in one.nodes if node.node == name] if result.diffex else []
        report.rows.append(
            {
                "change": name, "images": images, "decisions changed": changed / images, "low": interval.low, "high": interval.high,
                "exact": truth[name]["decisions changed"], "accuracy, exact": truth[name]["accuracy"],
                "classes with an effect": sum(node.state.value == "effect" for node in effects),
                "mean effect": float(np.mean([node.effect.value for node in effects if node.effect])),
            }
        )  # fmt: skip
        report.figures[f"{name}_decisions_changed"] = changed / images
    told = result.counterfactuals
    if told is not None:
        flipped = sum(item.flipped for item in told.items)
        report.figures["explained_flip_ratio"] = flipped / len(told.items)
        report.notes.append(f"what flips: {told.summary}")


def tell_stroke(report: Report, result: AuditResult, truth: Mapping[str, Mapping[str, float]]) -> None:
    """Whether stroke thickness is left alone."""
    report.tables["stroke thickness"] = [
        {
            "concept": concept.concept, "verdict": concept.verdict.value, "importance": concept.importance.value,
            "low": concept.importance.low, "high": concept.importance.high, "margin": concept.margin,
            "flip rate": concept.flip_rate.value, "excess": concept.flip_rate_excess.value, "excess low": concept.flip_rate_excess.low,
            "excess high": concept.flip_rate_excess.high, "findings": sum(one.concept == concept.concept for one in result.findings),
        }
        for concept in result.concepts
    ]  # fmt: skip
    report.tables["gates of the stroke audit"] = [
        {"gate": gate.name, "subject": gate.subject, "status": gate.status.value, "value": gate.value, "what": gate.title}
        for gate in result.gates
    ]
    stroke = next(concept for concept in result.concepts if concept.concept == "stroke")
    report.figures |= {
        "stroke_importance": stroke.importance.value,
        "accuracy_thinnest_tenth": truth["thinnest tenth"]["accuracy"],
        "accuracy_thickest_tenth": truth["thickest tenth"]["accuracy"],
    }


def changes_chart(result: AuditResult, truth: Mapping[str, Mapping[str, float]]) -> str:
    """Share of decisions that each change of the pictures changes."""
    bars = [
        Bar(
            label=name.replace("_", " "),
            value=changed / images,
            low=wilson(changed, images).low,
            high=wilson(changed, images).high,
            truth=truth[name]["decisions changed"],
            strong=changed / images > 0.1,
        )
        for name, (changed, images) in sorted(flips(result).items(), key=lambda item: -item[1][0])
    ]
    return chart("Decisions that an exact change of the picture changes", bars, axis="share of digits", most=1.0)


if __name__ == "__main__":
    main()
