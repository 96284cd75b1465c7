"""Perceptual distance by the features of a network: LPIPS (Zhang et al., CVPR 2018) where network and heads are those of LPIPS.

Equation 1 there: feature maps are normalised to unit length in the channel direction, their squared differences weighted by channel,
averaged over space and summed over layers.  Heads belong to the very weights that they were fitted on; without heads every channel of a
layer counts the same, which gives the mean over layers of 1 - cosine: it orders pictures much alike but is not LPIPS, nor called so.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.perception.sessions import answer, cpu_session, files_digest

_BATCH = 8
_TINY = 1e-10
_RETRAINED = {"88cc2d541ed05e79ca97af2597d8274d109fcdc8e0e9fc69a4bc516d9f55b1f1"}
"""sha256 of graphs known to be of other weights than the heads': SqueezeNet 1.1 as Caffe trained it, not torchvision."""
_LEAST_PX = 32
"""Networks of this kind have nothing left to say of smaller pictures."""


class PerceptualDistance(Protocol):
    """How different two pictures look."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the distances could."""
        ...

    def between(self, first: Images, second: Images) -> NDArray[np.float64]:
        """``(n,)`` distances of images ``(n, 3, h, w)`` in [0, 1]; 0 for equal ones."""
        ...


@dataclass(frozen=True, kw_only=True)
class PerceptualOptions:
    """A network that tells how different two pictures look, for V2."""

    graph: str
    """ONNX graph: either two batches of pictures in [-1, 1] to their distances (LPIPS as a whole), or one batch in [0, 1] to its feature maps."""
    heads: str = ""
    """``.npz`` with the channel weights of LPIPS, arrays ``lin0``, ``lin1`` … or ``<net>.lin0`` …; only for the network that they were fitted on."""
    net: Literal["alex", "squeeze", "vgg"] = "alex"
    """Whose heads are taken, where the file holds several."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}


def open_perceptual(options: PerceptualOptions, *, threads: int = 0) -> PerceptualDistance:
    """The distance that the options describe.  Raises DetectorError where the files do not go together."""
    graph = Path(options.graph)
    session = cpu_session(graph, threads=threads)
    inputs, outputs = len(session.get_inputs()), len(session.get_outputs())
    if inputs == 2:
        if options.heads:
            raise DetectorError(f"{options.graph!r} takes two pictures and has its heads inside; leave `perceptual.heads` out")
        return PairGraph(graph, session)
    if inputs != 1:
        raise DetectorError(f"{options.graph!r} has {inputs} inputs; a perceptual distance takes one batch of pictures or two")
    if not options.heads:
        return FeatureDistance(graph, session)
    if hashlib.sha256(graph.read_bytes()).hexdigest() in _RETRAINED:
        raise DetectorError(
            f"{options.graph!r} has other weights than the network that the heads of LPIPS were fitted on; leave `perceptual.heads` out"
        )
    return FeatureDistance(graph, session, heads=Path(options.heads), net=options.net, weights=read_heads(options, outputs))


def read_heads(options: PerceptualOptions, taps: int) -> tuple[NDArray[np.float64], ...]:
    """Channel weights ``(c,)`` of every tap, none below 0.  Raises DetectorError."""
    try:
        with np.load(options.heads, allow_pickle=False) as file:
            prefix = f"{options.net}." if f"{options.net}.lin0" in file.files else ""
            names = [f"{prefix}lin{at}" for at in range(taps)]
            extra = {name for name in file.files if name.startswith(f"{prefix}lin")} - set(names)
            weights = tuple(np.asarray(file[name], np.float64).reshape(-1) for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise DetectorError(f"heads {options.heads!r} cannot be read for {taps} taps of {options.net!r}: {error}") from error
    if extra:
        raise DetectorError(f"heads {options.heads!r} of {options.net!r} have more layers than the network's {taps} taps")
    if any((weight < 0).any() for weight in weights):
        raise DetectorError(f"heads {options.heads!r} hold weights below 0; those of LPIPS have none")
    return weights


@dataclass(frozen=True, eq=False)
class PairGraph:
    """A whole LPIPS as one graph: two batches ``(n, 3, h, w)`` in [-1, 1] to ``(n, ...)`` distances."""

    path: Path
    session: Any

    @property
    def name(self) -> str:
        """LPIPS where the file's name says so: any distance of two pictures has such a graph."""
        return "LPIPS" if "lpips" in self.path.stem.lower() else f"perceptual distance ({self.path.stem})"

    @cached_property
    def fingerprint(self) -> str:
        """Of the file."""
        return digest("perceptual graph", files_digest([self.path]))

    def between(self, first: Images, second: Images) -> NDArray[np.float64]:
        """As the protocol says."""
        names, out = [entry.name for entry in self.session.get_inputs()], [self.session.get_outputs()[0].name]
        parts = []
        for a, b in _batches(first, second):
            given = {name: np.ascontiguousarray(2 * some - 1, np.float32) for name, some in zip(names, (a, b), strict=True)}
            told = np.asarray(answer(self.session, out, given, self.name)[0], np.float64)
            if told.size != len(a):
                raise DetectorError(
                    f"{str(self.path)!r} gave {told.shape} for {len(a)} pairs of pictures; it must give one distance each"
                )
            parts.append(told.reshape(-1))
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class FeatureDistance:
    """Feature maps of one graph, compared tap by tap."""

    path: Path
    session: Any
    heads: Path | None = None
    net: str = ""
    weights: tuple[NDArray[np.float64], ...] = ()
    """Of the channels of every tap; none: all alike, and it is not LPIPS."""

    @property
    def name(self) -> str:
        """LPIPS with heads; the file's name without."""
        return f"LPIPS({self.net})" if self.weights else f"perceptual distance ({self.path.stem})"

    @cached_property
    def fingerprint(self) -> str:
        """Of network and heads."""
        return digest("feature distance", files_digest([self.path, *([self.heads] if self.heads else [])]), self.net)

    def between(self, first: Images, second: Images) -> NDArray[np.float64]:
        """As the protocol says."""
        return np.concatenate([self._compared(self._taps(a), self._taps(b)) for a, b in _batches(first, second)])

    def _compared(self, first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        parts = []
        for at, (a, b) in enumerate(zip(first, second, strict=True)):
            squared = (unit_channels(a) - unit_channels(b)) ** 2
            if not self.weights:
                parts.append(squared.sum(1).mean((1, 2)) / (2 * len(first)))
                continue
            weight = self.weights[at]
            if squared.shape[1] != len(weight):
                raise DetectorError(
                    f"tap {at} of {str(self.path)!r} has {squared.shape[1]} channels, the heads {len(weight)}; they belong to another network"
                )
            parts.append(np.tensordot(weight, squared, axes=(0, 1)).mean((1, 2)))
        return np.asarray(np.sum(parts, axis=0))

    def _taps(self, images: Images) -> list[NDArray[Any]]:
        (entry,) = self.session.get_inputs()
        out = [output.name for output in self.session.get_outputs()]
        maps = answer(self.session, out, {entry.name: np.ascontiguousarray(images, np.float32)}, self.name)
        if flat := [name for name, each in zip(out, maps, strict=True) if np.ndim(each) != 4]:
            raise DetectorError(
                f"{str(self.path)!r} answers no feature maps (n, c, h, w) as {', '.join(flat)}; give a graph that does"
            )
        return maps


def unit_channels(features: NDArray[Any]) -> NDArray[np.float64]:
    """Feature maps ``(n, c, h, w)`` with every position's channels scaled to length 1; where all are 0 they stay so."""
    values = np.asarray(features, np.float64)
    return np.asarray(values / (np.sqrt((values**2).sum(1, keepdims=True)) + _TINY))


def _batches(first: Images, second: Images) -> list[tuple[Images, Images]]:
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
        raise DetectorError(f"need two batches of images (n, 3, h, w) of one size, got {first.shape} and {second.shape}")
    if min(first.shape[2:]) < _LEAST_PX:
        raise DetectorError(f"pictures of {first.shape[3]} x {first.shape[2]} px are too small for `perceptual`; leave it out")
    return [(first[at : at + _BATCH], second[at : at + _BATCH]) for at in range(0, len(first), _BATCH)]
