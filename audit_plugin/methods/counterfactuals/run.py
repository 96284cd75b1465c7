"""Counterfactuals of one model version: made, asked again as they are stored, held against detectors, told in figures."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import Ask, CounterfactualStudio, Made, Wish
from audit_plugin.core.counterfactual_results import CounterfactualResult, DiversityFigure
from audit_plugin.core.protocols import Images, Scores
from audit_plugin.methods.counterfactuals.attributes import why_no_gaps
from audit_plugin.methods.counterfactuals.diversity import PLAIN, Distance, diversity_of, perceptual_distances
from audit_plugin.methods.counterfactuals.figures import figures, gaps
from audit_plugin.methods.counterfactuals.items import Reader, attributes_of, item_of, spread
from audit_plugin.methods.counterfactuals.sets import Networks, set_figures
from audit_plugin.methods.counterfactuals.summary import summary
from audit_plugin.methods.counterfactuals.targets import TargetPolicy, targets
from audit_plugin.methods.counterfactuals.witness import Witness
from audit_plugin.statistics.cout import cout

Answers = Callable[[Collection[str]], Mapping[str, NDArray[np.float64]]]
"""sha256 of stored pictures -> the deployed model's probabilities, each asked once per version."""


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """The model version under audit."""

    id: str
    labels: Sequence[str]
    positive: str
    """Class whose decision the attribute gaps are about."""
    answers: Answers
    search: Ask
    """What searches are told, and counted by the caller."""
    predict: Callable[[Images], Scores]
    """Probabilities of pictures that are not kept."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """How the pictures are made, for the record."""

    method: str
    rung: str
    rung_said: str
    passed_over: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Further:
    """What is asked beside the flips themselves."""

    paths: int = 0
    """Flips whose path is followed."""
    witness: Witness | None = None
    networks: Networks = field(default_factory=Networks)
    runs: int = 1
    """Searches of every image and target, each with other noise; figures are of the first."""
    distance: Distance = PLAIN
    """Between the pictures of two runs, and, unless it is the plain one, between images and flips."""


def run_counterfactuals(
    studio: CounterfactualStudio,
    model: Deployed,
    told: Callable[[], Told],
    *,
    wanted: TargetPolicy,
    known: Mapping[str, str],
    reader: Reader | None,
    further: Further,
) -> CounterfactualResult:
    """What flips the model's decision on the studio's images; pictures that are there already cost nothing.

    ``told`` is asked once the pictures are made; ``known``: image -> label.
    A flip counts on the stored bytes alone, as the deployed version answers them.
    """
    befores = studio.originals()
    scores = dict(model.answers(befores.values()))
    images = list(befores)
    aims = targets(np.stack([scores[befores[image]] for image in images]), model.labels, wanted)
    own = {images[aim.row]: aim.original for aim in aims}
    wishes = [Wish(images[aim.row], aim.target) for aim in aims]
    clock, fresh = monotonic(), studio.missing(wishes)
    made = studio.made(wishes, model.search)
    seconds = (monotonic() - clock) * len(made) / fresh if fresh else None  # of all, at the pace of those made now
    again = [studio.made([replace(wish, run=run) for wish in wishes], model.search) for run in range(1, further.runs)]
    scores |= model.answers({one.after for one in chain(made, *again)})
    flips = [one for one in made if int(scores[one.after].argmax()) == one.wish.target]
    jpeg = studio.jpeg([one.after for one in flips])
    scores |= model.answers(jpeg.values())
    seen = {} if further.witness is None else further.witness.sees(flips, model.labels)
    looks = perceptual_distances(studio, flips, further.distance)
    walked, couts = _paths(studio, model, spread(studio, flips, further.paths), own)
    items = tuple(
        item_of(
            studio,
            one,
            own[one.image],
            scores,
            model.labels,
            label=known.get(one.image, ""),
            jpeg=jpeg,
            witness=seen.get(one.after),
            path=walked.get(one.after),
            perceptual=looks.get(one.after),
        )
        for one in made
    )
    reference = {
        sha: label if (label := known.get(image, "")) in model.labels else model.labels[int(scores[sha].argmax())]
        for image, sha in befores.items()
    }
    attributes = None if reader is None or not items else attributes_of(studio, reader, items, reference, model.positive)
    why, how = why_no_gaps(items, attributes), told()
    found = figures(items, seconds=seconds, couts=couts, attributes=attributes, perceptual=further.distance.name)
    along = () if why or attributes is None else gaps(items, attributes)
    return CounterfactualResult(
        method=how.method,
        rung=how.rung,
        rung_said=how.rung_said,
        passed_over=how.passed_over,
        positive=model.positive,
        summary=summary(found, along, method=how.method, rung=how.rung, positive=model.positive),
        figures=found,
        gaps=along,
        items=items,
        sets=set_figures(studio, items, further.networks),
        diversity=_diversity(studio, model, [made, *again], scores, known=known, distance=further.distance)
        if again and made
        else None,
        witness="" if further.witness is None else further.witness.name,
        notes=(*how.notes, *((why,) if why else ())),
    )


def _diversity(
    studio: CounterfactualStudio,
    model: Deployed,
    runs: Sequence[Sequence[Made]],
    scores: Mapping[str, NDArray[np.float64]],
    *,
    known: Mapping[str, str],
    distance: Distance,
) -> DiversityFigure:
    correct = {one.image: known.get(one.image, "") == model.labels[int(scores[one.before].argmax())] for one in runs[0]}
    return diversity_of(studio, runs, scores, correct, distance)


def _paths(
    studio: CounterfactualStudio, model: Deployed, flips: Sequence[Made], own: Mapping[str, int]
) -> tuple[dict[str, Scores], list[float]]:
    """sha256 of pictures -> class scores on the way to them, and what COUT is of each."""
    answers = studio.paths({one.after: one.before for one in flips}, model.id, model.predict)
    walked = {sha: np.clip(told, 0, 1) for sha, told in answers.items()}  # a server's rounding may leave [0, 1] by a little
    return walked, [
        cout(walked[one.after][:, own[one.image]], walked[one.after][:, one.wish.target], pixels=studio.size**2).value
        for one in flips
    ]
