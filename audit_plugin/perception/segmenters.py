"""Where in a picture an object is, by a network that the user supplies: an ONNX file, or a model of the server that the audited one is not.

Its channels are words for objects.  A pixel shows the object where the strongest of the channels that are asked for is at least the threshold;
an object that covers less than ``min_area`` of the picture counts as none (diffex_diffexplainer.md 6.8).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, softmax

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.perception.features import FeatureOptions, Run, file_features, prepared
from audit_plugin.perception.resizing import weights

RECALL = 0.9
"""Share of real images of a class in which its object is to be found."""
FEWEST = 10
"""Real images that calibrate a threshold."""
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class SegmenterOptions:
    """A network that says where objects are; ``file`` or ``model``, what its channels mean, and how pictures are given to it."""

    channels: Mapping[str, int]
    """Word for an object, as in ``discover.objects``, or a class's name -> the channel that shows it."""
    file: str = ""
    """ONNX file with one input, pictures (n, 3, h, w) in float32."""
    model: str = ""
    """Name of a model on the audited server with such an input."""
    output: str = ""
    """Which output holds the channels (n, C, h, w), at any resolution; the only one when empty."""
    activation: Literal["sigmoid", "softmax", "none"] = "softmax"
    """What makes probabilities of them: ``sigmoid`` of each channel, ``softmax`` over all, ``none`` where they are probabilities."""
    threshold: float = 0.4
    """Probability from which on a pixel shows the object; lowered for a class whose object it finds in fewer than 90 % of its real images."""
    min_area: float = 0.005
    """Share of the picture below which an object counts as none."""
    size: int | None = None
    """Side that the middle square of a picture is resized to; as the generator draws it when absent."""
    scale: float = 1.0
    """What white is before the mean is taken off: 1, or 255."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Taken off each colour."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """By which each colour is divided then."""
    order: Literal["RGB", "BGR"] = "RGB"
    """Of the colours, in ``mean`` and ``std`` too."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        _ = self.network
        if not self.channels or min(self.channels.values()) < 0:
            raise ValueError("name at least one object as `channels: {word: channel}`; channels count from 0")
        if not 0 < self.threshold < 1 or not 0 <= self.min_area < 1:
            raise ValueError(f"threshold lies between 0 and 1 and min_area from 0 to 1, got {self.threshold} and {self.min_area}")

    @property
    def network(self) -> FeatureOptions:
        """The same, as any network that pictures are given to.  Raises ValueError."""
        return FeatureOptions(
            file=self.file,
            model=self.model,
            output=self.output,
            size=self.size,
            scale=self.scale,
            mean=self.mean,
            std=self.std,
            channels=self.order,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmenter:
    """Finds objects in pictures."""

    name: str
    options: SegmenterOptions
    run: Run
    """Prepared pictures (n 3 h w) -> channels (n C h w)."""
    threshold: float | None = None
    """In place of the options'."""

    @property
    def least(self) -> float:
        """Probability from which on a pixel shows the object."""
        return self.options.threshold if self.threshold is None else self.threshold

    def probabilities(self, images: Images, words: Iterable[str]) -> Float[np.ndarray, "n h w"]:
        """Of the likeliest of the objects, pixel by pixel; 0 outside the middle square.  Raises DetectorError."""
        wanted = [self.options.channels[word] for word in words]
        (count, _, height, width), side = images.shape, min(images.shape[2:])
        found = np.zeros((count, height, width))
        top, left = (height - side) // 2, (width - side) // 2
        for at in range(0, count, _BATCH):
            raw = np.asarray(self.run(prepared(images[at : at + _BATCH], self._network)), np.float64)
            told = self._channels(raw, len(images[at : at + _BATCH]))[:, wanted].max(1)
            rows, columns = (weights(old, side) for old in told.shape[1:])
            found[at : at + _BATCH, top : top + side, left : left + side] = rows @ told @ columns.T
        return found

    def masks(self, images: Images, words: Iterable[str]) -> Bool[np.ndarray, "n h w"]:
        """Where the objects are; nowhere in a picture where they cover less than counts.  Raises DetectorError."""
        masks = self.probabilities(images, words) >= self.least
        return np.asarray(masks & (masks.mean((1, 2)) >= self.options.min_area)[:, None, None])

    def calibrated(self, real: Images, words: Iterable[str]) -> tuple["Segmenter", float]:
        """The segmenter that finds the objects in 90 % of these real images, and its threshold's share of them; raises DetectorError.

        The threshold is lowered where it finds too few, and never raised: a network that is sure of real objects may be less sure of drawn
        ones, and missing those is what a finding would be made of.
        """
        seen = self.probabilities(real, words).reshape(len(real), -1)
        pixels = max(1, math.ceil(self.options.min_area * seen.shape[1]))
        best = np.sort(seen, 1)[:, -pixels]
        lowest = float(np.quantile(best, 1 - RECALL, method="lower"))
        least = min(self.options.threshold, max(lowest, _FLOOR))
        return replace(self, threshold=least), float((best >= least).mean())

    @cached_property
    def _network(self) -> FeatureOptions:
        return self.options.network

    def _channels(self, raw: Float[np.ndarray, "n C h w"], count: int) -> Float[np.ndarray, "n C h w"]:
        if raw.ndim != 4 or len(raw) != count:
            raise DetectorError(
                f"discover.segmenter: {self.name} answers {raw.shape} for {count} pictures; name an output with channels (n, C, h, w)"
            )
        word, most = max(self.options.channels.items(), key=lambda one: one[1])
        if most >= raw.shape[1]:
            raise DetectorError(
                f"discover.segmenter: {self.name} has channels 0 to {raw.shape[1] - 1}, and {word!r} is said to be channel {most}"
            )
        if raw.shape[1] == 1 and self.options.activation == "softmax":
            raise DetectorError(
                f"discover.segmenter: {self.name} has one channel, of which softmax says nothing; set `activation: sigmoid`"
            )
        if not np.isfinite(raw).all():
            raise DetectorError(f"discover.segmenter: {self.name} answers what is not finite; check its `scale`, `mean` and `std`")
        if self.options.activation == "none":
            if raw.min() < 0 or raw.max() > 1:
                raise DetectorError(
                    f"discover.segmenter: {self.name} answers {raw.min():.3g} to {raw.max():.3g}, which are no probabilities; set its `activation`"
                )
            return raw
        return np.asarray(softmax(raw, axis=1) if self.options.activation == "softmax" else expit(raw))


_FLOOR = 0.05
"""No threshold is lowered further: below it a network that sees nothing would be taken to see everything."""


def file_segmenter(options: SegmenterOptions, *, threads: int = 0) -> Segmenter:
    """The network of an ONNX file.  Raises DetectorError where it does not fit."""
    try:
        network = file_features(options.network, threads=threads)
    except DetectorError as error:
        raise DetectorError(f"discover.segmenter: {error}") from error
    return Segmenter(name=network.name, options=options, run=network.run)
