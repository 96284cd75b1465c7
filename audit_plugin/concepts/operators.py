"""Deterministic operators: exact edits of 8-bit images, without a diffusion model and without a GPU.

Each is a pure function ``(h, w, 3) -> (h, w, 3)`` for any image of at least 8 px a side; its null edit is the image itself.  Random
places and noise are keyed by the image and a seed and never by the node, so every node meets the same noise on an image.
Source: diffex_diffexplainer.md 3.4 and 4.11.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audit_plugin.concepts import operators_artefact as artefact
from audit_plugin.concepts import operators_detail as detail
from audit_plugin.concepts import operators_frame as frame
from audit_plugin.concepts import operators_geometry as geometry
from audit_plugin.concepts import operators_tone as tone
from audit_plugin.concepts.operators_geometry import Mask
from audit_plugin.concepts.operators_tone import Pixels
from audit_plugin.concepts.schema import closest
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.seeds import seed as hashed
from audit_plugin.core.tree import Node

VERSION = 1
"""Raised whenever an operator draws different pixels."""
MIN_SIDE_PX = 8
OPERATOR_KEY = "op"
"""Parameter of a node that names the operator."""
SHOWN_KEYS = frozenset({"concept", "level"})
"""Parameters that say what a node shows, not how it is made: the generator may make the same."""


@dataclass(frozen=True, kw_only=True)
class Between:
    """A parameter that is a number."""

    low: float
    high: float
    whole: bool = False
    """Whole numbers only."""
    forbidden: float = math.nan
    """The one value in between that would change nothing."""

    def refusal(self, value: object) -> str | None:
        """Why it does not take a value; None if it does."""
        number = isinstance(value, int) or (isinstance(value, float) and not self.whole)
        if number and not isinstance(value, bool) and self.low <= value <= self.high and value != self.forbidden:  # type: ignore[operator]
            return None
        other = "" if math.isnan(self.forbidden) else f" but not {self.forbidden:g}"
        return f"needs a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}{other}, got {value!r}"


@dataclass(frozen=True)
class OneOf:
    """A parameter that is a word."""

    words: tuple[str, ...]

    def refusal(self, value: object) -> str | None:
        """Why it does not take a value; None if it does."""
        return None if value in self.words else f"cannot be {value!r}{closest(str(value), self.words)}"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One exact edit, and what it needs."""

    function: Callable[..., Pixels]
    parameters: Mapping[str, Between | OneOf] = field(default_factory=dict)
    """All of them must be given."""
    needs_mask: bool = False
    """It wants to know where the object is."""
    seeded: bool = False
    """It draws at random, by a seed."""

    @property
    def name(self) -> str:
        """As nodes name it."""
        return self.function.__name__


def _listed() -> Iterable[Operator]:
    """In the order in which a joint edit applies them: scene, viewpoint, light, lens, sensor, what is laid over, file."""
    share = Between(low=0.01, high=1)
    change = Between(low=-1, high=3, forbidden=0)
    corners = OneOf(tuple(place for place in geometry.PLACES if place != "centre"))
    yield Operator(function=geometry.background_grey, needs_mask=True)
    yield Operator(function=geometry.object_grey, needs_mask=True)
    yield Operator(function=geometry.hflip)
    yield Operator(function=geometry.vflip)
    yield Operator(function=geometry.rotate, parameters={"degrees": Between(low=-180, high=180, forbidden=0)})
    yield Operator(function=geometry.zoom, parameters={"factor": Between(low=1.01, high=4)})
    yield Operator(function=geometry.zoom_out, parameters={"factor": Between(low=0.25, high=0.99)})
    yield Operator(function=geometry.translate, parameters={"dx": Between(low=-0.5, high=0.5), "dy": Between(low=-0.5, high=0.5)})
    yield Operator(function=geometry.crop_corner, parameters={"corner": corners, "keep": Between(low=0.25, high=0.99)})
    yield Operator(function=geometry.grey_patch, parameters={"place": OneOf(tuple(geometry.PLACES)), "area": share})
    yield Operator(function=tone.light_gradient, parameters={"side": OneOf(tuple(tone.TOWARDS)), "strength": share})
    yield Operator(function=tone.brightness, parameters={"change": change})
    yield Operator(function=tone.contrast, parameters={"change": change})
    yield Operator(function=tone.saturation, parameters={"change": change})
    yield Operator(function=tone.hue_cast, parameters={"cast": OneOf(tuple(tone.CASTS))})
    yield Operator(function=tone.gamma, parameters={"gamma": Between(low=0.1, high=10, forbidden=1)})
    yield Operator(function=tone.vignette, parameters={"strength": share})
    yield Operator(function=detail.gaussian_blur, parameters={"sigma_px": Between(low=0.1, high=50)})
    yield Operator(function=detail.motion_blur, parameters={"length_px": Between(low=1, high=112)})
    yield Operator(function=detail.noise, parameters={"sd": Between(low=0.5, high=128)}, seeded=True)
    counted = {"count": Between(low=1, high=200, whole=True)}
    yield Operator(function=artefact.lens_dust, parameters=counted, seeded=True)
    yield Operator(function=artefact.hair_lines, parameters=counted, seeded=True)
    yield Operator(function=artefact.marker_circle)
    yield Operator(function=artefact.ruler_strip)
    yield Operator(function=artefact.logo_box)
    yield Operator(function=artefact.watermark_text)
    yield Operator(function=artefact.timestamp_text)
    width = Between(low=1, high=50)
    yield Operator(function=artefact.border, parameters={"colour": OneOf(tuple(artefact.BORDERS)), "width_px": width})
    yield Operator(function=frame.mirror_border, parameters={"width_px": width})
    yield Operator(function=frame.flat_border, parameters={"width_px": width})
    yield Operator(function=frame.corner_mark, parameters={"corner": corners, "side_px": Between(low=1, high=100)})
    yield Operator(function=tone.raised_black, parameters={"least": Between(low=1, high=254)})
    yield Operator(function=tone.invert)
    yield Operator(function=tone.posterise, parameters={"bits": Between(low=1, high=7, whole=True)})
    yield Operator(function=detail.downscale, parameters={"factor": Between(low=1.1, high=32)})
    yield Operator(function=detail.jpeg, parameters={"quality": Between(low=1, high=95, whole=True)})


