"""Does the audit find skin tone in a classifier that was taught to use it, and tell how much, where the exact answer is known?

python -m tests.bench.case_people [--data DIR] [--quick] [--pictures DIR] [--json FILE] [--markdown FILE]

Needs ``noto-emoji-people`` and ``squeezenet-v1.1-features``.  The drawings exist for every role, gender and skin tone, so that what the model would
say of the same drawing in another tone is known, not estimated.  One classifier of gender learns from light men and dark women of some roles, one
from all tones of the same roles; both are audited on the other roles.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from audit_plugin.core.results import AuditResult, FairnessFigure
from audit_plugin.demo.repository import write_model
from audit_plugin.sources.images import read_images
from tests.bench.case_people_models import features_of, fitted, write_classifier
from tests.bench.case_studies import Bar, audited, chart, keep, options_of, read_table, real_answers, served, write_table
from tests.bench.report import Report, publish

NEEDS = ("noto-emoji-people", "squeezenet-v1.1-features")
GENDERS = ("man", "woman")
TONES = ("light", "medium-light", "medium", "medium-dark", "dark")
LIGHT, DARK = TONES[:2], TONES[3:]
USUAL = {"man": LIGHT, "woman": DARK}
"""What the planted classifier sees of each gender, and what a customer would deliver."""
TAUGHT = ("artist", "bald", "cook", "detective", "farmer", "judge", "mage", "pilot", "scientist", "teacher")
"""Roles that the classifiers learn from; all others are audited."""
KINDS = ("planted", "balanced")
Answers = Mapping[tuple[str, str, str], int]
"""(role, gender, tone) -> 1 where the model says woman."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options, data = options_of("case_people", __doc__, NEEDS, arguments)
    rows = people(data, quick=options.quick)
    write_table(options.work / "table.csv", rows)
    report = Report(
        name="case_people",
        question="Is skin tone found where it was taught, and how near is the audit to the exact answer?",
        mode="quick" if options.quick else "full",
        seeds={"audit": "people"},
    )
    for kind, accuracy in write_classifiers(data, options.work, rows).items():
        report.figures[f"{kind}_accuracy_on_taught_rows"] = accuracy
    with served(options.work) as url:
        loaded, complete = audited(configuration(data), options.work, url, name="complete")
        exact = {name: decisions(rows, *real_answers(loaded, name)) for name in KINDS}
        _, delivered = audited(configuration(data, delivered=True), options.work, url, name="delivered")
    for result in complete:
        tell(report, result, exact[result.model])
    for result in delivered:
        tell_delivered(report, result, exact[result.model], rows)
    keep(options.pictures, "people-parity.svg", parity_chart(complete, exact))
    keep(options.pictures, "people-accuracy.svg", accuracy_chart(exact))
    keep(options.pictures, "people-importance.svg", importance_chart(delivered))
    publish(report, options)


def people(data: Path, *, quick: bool = False) -> list[dict[str, str]]:
    """Men and women of five tones, with what each row is for; a quick run audits six roles of sixteen."""
    found = [
        row
        | {
            "split": "taught" if row["role"] in TAUGHT else "audited",
            "delivered": str(int(row["skin_tone"] in USUAL[row["gender"]])),
        }
        for row in read_table(data / "noto-emoji-people" / "labels.csv")
        if row["gender"] in GENDERS and row["skin_tone"] in TONES
    ]
    some = sorted({row["role"] for row in found if row["split"] == "audited"})[:6]
    return [row for row in found if not quick or row["split"] == "taught" or row["role"] in some]


def taught(rows: Sequence[Mapping[str, str]], kind: str) -> list[Mapping[str, str]]:
    """What a classifier learns from: all drawings of the taught roles, or the light men and dark women among them."""
    learnt = [row for row in rows if row["split"] == "taught"]
    return [row for row in learnt if kind == "balanced" or row["delivered"] == "1"]


