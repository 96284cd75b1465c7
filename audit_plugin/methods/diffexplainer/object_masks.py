"""Where the object of a class is in drawn pictures, by a segmenter: whether it is there, and whether a response comes from it (specification 6.8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.protocols import Images
from audit_plugin.methods.diffexplainer.deciding import heat_share
from audit_plugin.methods.diffexplainer.run import Subject
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.methods.diffexplainer.word_tests import estimate
from audit_plugin.perception.resizing import weights
from audit_plugin.perception.segmenters import FEWEST, Segmenter
from audit_plugin.statistics.intervals import wilson
from audit_plugin.statistics.paired_mean import student_interval


@dataclass(frozen=True, eq=False, kw_only=True)
class ObjectMasks:
    """A segmenter, calibrated class by class on real images that are known to be of the class."""

    segmenter: Segmenter
    words: Callable[[Subject], Sequence[Sequence[str]]]
    """What a subject is about: words that count together, and others in case that there is no channel for those."""
    real: Callable[[str], Images]
    """Real images of a class; none where no labelled ones are at hand."""
    _known: dict[str, tuple[Segmenter, str]] = field(default_factory=dict)

    def masks(self, subject: Subject, images: Images) -> Bool[np.ndarray, "n h w"] | None:
        """Where its object is; None where the segmenter has no channel for it.  Raises DetectorError."""
        channels = self._channels(subject)
        return self._calibrated(subject, channels)[0].masks(images, channels) if channels else None

    def absent(self, subject: Subject, images: Images) -> Estimate | None:
        """Share of the pictures without its object."""
        masks = self.masks(subject, images) if len(images) else None
        return None if masks is None else estimate(wilson(int((~masks.any((1, 2))).sum()), len(masks)))

    def said(self, subject: Subject) -> str:
        """What its threshold rests on, in a sentence."""
        channels = self._channels(subject)
        return self._calibrated(subject, channels)[1] if channels else "the segmenter has no channel for its object"

    def _channels(self, subject: Subject) -> list[str]:
        """Names of the channels that show it; of a unit without words any object."""
        have = list(self.segmenter.options.channels)
        for words in self.words(subject):
            if found := [word for word in have if plain(word) in {plain(one) for one in words}]:
                return found
        return have if subject.kind == "unit" else []

    def _calibrated(self, subject: Subject, channels: Sequence[str]) -> tuple[Segmenter, str]:
        if subject.name not in self._known:
            self._known[subject.name] = self._calibrate(subject, channels)
        return self._known[subject.name]

    def _calibrate(self, subject: Subject, channels: Sequence[str]) -> tuple[Segmenter, str]:
        given, shown = self.segmenter, " or ".join(channels)
        real = self.real(subject.name) if subject.kind == "class" else None
        if real is None or len(real) < FEWEST:
            told = "too few labelled real images to check it"
            return given, f"{shown} by the segmenter at its given threshold, {given.least:.2f}: {told}"
        found, share = given.calibrated(real, channels)
        lowered = "lowered to" if found.least < given.least else "kept at"
        return (
            found,
            f"{shown} by the segmenter, threshold {lowered} {found.least:.2f}: there it finds {share:.0%} of {len(real)} real images' objects",
        )


def heat_inside(maps: Float[np.ndarray, "n h w"], masks: Bool[np.ndarray, "n y x"], seen: float = 1.0) -> Estimate | None:
    """Mean share of a unit's response inside the object, chance taken off, with a 95 % interval over pictures; None below two pictures.

    Maps are cut off below 0, brought to the size of the masks and down to 0 where each is least; pictures without the object, or without a response,
    are left out.  ``seen``: share of the pictures' sides, in their middle, that the maps are of.
    """
    cut = [round(side * (1 - seen) / 2) for side in masks.shape[1:]]
    masks = masks[:, cut[0] : masks.shape[1] - cut[0], cut[1] : masks.shape[2] - cut[1]]
    rows, columns = (weights(old, new) for old, new in zip(maps.shape[1:], masks.shape[1:], strict=True))
    heat = rows @ np.maximum(maps, 0) @ columns.T
    heat = heat - heat.min((1, 2), keepdims=True)
    held = masks.any((1, 2))
    share = heat_share(heat[held], masks[held])
    share = share[np.isfinite(share)]
    return estimate(student_interval(share)) if len(share) > 1 else None
