"""What every planted classifier truly relies on, measured with the renderer as a perfect generator.

Rows are drawn from the audited distribution (``AUDIT_LAW``), labels by the classifier's own task, and every row is rendered at every
level of every concept, so that the flip table is complete and its importances are exact but for the sampling of rows.

    python -m audit_plugin.demo.truth                  writes the key "truth" into every card in assets/planted
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.protocols import Images, Scores
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.demo.planted import AUDIT_LAW, SUITE, Planted, labels, predictor
from audit_plugin.demo.renderer import SceneRenderer, as_images
from audit_plugin.sources.scenes import CONCEPTS, draw_values, render_many
from audit_plugin.statistics.bootstrap import Bootstrap, bootstrap, unit_weights
from audit_plugin.statistics.flip_table import FlipTable, importances, prevalence_frees
from audit_plugin.statistics.metrics import METRICS

ASSETS = Path(__file__).parent / "assets"
PLANTED = ASSETS / "planted"
ROWS = 6_000
RESAMPLES = 400
SEED = "planted truth"
_CHUNK = 250

Predict = Callable[[Images], Scores]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its standard error over rows."""

    value: float
    se: float


@dataclass(frozen=True, kw_only=True)
class ConceptTruth:
    """Reliance on one concept."""

    auroc: Measured
    """Drop of the AUROC when the concept is permuted, over all permutations."""
    accuracy: Measured
    auroc_prevalence_free: Measured
    """The same were all levels equally common."""
    accuracy_prevalence_free: Measured
    flip_rate: Measured
    """Share of changes of this concept (every row to every other level) that change the decision."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What one classifier relies on, in the audited distribution."""

    rows: int
    seed: str
    renderer: str
    """Fingerprint of the renderer; another one needs another measurement."""
    auroc: float
    """Of the classifier on rendered scenes."""
    accuracy: float
    concepts: Mapping[str, ConceptTruth]

    @property
    def importance(self) -> dict[str, float]:
        """Concept -> AUROC importance: what an audit's figures are compared with."""
        return {name: concept.auroc.value for name, concept in self.concepts.items()}


_TRUTH = TypeAdapter(Truth)


@dataclass(frozen=True, kw_only=True)
class AuditRows:
    """Rows of the audited distribution."""

    names: tuple[str, ...]
    values: NDArray[np.int64]
    """``(n, concepts)``"""
    seeds: tuple[int, ...]
    """Of each row's scene."""

    def labels(self, planted: Planted, seed: str) -> NDArray[np.int64]:
        """``(n,)`` class indices by this classifier's own task."""
        return labels(planted, self.values, np.random.default_rng(seed_of(seed, f"labels {planted.name}")))


def audit_rows(n: int, seed: str) -> AuditRows:
    """``n`` rows drawn from ``AUDIT_LAW``."""
    names = tuple(f"row-{number:05d}" for number in range(n))
    values = draw_values(n, AUDIT_LAW, np.random.default_rng(seed_of(seed, "values")))
    return AuditRows(names=names, values=values, seeds=tuple(seed_of(seed, name) for name in names))


def flip_scores(rows: AuditRows, models: Mapping[str, Predict]) -> dict[str, dict[str, Scores]]:
    """Model -> concept -> scores ``(n, K, k)`` of every row rendered at every level; own levels are the row's own scene."""
    parts: dict[str, dict[str, list[Scores]]] = {model: {concept.name: [] for concept in CONCEPTS} for model in models}
    for at in range(0, len(rows.names), _CHUNK):
        values, seeds = rows.values[at : at + _CHUNK], rows.seeds[at : at + _CHUNK]
        images = as_images(np.concatenate([render_many(seeds, asked) for asked in _asked(values)]))
        for model, predict in models.items():
            scores = predict(images).reshape(-1, len(values), 2)
            for concept, found in zip(CONCEPTS, _by_concept(values, scores), strict=True):
                parts[model][concept.name].append(found)
    return {model: {name: np.concatenate(found) for name, found in by.items()} for model, by in parts.items()}