def write_classifiers(data: Path, work: Path, rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Both classifiers into the repository; the share of their own rows that each gets right."""
    learnt = [row for row in rows if row["split"] == "taught"]
    archive = data / "noto-emoji-people" / "images.zip"
    images = read_images([f"zip://{row['file']}::{archive}" for row in learnt], 128)
    features = dict(zip([row["file"] for row in learnt], features_of(data, images), strict=True))
    right = {}
    for kind in KINDS:
        chosen = taught(rows, kind)
        x, y = np.stack([features[row["file"]] for row in chosen]), np.array([row["gender"] == "woman" for row in chosen])
        weights, bias = fitted(x, y)
        right[kind] = float(((x @ weights + bias > 0) == y).mean())
        write_model(work / "repository", kind, write_classifier(data, work / "models" / f"{kind}.onnx", weights, bias), GENDERS)
    return right


def configuration(data: Path, *, delivered: bool = False) -> dict[str, Any]:
    """What a user with such drawings would write: skin tone is protected, gender is the task.

    ``delivered``: the audited rows are light men and dark women only, and pictures of other combinations are looked up all the same.
    """
    tones = (*LIGHT, *DARK) if delivered else TONES
    where: dict[str, Any] = {"split": "audited", "skin_tone": list(tones)} | ({"delivered": "1"} if delivered else {})
    return {
        "version": 1,
        "audit": "people-delivered" if delivered else "people",
        "source": {
            "images": str((data / "noto-emoji-people" / "images.zip").resolve()),
            "table": "table.csv",
            "image_column": "file",
            "label_columns": ["gender"],
            "unit_column": "role",
            "where": where,
        },
        "concepts": [
            {"name": "skin_tone", "role": "protected", "levels": {tone: f"{tone} skin" for tone in tones}},
            {"name": "gender", "role": "core", "levels": list(GENDERS)},
        ],
        "template": "{gender}, {skin_tone}",
        "generator": {"pictures": {"size": 128, "same_unit": True, "where": {"delivered": ["0", "1"]}}},
        "detector": {"table": True},
        "analysis": {"metric": "accuracy"},
        "models": [
            {"model": kind, "label": "gender", "positive": "woman", "preprocess": {"size": [128, 128]}, "output": "probabilities"}
            for kind in KINDS
        ],
    }


def decisions(rows: Sequence[Mapping[str, str]], classes: Sequence[str], scores: Mapping[str, np.ndarray]) -> Answers:
    """What the model says of every audited drawing."""
    woman = classes.index("woman")
    return {
        (row["role"], row["gender"], row["skin_tone"]): int(scores[row["file"]][woman] >= 0.5)
        for row in rows
        if row["file"] in scores
    }


def exact_flip_rate(answers: Answers, concept: str) -> float:
    """Share of all pairs of drawings that differ in the concept alone of which the model says something else."""
    pairs = [(a, b) for a, b in combinations(answers, 2) if sum(x != y for x, y in zip(a, b, strict=True)) == 1]
    at = {"gender": 1, "skin_tone": 2}[concept]
    differ = [answers[a] != answers[b] for a, b in pairs if a[at] != b[at]]
    return float(np.mean(differ))


def exact_gap(answers: Answers, tones: tuple[str, str]) -> float:
    """Share of women among the answers for the first tone, less that for the second."""
    shares = [float(np.mean([said for (_, _, tone), said in answers.items() if tone == which])) for which in tones]
    return shares[0] - shares[1]


def accuracy(answers: Answers, gender: str, tones: Sequence[str]) -> float:
    """Of drawings of this gender in these tones."""
    return float(
        np.mean([said == (gender == "woman") for (_, of, tone), said in answers.items() if of == gender and tone in tones])
    )


def tell(report: Report, result: AuditResult, answers: Answers) -> None:
    """What the audit said, beside what is so."""
    for concept in result.concepts:
        report.rows.append(
            {
                "model": result.model, "concept": concept.concept, "verdict": concept.verdict.value,
                "importance": concept.importance.value, "low": concept.importance.low, "high": concept.importance.high,
                "flip rate": concept.flip_rate.value, "flips low": concept.flip_rate.low, "flips high": concept.flip_rate.high,
                "exact flip rate": exact_flip_rate(answers, concept.concept),
            }
        )  # fmt: skip
        report.figures[f"{result.model}_{concept.concept}_flip_rate"] = concept.flip_rate.value
    report.tables[f"counterfactual parity of {result.model}"] = [
        {
            "tones": " - ".join(figure.levels), "gap": figure.estimate.value, "low": figure.estimate.low, "high": figure.estimate.high,
            "exact": exact_gap(answers, figure.levels), "of concern": figure.of_concern,
        }
        for figure in gaps(result) if figure.estimate
    ]  # fmt: skip
    report.tables[f"accuracy of {result.model} on roles it was not taught"] = [
        {"gender": gender, "tones": name, "accuracy": accuracy(answers, gender, tones)}
        for gender in GENDERS
        for name, tones in (("light", LIGHT), ("medium", TONES[2:3]), ("dark", DARK))
    ]
    report.tables[f"gates of {result.model}"] = [
        {"gate": gate.name, "subject": gate.subject, "status": gate.status.value, "value": gate.value, "what": gate.title}
        for gate in result.gates
    ]
    concern = [figure for figure in result.fairness if figure.of_concern]
    worst = max((abs(figure.estimate.value) for figure in gaps(result) if figure.estimate), default=0.0)
    report.figures |= {f"{result.model}_largest_parity_gap": worst, f"{result.model}_figures_of_concern": float(len(concern))}
    report.notes.append(f"{result.model}: {result.state.value}; {result.headline}; {len(result.findings)} findings")
    report.notes += [f"  {finding.severity}: {finding.summary}" for finding in result.findings]


def exact_importance(answers: Answers, rows: Sequence[Mapping[str, str]]) -> float:
    """Fall of accuracy on the delivered rows when each takes the tone of another, over all permutations, that onto itself among them."""
    own = [row for row in rows if row["split"] == "audited" and row["delivered"] == "1"]
    tones = [row["skin_tone"] for row in own]

    def right(row: Mapping[str, str], tone: str) -> bool:
        return answers[row["role"], row["gender"], tone] == (row["gender"] == "woman")

    before = np.mean([right(row, row["skin_tone"]) for row in own])
    after = np.mean([[right(row, tone) for tone in tones] for row in own])
    return float(before - after)


def tell_delivered(report: Report, result: AuditResult, answers: Answers, rows: Sequence[Mapping[str, str]]) -> None:
    """Whether the model relies on skin tone where tone and gender go together."""
    table = report.tables.setdefault("delivered rows: light men and dark women", [])
    for concept in result.concepts:
        known = exact_importance(answers, rows) if concept.concept == "skin_tone" else None
        table.append(
            {
                "model": result.model, "rows": result.n_rows, "accuracy": result.real_score, "concept": concept.concept,
                "verdict": concept.verdict.value, "importance": concept.importance.value, "low": concept.importance.low,
                "high": concept.importance.high, "all permutations": known,
            }
        )  # fmt: skip
        report.figures[f"delivered_{result.model}_{concept.concept}_importance"] = concept.importance.value
    report.notes.append(f"delivered, {result.model}: {result.state.value}; {result.headline}; {len(result.findings)} findings")


def importance_chart(results: Sequence[AuditResult]) -> str:
    """Fall of accuracy on delivered rows when skin tone is permuted."""
    bars = [
        Bar(
            label=f"{result.model}: {concept.concept.replace('_', ' ')}",
            value=concept.importance.value,
            low=concept.importance.low,
            high=concept.importance.high,
            strong=result.model == "planted",
        )
        for result in results
        for concept in result.concepts
    ]
    return chart("Accuracy lost on light men and dark women when a concept is permuted", bars, axis="importance")


def gaps(result: AuditResult) -> list[FairnessFigure]:
    """Counterfactual parity of every two tones."""
    return [figure for figure in result.fairness if figure.figure == "counterfactual_parity_gap" and figure.concept == "skin_tone"]


def parity_chart(results: Sequence[AuditResult], exact: Mapping[str, Answers]) -> str:
    """Gaps of every tone against the darkest, of both models."""
    bars = [
        Bar(
            label=f"{result.model}: {' - '.join(figure.levels)}",
            value=figure.estimate.value,
            low=figure.estimate.low,
            high=figure.estimate.high,
            truth=exact_gap(exact[result.model], figure.levels),
            strong=result.model == "planted",
        )
        for result in results
        for figure in gaps(result)
        if figure.estimate and figure.levels[1] == "dark"
    ]
    return chart("Share called woman: a tone minus dark, of the same drawings", bars, axis="counterfactual parity gap")


def accuracy_chart(exact: Mapping[str, Answers]) -> str:
    """Accuracy by gender and tone, as it is."""
    bars = [
        Bar(label=f"{kind}: {gender}, {name}", value=accuracy(answers, gender, tones), strong=kind == "planted")
        for kind, answers in exact.items()
        for gender in GENDERS
        for name, tones in (("light", LIGHT), ("dark", DARK))
    ]
    return chart("Right answers on roles that were not taught", bars, axis="accuracy", most=1.0)


if __name__ == "__main__":
    main()
