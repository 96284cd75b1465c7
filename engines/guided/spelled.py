"""A picture as a caption of a small generator's kind: every phrase of a template chosen by the noise error, one after the other.

What :mod:`engines.guided.described` compares are whole captions, and a small generator knows no others.  So the phrases that are not asked about
must be right as well: they are chosen in turn, each with the others as they stand, until a round changes nothing (coordinate descent), once from all the
first phrases and once from all the last, and the better end is kept.  Captions that were asked about before are not asked about again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from engines.guided.described import DescribeOptions, noise_errors
from engines.pipeline import Pipeline

Draws = Float[np.ndarray, " draws"]


@dataclass(frozen=True)
class Reading:
    """What a picture shows of one concept."""

    level: int
    """The phrase with the least error."""
    margin: float
    """How much greater the error of the next best is, mean over draws."""
    error: float
    """Standard error of the margin over draws, paired; not a number for a single one."""


@dataclass(frozen=True)
class Spelled:
    """A picture in words."""

    caption: str
    readings: Mapping[str, Reading]
    network_rows: int


def spell(
    pipeline: Pipeline,
    image: Float[np.ndarray, "3 h w"],
    template: str,
    phrases: Mapping[str, Sequence[str]],
    *,
    options: DescribeOptions | None = None,
    rounds: int = 3,
) -> Spelled:
    """The caption that suits an image (RGB in [0, 1]) best, and how surely each phrase was told from the next best.

    ``template`` has a field for each of ``phrases``: ``"a {size} circle on {background}"``; what changes a picture most is best named first.  The
    noisier half of the timesteps is looked at unless ``options`` say other: there much follows from the caption.  Raises ValueError for a field
    without a choice.
    """
    if rounds < 1 or not phrases or min(map(len, phrases.values())) < 2:
        raise ValueError("every field of the template needs two phrases or more, and there is at least one round")
    descent = _Descent(pipeline, image, template, phrases, options or DescribeOptions(draws=4, low=0.6))
    ends = [
        descent.run(dict(zip(phrases, at, strict=True)), rounds)
        for at in zip(*((0, len(each) - 1) for each in phrases.values()), strict=True)
    ]
    levels = min(ends, key=lambda end: descent.errors([descent.told(end)])[0].mean())
    readings = {name: descent.reading(levels, name) for name in phrases}
    return Spelled(descent.told(levels), readings, descent.options.network_rows(len(descent.known)))


@dataclass(eq=False)
class _Descent:
    """Remembers the errors of captions."""

    pipeline: Pipeline
    image: Float[np.ndarray, "3 h w"]
    template: str
    phrases: Mapping[str, Sequence[str]]
    options: DescribeOptions
    known: dict[str, Draws] = field(default_factory=dict)

    def run(self, levels: Mapping[str, int], rounds: int) -> Mapping[str, int]:
        """From these phrases to where no single other one is better."""
        for _ in range(rounds):
            before = levels
            for name in self.phrases:
                levels = {**levels, name: self.reading(levels, name).level}
            if levels == before:
                break
        return levels

    def reading(self, levels: Mapping[str, int], name: str) -> Reading:
        """Of one concept, with the others as they stand."""
        return _reading(self.errors([self.told({**levels, name: at}) for at in range(len(self.phrases[name]))]))

    def told(self, levels: Mapping[str, int]) -> str:
        return self.template.format(**{name: self.phrases[name][at] for name, at in levels.items()})

    def errors(self, captions: Sequence[str]) -> list[Draws]:
        new = [caption for caption in dict.fromkeys(captions) if caption not in self.known]
        if new:
            self.known |= dict(zip(new, noise_errors(self.pipeline, self.image, new, options=self.options), strict=True))
        return [self.known[caption] for caption in captions]


def _reading(errors: Sequence[Draws]) -> Reading:
    best, second = np.argsort([each.mean() for each in errors])[:2]
    apart = errors[second] - errors[best]
    spread = float(apart.std(ddof=1)) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    return Reading(int(best), float(apart.mean()), spread)