OPERATORS: Mapping[str, Operator] = {operator.name: operator for operator in _listed()}


def parameter_refusal(params: Mapping[str, Any]) -> str | None:
    """Why a node with these parameters cannot be edited; None if it can.

    >>> parameter_refusal({"op": "brightness", "change": -0.3})
    >>> parameter_refusal({"op": "britness"})
    "operator 'britness' does not exist; did you mean 'brightness'?"
    """
    name = params.get(OPERATOR_KEY)
    if name is None:
        return f"`params` must name its operator as `{OPERATOR_KEY}`; known: {', '.join(sorted(OPERATORS))}"
    operator = OPERATORS.get(str(name))
    if operator is None:
        return f"operator {name!r} does not exist{closest(str(name), OPERATORS)}"
    given = {key: value for key, value in params.items() if key != OPERATOR_KEY and key not in SHOWN_KEYS}
    for key in given:
        if key not in operator.parameters:
            known = closest(key, operator.parameters) if operator.parameters else "; it takes none"
            return f"operator {name!r} has no parameter {key!r}{known}"
    for key, parameter in operator.parameters.items():
        if key not in given:
            return f"operator {name!r} needs the parameter {key!r}"
        refused = parameter.refusal(given[key])
        if refused:
            return f"parameter {key!r} of operator {name!r} {refused}"
    return None


def refusal(node: Node, *, mask: bool) -> str | None:
    """Why a node cannot be applied; None if it can.  ``mask``: whether it is known where the object is."""
    if node.operator != "deterministic":
        return f"node {node.path!r} is edited by the operator {node.operator!r}, not by a deterministic one"
    refused = parameter_refusal(node.params)
    if refused:
        return f"node {node.path!r}: {refused}"
    name = str(node.params[OPERATOR_KEY])
    if OPERATORS[name].needs_mask and not mask:
        return f"node {node.path!r}: operator {name!r} needs a mask of the object; give one, or set `editable: false`"
    return None


def apply(node: Node, image: Pixels, seed: int, mask: Mask | None = None) -> Pixels:
    """The edit of an image by a deterministic node: uint8 ``(h, w, 3)`` to the same shape; the image is left as it is.

    ``mask`` ``(h, w)`` is True on the object.  Raises ConfigError with :func:`refusal`'s reason, ValueError for a wrong image.
    """
    return apply_all((node,), image, seed, mask)


def apply_all(nodes: Sequence[Node], image: Pixels, seed: int, mask: Mask | None = None) -> Pixels:
    """A joint edit: the same whatever the order of the nodes, since operators have an order of their own.

    Operators that move things come after those that read the mask, so one mask, that of the unedited image, serves.
    """
    _check_image(image, mask)
    for node in nodes:
        refused = refusal(node, mask=mask is not None)
        if refused:
            raise ConfigError(refused)
    draw = hashed("deterministic operators", hashlib.sha256(image.tobytes()).hexdigest(), seed)
    order = list(OPERATORS)
    out = image.copy()
    for node in sorted(nodes, key=lambda each: (order.index(str(each.params[OPERATOR_KEY])), each.path)):
        operator = OPERATORS[str(node.params[OPERATOR_KEY])]
        own = operator.parameters
        arguments: dict[str, Any] = {key: value for key, value in node.params.items() if key in own}
        if operator.needs_mask:
            arguments["mask"] = mask
        if operator.seeded:
            arguments["seed"] = draw
        out = operator.function(out, **arguments)
    return out


def _check_image(image: Pixels, mask: Mask | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"need a uint8 image (h, w, 3), got {image.dtype} {image.shape}")
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise ValueError(f"need at least {MIN_SIDE_PX} px a side, got {image.shape[0]} x {image.shape[1]}")
    if mask is not None and (mask.dtype != np.bool_ or mask.shape != image.shape[:2]):
        raise ValueError(f"need a boolean mask {image.shape[:2]}, got {mask.dtype} {mask.shape}")
