"""Features of pictures by a network that the user supplies: what sets of pictures are compared by, and whether a face is still the same one.

The network is an ONNX file or a model of the audited server, never the audited one.  An output with places (n d h w) is averaged over them,
as the pool features of the papers are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.perception.sessions import answer, cpu_session, files_digest, standardised

FEATURES = "features"
"""Name of the only thing that is read."""
_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """A network whose features compare pictures; ``file`` or ``model``, and how pictures are given to it."""

    file: str = ""
    """ONNX file with one input, pictures (n, 3, h, w) in float32."""
    model: str = ""
    """Name of a model on the audited server with such an input."""
    output: str = ""
    """Which output holds the features: (n, d), or (n, d, h, w), which is averaged over places; the only one when empty."""
    size: int | None = None
    """Side that the middle square of a picture is resized to; as the editor draws it when absent."""
    scale: float = 1.0
    """What white is before the mean is taken off: 1, or 255."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Taken off each channel."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """By which each channel is divided then."""
    channels: Literal["RGB", "BGR"] = "RGB"
    """Their order, in ``mean`` and ``std`` too."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if bool(self.file) == bool(self.model):
            raise ValueError("name a network as `file` or as `model` of the server, one of the two")
        if (self.size is not None and self.size < 1) or self.scale <= 0 or min(self.std) <= 0:
            raise ValueError("need size >= 1, and scale and std above 0")


Run = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Prepared pictures (n 3 h w) -> features (n d) or (n d h w)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureNetwork:
    """Implements :class:`audit_plugin.core.protocols.ConceptDetector`, so that what it reads is kept beside the pictures."""

    name: str
    identity: str
    """Of the network: a digest of its file, or of what the server says it is."""
    options: FeatureOptions
    run: Run

    @cached_property
    def fingerprint(self) -> str:
        """Of the network and of how pictures are given to it."""
        return digest("features", self.identity, repr(self.options))

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """``{"features": (n, d)}``.  Raises DetectorError where the network answers something else."""
        parts = [self._rows(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)]
        return {FEATURES: np.concatenate(parts)} if parts else {FEATURES: np.zeros((0, 0))}

    def _rows(self, images: Images) -> NDArray[np.float64]:
        told = np.asarray(self.run(prepared(images, self.options)), np.float64)
        if told.ndim < 2 or len(told) != len(images):
            raise DetectorError(
                f"{self.name} answers {told.shape} for {len(images)} pictures; name an output with features per picture"
            )
        rows: NDArray[np.float64] = told.reshape(*told.shape[:2], -1).mean(2)
        if not np.isfinite(rows).all():
            raise DetectorError(f"{self.name} answers features that are not finite; check its `scale`, `mean` and `std`")
        return rows


def prepared(images: Images, options: FeatureOptions) -> NDArray[np.float32]:
    """Images (n 3 h w) in [0, 1] as the network takes them."""
    size = options.size or min(images.shape[2:])
    planes = images if options.channels == "RGB" else images[:, ::-1]
    mean, std = (tuple(value / options.scale for value in values) for values in (options.mean, options.std))
    return np.ascontiguousarray(standardised(planes, size, mean, std), np.float32)


def file_features(options: FeatureOptions, *, threads: int = 0) -> FeatureNetwork:
    """The network of an ONNX file.  Raises DetectorError where it does not fit."""
    path = Path(options.file)
    session = cpu_session(path, threads=threads)
    inputs, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
    if len(inputs) != 1:
        raise DetectorError(f"{options.file!r} has {len(inputs)} inputs; a feature network takes one batch of pictures")
    output = chosen_output(options, outputs, options.file)

    def run(images: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(answer(session, [output], {inputs[0].name: images}, path.stem)[0], np.float64)

    return FeatureNetwork(name=f"{path.stem}:{output}", identity=files_digest([path]), options=options, run=run)


def chosen_output(options: FeatureOptions, outputs: list[str], network: str) -> str:
    """The output that was named, or the only one.  Raises DetectorError."""
    if options.output in outputs:
        return options.output
    if not options.output and len(outputs) == 1:
        return outputs[0]
    told = f"has no output {options.output!r}" if options.output else "has several outputs"
    raise DetectorError(f"{network!r} {told}; name one of {', '.join(outputs)} as `output`")
