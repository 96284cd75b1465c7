"""What makes a picture unrecognisable before it is kept; where that fails the picture is not kept."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from audit_plugin.capture.options import CaptureOptions
from audit_plugin.core.errors import CaptureError, ConfigError
from audit_plugin.sources.images import Pixels

Region = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of width and height."""


class Redactor(Protocol):
    """A hook of the operator's."""

    def __call__(self, picture: Pixels, /) -> Pixels | None:
        """The picture (h, w, 3), uint8, without what must not be kept; None where it must not be kept at all."""
        ...


@dataclass(frozen=True)
class Blackout:
    """Rectangles blacked out; their edges are rounded outwards."""

    regions: tuple[Region, ...]

    def __call__(self, picture: Pixels, /) -> Pixels:
        """A copy with black rectangles."""
        covered = picture.copy()
        height, width = picture.shape[:2]
        for left, top, right, bottom in self.regions:
            rows = slice(int(np.floor(top * height)), int(np.ceil(bottom * height)))
            covered[rows, int(np.floor(left * width)) : int(np.ceil(right * width))] = 0
        return covered


def redactors(options: CaptureOptions) -> tuple[Redactor, ...]:
    """All hooks of a configuration, in order.  Raises ConfigError where one cannot be loaded."""
    own: tuple[Redactor, ...] = (Blackout(options.regions),) if options.regions else ()
    return (*own, *(_loaded(name) for name in options.redact))


def redacted(picture: Pixels, hooks: Sequence[Redactor]) -> Pixels:
    """The picture after all hooks.  Raises CaptureError with reason ``redacted`` or ``redaction_failed``: then it must not be kept."""
    for hook in hooks:
        try:
            answer = hook(picture.copy())
        except Exception as error:
            raise CaptureError("redaction_failed", f"redaction hook {_name(hook)} failed: {error!r}", status=500) from error
        if answer is None:
            raise CaptureError("redacted", f"redaction hook {_name(hook)} dropped the picture", status=422)
        if not isinstance(answer, np.ndarray) or answer.dtype != np.uint8 or answer.ndim != 3 or answer.shape[2] != 3:
            raise CaptureError("redaction_failed", f"redaction hook {_name(hook)} must return uint8 (h, w, 3) or None", status=500)
        if not answer.size:
            raise CaptureError("redaction_failed", f"redaction hook {_name(hook)} returned an empty picture", status=500)
        picture = answer
    return picture


def _loaded(name: str) -> Redactor:
    module, _, function = name.partition(":")
    try:
        hook: Redactor = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"capture.redact: {name!r} cannot be loaded ({error}); give module:function of an installed module"
        ) from error
    if not callable(hook):
        raise ConfigError(f"capture.redact: {name!r} is not a function")
    return hook


def _name(hook: Redactor) -> str:
    return str(getattr(hook, "__name__", type(hook).__name__))
