"""What others would find on the same classifiers and pictures: attribution, occlusion, associations, words by margin, the published procedures.

None of them has a generator of its own: where one needs changed pictures it is lent the renderer, which is perfect; what it would cost with
a generator is counted.  Approaches without a rule of decision claim nothing here; they are compared by what they rank above idle concepts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images, Scores
from audit_plugin.core.seeds import digest
from audit_plugin.methods.depict.paper import PERMUTATIONS, paper_importance
from audit_plugin.sources.images import to_float
from tests.bench.planted_suite.judge import Claim
from tests.bench.planted_suite.planted import Planted, Predict
from tests.bench.planted_suite.truth import WEAK, Rows, flip_scores, labels_of, tasks
from tests.bench.planted_suite.worlds import World

Array = NDArray[np.float64]
LOOKED_AT = 64
"""Pictures that attribution is asked of; one backward pass or 225 occlusions each."""
COMPARED = 400
"""Rows of which the published procedures are lent rendered changes, as many as the audit has."""
VISIBLE = 8 / 255
"""Difference of a channel from which on a pixel belongs to a concept."""
NOMINAL = 0.05


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task of one classifier with everything that approaches may see."""

    world: World
    planted: Planted
    task: str
    column: int | None
    """Of a multi-label classifier the output; else None."""
    images: Images
    """Real pictures."""
    rows: Rows
    labels: NDArray[np.int64]
    scores: Scores
    """Of the real pictures ``(n, k)``, of a multi-label output with its complement."""
    flips: Mapping[str, Scores]
    """Concept -> ``(m, K, k)`` of the first rows, by the renderer."""
    network: Any
    """The classifier in torch, to probabilities."""
    predict: Predict

    @property
    def own(self) -> Scores:
        """Score of the row's own class ``(n,)``."""
        return np.asarray(self.scores[np.arange(len(self.labels)), self.labels])

    def said(self, approach: str, strengths: Mapping[str, float], found: Mapping[str, bool] | None = None) -> list[Claim]:
        """Claims of one approach."""
        return [
            Claim(
                approach=approach,
                world=self.world.name,
                classifier=self.planted.name,
                task=self.task,
                concept=name,
                found=bool(found and found[name]),
                strength=float(np.nan_to_num(value)),
            )
            for name, value in strengths.items()
        ]


def cases(world: World, rows: Rows, models: Mapping[Planted, tuple[Predict, Any]], purpose: str, *, edited: int) -> Iterator[Case]:
    """Every task of every classifier; ``edited`` rows are also rendered at every level of every concept."""
    images = to_float(world.held_out(rows.seeds, rows.values))
    first = Rows(values=rows.values[:edited], seeds=rows.seeds[:edited])
    flips = flip_scores(world, first, {planted: predict for planted, (predict, _) in models.items()})
    for planted, (predict, network) in models.items():
        labels, whole = labels_of(world, planted, rows, purpose), predict(images)
        for task, asked, truth in tasks(planted, {"": whole[:, None]} | flips[planted], labels):
            yield Case(
                world=world,
                planted=planted,
                task=task,
                column=None if task == "label" else list(planted.rules).index(task),
                images=images,
                rows=rows,
                labels=truth,
                scores=asked.pop("")[:, 0],
                flips=asked,
                network=network,
                predict=predict,
            )