def _asked(values: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The rows as they are, then one concept after the other moved on by 1, 2 … levels."""
    yield values
    for j, concept in enumerate(CONCEPTS):
        for step in range(1, len(concept.levels)):
            moved = values.copy()
            moved[:, j] = (values[:, j] + step) % len(concept.levels)
            yield moved


def _by_concept(values: NDArray[np.int64], scores: Scores) -> Iterator[Scores]:
    """``(n, K, k)`` per concept from the scores ``(1 + flips, n, k)`` in the order of :func:`_asked`."""
    flip = 1
    for j, concept in enumerate(CONCEPTS):
        levels = len(concept.levels)
        steps = np.concatenate([scores[:1], scores[flip : flip + levels - 1]])
        flip += levels - 1
        step_of = (np.arange(levels)[None, :] - values[:, j, None]) % levels
        yield steps[step_of, np.arange(len(values))[:, None]]


def flip_tables(planted: Planted, rows: AuditRows, scores: Mapping[str, Scores], seed: str) -> dict[str, FlipTable]:
    """Concept -> flip table of one classifier."""
    target = rows.labels(planted, seed)
    own = np.arange(len(target))
    return {
        concept.name: FlipTable(
            baseline=scores[concept.name][own, rows.values[:, j]],
            flips=scores[concept.name],
            values=rows.values[:, j],
            labels=target,
        )
        for j, concept in enumerate(CONCEPTS)
    }


def truth_of(tables: Mapping[str, FlipTable], seed: str, *, resamples: int = RESAMPLES) -> Truth:
    """All true figures of one classifier."""
    first = next(iter(tables.values()))
    weights = unit_weights(np.arange(len(first)), resamples, np.random.default_rng(seed_of(seed, "resamples")))
    return Truth(
        rows=len(first),
        seed=seed,
        renderer=SceneRenderer().fingerprint,
        auroc=METRICS["auroc"].performance(first.baseline, first.labels),
        accuracy=METRICS["accuracy"].performance(first.baseline, first.labels),
        concepts={name: _concept_truth(table, weights) for name, table in tables.items()},
    )


def _concept_truth(table: FlipTable, weights: NDArray[np.float64]) -> ConceptTruth:
    auroc, accuracy = METRICS["auroc"], METRICS["accuracy"]
    changed = (table.flips.argmax(2) != table.baseline.argmax(1)[:, None]).sum(1) / (table.levels - 1)
    return ConceptTruth(
        auroc=_measured(bootstrap(lambda w: importances(table, auroc, w), weights)),
        accuracy=_measured(bootstrap(lambda w: importances(table, accuracy, w), weights)),
        auroc_prevalence_free=_measured(bootstrap(lambda w: prevalence_frees(table, auroc, w), weights)),
        accuracy_prevalence_free=_measured(bootstrap(lambda w: prevalence_frees(table, accuracy, w), weights)),
        flip_rate=_measured(bootstrap(lambda w: w @ changed / w.sum(1), weights)),
    )


def _measured(boot: Bootstrap) -> Measured:
    return Measured(value=round(boot.value, 6), se=round(boot.se, 6))


def measure(
    suite: Sequence[Planted], *, rows: int = ROWS, seed: str = SEED, directory: Path = PLANTED, resamples: int = RESAMPLES
) -> dict[str, Truth]:
    """Classifier -> what it relies on; all of them see the same scenes."""
    drawn = audit_rows(rows, seed)
    scores = flip_scores(drawn, {planted.name: predictor(onnx_path(planted.name, directory)) for planted in suite})
    return {
        planted.name: truth_of(flip_tables(planted, drawn, scores[planted.name], seed), seed, resamples=resamples)
        for planted in suite
    }


def onnx_path(name: str, directory: Path = PLANTED) -> Path:
    """Where a planted classifier lies."""
    return directory / f"{name}.onnx"


def read_truth(name: str, directory: Path = PLANTED) -> Truth:
    """The stored truth of one classifier.  Raises ConfigError if it was never measured, or with another renderer."""
    card = directory / f"{name}.json"
    cure = "measure it with `python -m audit_plugin.demo.truth`"
    try:
        truth = _TRUTH.validate_python(json.loads(card.read_text(encoding="utf-8"))["truth"])
    except (OSError, KeyError, ValueError, ValidationError) as error:
        raise ConfigError(f"the truth about {name!r} cannot be read from {card}: {error}; {cure}") from error
    if truth.renderer != SceneRenderer().fingerprint:
        raise ConfigError(f"the truth about {name!r} was measured with another renderer than this one; {cure}")
    return truth


def write_truth(name: str, truth: Truth, directory: Path = PLANTED) -> None:
    """Put the truth into the classifier's card."""
    card = directory / f"{name}.json"
    document = json.loads(card.read_text(encoding="utf-8")) | {"truth": asdict(truth)}
    card.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def doubts(planted: Planted, truth: Truth) -> list[str]:
    """Where a classifier is not what the suite claims: an expected concept below 0.05, an idle one beyond 0.01."""
    weak = [f"expects {name} but relies on it by {truth.importance[name]:.4f}" for name in planted.expected]
    busy = [f"claims {name} idle but relies on it by {truth.importance[name]:.4f}" for name in planted.idle]
    return [
        *(said for said, name in zip(weak, planted.expected, strict=True) if truth.importance[name] < 0.05),
        *(said for said, name in zip(busy, planted.idle, strict=True) if abs(truth.importance[name]) > 0.01),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure what the planted classifiers truly rely on.")
    parser.add_argument("--directory", type=Path, default=PLANTED)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args(arguments)
    print(f"{'classifier':24}{'AUROC':>7} " + "".join(f"{concept.name:>12}" for concept in CONCEPTS))
    for planted, truth in zip(SUITE, measure(SUITE, rows=options.rows, directory=options.directory).values(), strict=True):
        write_truth(planted.name, truth, options.directory)
        print(f"{planted.name:24}{truth.auroc:>7.3f} " + "".join(f"{value:>12.4f}" for value in truth.importance.values()))
        for doubt in doubts(planted, truth):
            print(f"  NOT AS CLAIMED: {doubt}")


if __name__ == "__main__":
    main()
