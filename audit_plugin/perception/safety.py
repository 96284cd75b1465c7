"""The safety filter of V6: an image classifier that a user supplies, such as a generator's safety checker, as an ONNX graph with a card.

A picture is unsafe when the probability of any class that the card names reaches the limit of :class:`Validity`.  Without a filter V6 is
not checked, and results say so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.perception.sessions import answer, card, cpu_session, files_digest, standardised

SAFETY = "safety:unsafe"
"""What its reading is called: probabilities of a safe and of an unsafe picture."""
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class SafetyCard:
    """What the JSON file beside the graph says."""

    size: int
    """Pixels per side."""
    unsafe: tuple[int, ...]
    """Columns of the output that mean unsafe."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Taken off each channel, in [0, 1] …"""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """… before this divides it."""
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    """What makes probabilities of the output."""
    output: str = ""
    """Output of the graph; its first when empty."""
    schema_version: int = 1
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


class SafetyFilter:
    """Reads how unsafe a picture is.  Implements :class:`audit_plugin.core.protocols.ConceptDetector`."""

    def __init__(self, path: str | Path, *, threads: int = 0) -> None:
        """Open the graph and the ``.json`` card beside it.  Raises DetectorError."""
        self.path = Path(path)
        self._session = cpu_session(self.path, threads=threads)
        self.card = card(SafetyCard, self.path.with_suffix(".json"))
        if not self.card.unsafe:
            raise DetectorError(f"the card of safety filter {str(path)!r} names no unsafe class")

    @cached_property
    def fingerprint(self) -> str:
        """Of graph and card."""
        return digest("safety filter", files_digest([self.path, self.path.with_suffix(".json")]))

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """The one reading, ``(n, 2)``, of images ``(n, 3, h, w)`` in [0, 1]."""
        told = np.concatenate([self._probabilities(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)])
        try:
            unsafe = told[:, list(self.card.unsafe)].max(1)
        except IndexError as error:
            raise DetectorError(
                f"safety filter {str(self.path)!r} has {told.shape[1]} classes, its card names {self.card.unsafe}"
            ) from error
        return {SAFETY: np.stack([1 - unsafe, unsafe], 1)}

    def _probabilities(self, images: Images) -> NDArray[np.float64]:
        out = [self.card.output or self._session.get_outputs()[0].name]
        given = {self._session.get_inputs()[0].name: standardised(images, self.card.size, self.card.mean, self.card.std)}
        raw = np.asarray(answer(self._session, out, given, "safety")[0], np.float64).reshape(len(images), -1)
        if self.card.activation == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-raw)))
        if self.card.activation == "softmax":
            powers = np.exp(raw - raw.max(1, keepdims=True))
            return np.asarray(powers / powers.sum(1, keepdims=True))
        return raw