def regions(world: World, rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """Concept -> mask ``(n, h, w)`` of the pixels that change with it, the renderer being asked for every other level."""
    own = world.held_out(rows.seeds, rows.values).astype(np.int16)
    found = {}
    for at, one in enumerate(world.concepts):
        mask = np.zeros(own.shape[:3], np.bool_)
        for step in range(1, len(one.levels)):
            moved = rows.values.copy()
            moved[:, at] = (moved[:, at] + step) % len(one.levels)
            mask |= (np.abs(world.held_out(rows.seeds, moved) - own) > VISIBLE * 255).any(-1)
        found[one.name] = mask
    return found


def by_attribution(case: Case, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, list[Claim]]:
    """Integrated gradients and occlusion (captum) of the likeliest class: how much denser the attribution is on the concept's pixels."""
    import torch
    from captum.attr import IntegratedGradients, Occlusion

    n = len(next(iter(masks.values())))
    pictures = torch.from_numpy(case.images[:n])
    with torch.no_grad():
        target = case.network(pictures).argmax(1) if case.column is None else torch.full((n,), case.column)
    side, base = case.world.size // 8, pictures.mean((0, 2, 3), keepdim=True)  # black would hide what is black
    maps = {
        "integrated gradients": IntegratedGradients(case.network).attribute(
            pictures, baselines=base.expand_as(pictures), target=target, n_steps=24, internal_batch_size=256
        ),
        "occlusion": Occlusion(case.network).attribute(
            pictures,
            baselines=base.expand_as(pictures),
            target=target,
            sliding_window_shapes=(3, side, side),
            strides=(3, side // 2, side // 2),
            perturbations_per_eval=8,
        ),
    }
    return {name: case.said(name, _density(values.detach().abs().sum(1).numpy(), masks)) for name, values in maps.items()}


def _density(attribution: Array, masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    """Share of the attribution on the concept's pixels over their share of the picture, mean over pictures that have any."""
    total = attribution.sum((1, 2)).clip(1e-12)
    found = {}
    for name, mask in masks.items():
        area = mask.mean((1, 2))
        there = area > 0
        share = (attribution * mask).sum((1, 2)) / total
        found[name] = float((share[there] / area[there]).mean()) if there.any() else 0.0
    return found


def by_differences(case: Case) -> list[Claim]:
    """Does the score of real pictures differ between levels?  Analysis of variance, of several classes the one that tells most, Bonferroni."""
    from scipy.stats import f_oneway

    asked = case.scores[:, -1:] if case.scores.shape[1] == 2 else case.scores
    tests = asked.shape[1] * len(case.world.concepts)
    strengths, found = {}, {}
    for at, one in enumerate(case.world.concepts):
        shown = [case.rows.values[:, at] == level for level in range(len(one.levels))]
        shares, least = [0.0], 1.0
        for target in asked.T:
            groups = [some for level in shown if len(some := target[level]) > 1]
            between = sum(len(some) * (some.mean() - target.mean()) ** 2 for some in groups)
            shares.append(between / max(1e-12, ((target - target.mean()) ** 2).sum()))
            least = min(least, float(np.nan_to_num(f_oneway(*groups).pvalue, nan=1.0)))
        strengths[one.name], found[one.name] = max(shares), least < NOMINAL / tests
    return case.said("differences of scores", strengths, found)


def by_association(case: Case) -> list[Claim]:
    """Does the property go with the label in the data?  Cramér's V and chi-squared, Bonferroni; the classifier is not asked at all."""
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import association

    strengths, found = {}, {}
    for at, one in enumerate(case.world.concepts):
        shown, answers = case.rows.values[:, at, None] == np.arange(len(one.levels)), case.labels[:, None] == np.unique(case.labels)
        counts = shown.T.astype(np.int64) @ answers
        counts = counts[counts.sum(1) > 0]
        strengths[one.name] = float(association(counts)) if min(counts.shape) > 1 else 0.0
        found[one.name] = min(counts.shape) > 1 and chi2_contingency(counts).pvalue < NOMINAL / len(case.world.concepts)
    return case.said("property and label in the data", strengths, found)


def by_margin(case: Case) -> list[Claim]:
    """B2T's score (Kim et al. 2024): how much liker a word wrong pictures of a class are than right ones; largest over words and classes.

    Likeness to a word is whether the picture shows it, which is known here: no image-text model could do better.
    """
    decided = case.scores.argmax(1)
    strengths = {}
    for at, one in enumerate(case.world.concepts):
        best = 0.0
        for label in np.unique(case.labels):
            wrong, right = ((case.labels == label) & (decided != label)), ((case.labels == label) & (decided == label))
            if wrong.sum() >= 5 and right.sum() >= 5:
                shown = case.rows.values[:, at, None] == np.arange(len(one.levels))
                best = max(best, float((shown[wrong].mean(0) - shown[right].mean(0)).max()))
        strengths[one.name] = best
    return case.said("words by margin (B2T)", strengths)


def by_published_permutation(case: Case, rows: Rows, renders: "Renders") -> list[Claim]:
    """DEPICT as published, with the renderer: found where mean - 1.96 sd/sqrt(25) lies above our margin."""
    labels = case.labels[: len(rows)]
    told = paper_importance(
        partial(renders.draw, case),
        case.world.concepts,
        rows.values,
        labels,
        rows=[str(at) for at in range(len(rows))],
        seed=f"planted suite {case.world.name}",
    )
    strengths = {name: abs(one.mean) for name, one in told.concepts.items()}
    found = {name: one.mean - 1.96 * one.sd / np.sqrt(PERMUTATIONS) > WEAK for name, one in told.concepts.items()}
    return case.said("DEPICT as published", strengths, found)


def by_published_search(case: Case) -> list[Claim]:
    """DiffEx as released, with the renderer as editor: mean over images of the size of the change of a target class's probability.

    The target is fixed, of several classes each in turn; the largest over targets and over a concept's levels.  Images that show the level
    already are left out.  The beam holds all concepts of these worlds, and the four seeds are one: a rendered edit is the same every time.
    """
    strengths = {}
    for name, flips in case.flips.items():
        own = case.rows.values[: len(flips), case.world.index(name)]
        delta = np.abs(flips - flips[np.arange(len(flips)), own][:, None])
        changed = own[:, None] != np.arange(flips.shape[1])
        strengths[name] = max(
            (float(delta[changed[:, level], level].mean(0).max()) for level in range(flips.shape[1]) if changed[:, level].any()),
            default=0.0,
        )
    return case.said("DiffEx as published", strengths)


class Renders:
    """Draws what the published procedure asks for and has all classifiers score it: sets of pictures are the same for all of them."""

    def __init__(self, world: World, models: Mapping[str, Predict]) -> None:
        self._world, self._models = world, models
        self._known: dict[str, dict[str, Scores]] = {}

    def draw(self, case: Case, values: NDArray[np.int64], seeds: Sequence[int]) -> Scores:
        """Scores of one task ``(n, k)``."""
        key = digest(values.tobytes().hex(), *map(str, seeds))
        if key not in self._known:
            images = to_float(self._world.held_out(seeds, values))
            self._known[key] = {name: predict(images) for name, predict in self._models.items()}
        scores = self._known[key][case.planted.name]
        return scores if case.column is None else np.stack([1 - scores[:, case.column], scores[:, case.column]], 1)
