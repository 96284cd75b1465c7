"""Counterfactuals of a model that takes a watermark for the class, as other tests need them."""

from dataclasses import replace

import numpy as np

from audit_plugin.core.counterfactual_results import Counterfactual, CounterfactualResult, DiversityFigure, SetFigure
from audit_plugin.core.values import Concept, Role
from audit_plugin.methods.counterfactuals import Attributes, figures, gaps, summary

CONCEPTS = (
    Concept(name="watermark", levels=("absent", "present"), phrases=("", "w"), role=Role.ARTEFACT),
    Concept(name="background", levels=("plain", "sand", "grass"), phrases=("", "s", "g"), role=Role.NUISANCE),
    Concept(name="shape", levels=("circle", "square"), phrases=("c", "s"), role=Role.CORE),
)


SETS = (
    SetFigure(
        name="FID", value=None, real=60, counterfactual=60, subset="CC+IC, CCF", network="net:pool", refused="FID needs 500 images"
    ),
    SetFigure(name="KID", value=0.1, low=0.05, high=0.15, real=60, counterfactual=60, subset="CC+IC, CCF", network="net:pool"),
    SetFigure(name="S3", value=0.9, low=0.8, high=1.0, real=40, counterfactual=40, subset="CC, CCF+ICF", network="same:out"),
)
DIVERSITY = DiversityFigure(value=0.25, distance="l1", runs=3, images=50, left_out=10)


def flip(at, *, towards=True, **changes):
    """Image number ``at``, flipped towards "square" or away from it."""
    original, target = ("circle", "square") if towards else ("square", "circle")
    base = Counterfactual(
        image=f"i{at}", original=original, target=target, before_sha256=f"b{at}", after_sha256=f"a{at}", flipped=True, jpeg=True, witness=True,
        before=0.1, after=0.9, l1=0.01 + at / 1000, changed=0.05, attempts=1, network_rows=40, queries=3, path=(0.1, 0.2, 0.7, 0.9),
    )  # fmt: skip
    return replace(base, **changes)


def shortcut(images=60, *, one_way=False, share=0.9):
    """Flips of which ``share`` bring the watermark in, or take it away, and change nothing else; in the data it goes with nothing."""
    rng = np.random.default_rng(0)
    items = [flip(at, towards=one_way or at % 2 == 0) for at in range(images)]
    before = rng.integers(0, [2, 3, 2], (images, 3))
    towards = np.array([item.target == "square" for item in items])
    by_it = np.arange(images) < share * images
    before[:, 0] = np.where(by_it, ~towards, before[:, 0])
    after = before.copy()
    after[by_it, 0] = towards[by_it]
    reference = rng.integers(0, [2, 3, 2], (400, 3))
    predicted = tuple("square" if shape else "circle" for shape in reference[:, 2])
    attributes = Attributes(
        concepts=CONCEPTS, before=before, after=after, reference=reference, classes=predicted, positive="square"
    )
    return items, attributes


def told(images=60, *, extra=(), **changes):
    """The whole result; ``extra`` items are shown and counted by no figure."""
    items, attributes = shortcut(images)
    found, along = figures(items, seconds=120.0, couts=[0.5, 0.7], attributes=attributes), gaps(items, attributes)
    base = CounterfactualResult(
        sets=SETS, diversity=DIVERSITY, witness="colours version 1", method="fastdime", rung="twin", rung_said="same first class on 100.0% of 64 images", passed_over=("served: no such model",),
        positive="square", figures=found, gaps=along, items=(*items, *extra),
        summary=summary(found, along, method="fastdime", rung="twin", positive="square"),
    )  # fmt: skip
    return replace(base, **changes)
