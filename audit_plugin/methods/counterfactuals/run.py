"""Counterfactuals of one model version: made, asked again as they are stored, held against detectors, told in figures."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.counterfactuals import Ask, CounterfactualStudio, Made
from audit_plugin.core.counterfactual_results import Counterfactual, CounterfactualResult
from audit_plugin.core.protocols import ConceptDetector, Images, Scores
from audit_plugin.core.values import Concept
from audit_plugin.methods.counterfactuals.attributes import Attributes, why_no_gaps
from audit_plugin.methods.counterfactuals.figures import figures, gaps
from audit_plugin.methods.counterfactuals.summary import summary
from audit_plugin.methods.counterfactuals.targets import targets
from audit_plugin.statistics.counterfactuals import closeness
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


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Who sees attributes, and which."""

    detector: ConceptDetector
    concepts: tuple[Concept, ...]


def run_counterfactuals(
    studio: CounterfactualStudio,
    model: Deployed,
    told: Told,
    *,
    wanted: Mapping[str, str],
    known: Mapping[str, str],
    reader: Reader | None,
    paths: int,
) -> CounterfactualResult:
    """What flips the model's decision on the studio's images; pictures that are there already cost nothing.

    ``wanted``: class -> class to ask for, the runner-up when empty; ``known``: image -> label; ``paths``: flips whose path is followed.
    A flip counts on the stored bytes alone, as the deployed version answers them.
    """
    befores = studio.originals()
    scores = dict(model.answers(befores.values()))
    images = list(befores)
    policy = dict(wanted) if wanted else "runner_up"
    aims = targets(np.stack([scores[befores[image]] for image in images]), model.labels, policy)
    goal = {images[aim.row]: (aim.original, aim.target) for aim in aims}
    clock, fresh = monotonic(), studio.missing({image: target for image, (_, target) in goal.items()})
    made = studio.made({image: target for image, (_, target) in goal.items()}, model.search)
    seconds = monotonic() - clock if fresh else None
    scores |= model.answers({one.after for one in made})
    flipped = {one.image: int(scores[one.after].argmax()) == goal[one.image][1] for one in made}
    jpeg = studio.jpeg([one.after for one in made if flipped[one.image]])
    scores |= model.answers(jpeg.values())
    nearest = _nearest(studio, [one for one in made if flipped[one.image]], paths)
    walked = studio.paths({one.after: one.before for one in nearest}, model.id, model.predict)
    items = tuple(
        _item(
            studio,
            one,
            goal[one.image],
            scores,
            model.labels,
            label=known.get(one.image, ""),
            jpeg=jpeg,
            path=walked.get(one.after),
        )
        for one in made
    )
    couts = [
        cout(walked[one.after][:, goal[one.image][0]], walked[one.after][:, goal[one.image][1]], pixels=studio.size**2).value
        for one in nearest
    ]
    reference = {sha: model.labels[int(scores[sha].argmax())] for sha in befores.values()}
    attributes = None if reader is None or not items else _attributes(studio, reader, items, reference, model.positive)
    why = why_no_gaps(items, attributes)
    found = figures(items, seconds=seconds, couts=couts, attributes=attributes)
    along = () if why or attributes is None else gaps(items, attributes)
    return CounterfactualResult(
        method=told.method,
        rung=told.rung,
        rung_said=told.rung_said,
        passed_over=told.passed_over,
        positive=model.positive,
        summary=summary(found, along, method=told.method, rung=told.rung, positive=model.positive),
        figures=found,
        gaps=along,
        items=items,
        notes=(why,) if why else (),
    )


def _item(
    studio: CounterfactualStudio,
    one: Made,
    goal: tuple[int, int],
    scores: Mapping[str, NDArray[np.float64]],
    labels: Sequence[str],
    *,
    label: str,
    jpeg: Mapping[str, str],
    path: Scores | None,
) -> Counterfactual:
    original, target = goal
    before, after = (studio.pixels(sha).transpose(2, 0, 1)[None] for sha in (one.before, one.after))
    close = closeness(np.ascontiguousarray(before), np.ascontiguousarray(after))
    flipped = int(scores[one.after].argmax()) == target
    return Counterfactual(
        image=one.image,
        original=labels[original],
        target=labels[target],
        label=label,
        before_sha256=one.before,
        after_sha256=one.after,
        flipped=flipped,
        jpeg=int(scores[jpeg[one.after]].argmax()) == target if flipped else None,
        before=float(np.clip(scores[one.before][target], 0, 1)),
        after=float(np.clip(scores[one.after][target], 0, 1)),
        free=one.free and flipped,
        l1=float(close.l1[0]),
        changed=float(close.changed[0]),
        attempts=one.attempts,
        network_rows=one.network_rows,
        queries=one.queries,
        path=() if path is None else tuple(float(p) for p in path[:, target]),
    )


def _nearest(studio: CounterfactualStudio, flips: Sequence[Made], count: int) -> list[Made]:
    """Flips spread evenly over their distances, the nearest and the farthest among them."""
    by_distance = sorted(flips, key=lambda one: (_distance(studio, one), one.image))
    if len(by_distance) <= count:
        return by_distance
    return [by_distance[round(at * (len(by_distance) - 1) / max(count - 1, 1))] for at in range(count)]


def _distance(studio: CounterfactualStudio, one: Made) -> float:
    before, after = (studio.pixels(sha).astype(np.int16) for sha in (one.before, one.after))
    return float(np.abs(before - after).mean())


def _attributes(
    studio: CounterfactualStudio,
    reader: Reader,
    items: Sequence[Counterfactual],
    reference: Mapping[str, str],
    positive: str,
) -> Attributes:
    """Readings before and after, and of the reference: sha256 of images that nothing was done to -> class that the server gives."""
    read = studio.readings(reader.detector, [*reference, *(item.after_sha256 for item in items)])

    def levels(shas: Sequence[str]) -> NDArray[np.int64]:
        return np.array([[int(np.argmax(read[sha][concept.name])) for concept in reader.concepts] for sha in shas], np.int64)

    return Attributes(
        concepts=reader.concepts,
        before=levels([item.before_sha256 for item in items]),
        after=levels([item.after_sha256 for item in items]),
        reference=levels(list(reference)),
        predicted=tuple(reference.values()),
        positive=positive,
    )
