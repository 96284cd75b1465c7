"""The concepts of a scene, and the one function that says them in words."""

from collections.abc import Sequence

from audit_plugin.core.values import Concept, Role

SIZE = 64
"""Pixels per side."""

CONCEPTS: tuple[Concept, ...] = (
    Concept(name="shape", levels=("circle", "square", "triangle"), phrases=("circle", "square", "triangle"), role=Role.CORE),
    Concept(name="colour", levels=("red", "yellow", "blue"), phrases=("red", "yellow", "blue"), role=Role.CONTEXT),
    Concept(name="size", levels=("small", "large"), phrases=("small", "large"), role=Role.CONTEXT),
    Concept(
        name="background",
        levels=("grass", "water", "sand", "brick"),
        phrases=("grass", "water", "sand", "brick"),
        role=Role.NUISANCE,
    ),
    Concept(name="ruler", levels=("absent", "present"), phrases=("", " with a ruler"), role=Role.ARTEFACT),
    Concept(name="snowman", levels=("absent", "present"), phrases=("", " beside a snowman"), role=Role.NUISANCE),
    Concept(name="lighting", levels=("bright", "dim"), phrases=(" in bright light", " in dim light"), role=Role.NUISANCE),
)
"""In caption order.  Every concept can be set alone: all random draws of a scene are made whatever the values."""

TEMPLATE = "a {size} {colour} {shape} on {background}{ruler}{snowman}{lighting}"

PLACEBO_WORDS = ("photo", "picture", "image", "view")
"""Words that say nothing about a scene; captions of training pictures carry them at random, so they teach nothing either."""


def caption(values: Sequence[int]) -> str:
    """Words for one concept vector, in the order of ``CONCEPTS``.

    >>> caption((0, 1, 1, 3, 1, 0, 0))
    'a large yellow circle on brick with a ruler in bright light'
    """
    return TEMPLATE.format(**{concept.name: concept.phrases[value] for concept, value in zip(CONCEPTS, values, strict=True)})
