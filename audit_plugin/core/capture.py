"""What became of the production events that were offered for capture."""

from collections.abc import Mapping
from dataclasses import dataclass, field

DROPS: Mapping[str, str] = {
    "malformed": "no CloudEvent of an inference, or a payload that contradicts itself",
    "too_large": "a body over the limit",
    "unsupported": "a content type, encoding or tensor type that is not read",
    "unknown_model": "a model that is not captured",
    "image": "a picture that is too large, damaged, or not what the model takes",
    "audit": "a request of an audit itself",
    "duplicate": "a request that is in the sample already",
    "tombstone": "a picture that was deleted and must not come back",
    "redacted": "a redaction hook said not to keep it",
    "redaction_failed": "a redaction hook failed, so that the picture was not kept",
    "queue_full": "the writer is behind",
    "disk_full": "no space where the sample is kept",
    "disk_error": "the place of the sample cannot be written",
}
"""Every reason why an event or a picture is not captured; the label's values are bounded by it."""
LOSSES = ("redaction_failed", "queue_full", "disk_full", "disk_error")
"""Reasons that are the installation's, not the sender's: someone has to look."""


def _none() -> dict[str, int]:
    return dict.fromkeys(DROPS, 0)


@dataclass(frozen=True, kw_only=True)
class CaptureCounts:
    """A snapshot since the process started."""

    received: int = 0
    """Events that came, refused ones included."""
    sampled: int = 0
    """Of them, those that the sampling share chose."""
    kept: int = 0
    """Pictures written to the sample; most are replaced by later ones."""
    dropped: Mapping[str, int] = field(default_factory=_none)
    """By reason, of ``DROPS``: events refused, and pictures lost."""
    images: Mapping[str, int] = field(default_factory=dict)
    """Model -> pictures in its sample now."""
    dropping: bool = False
    """Whether pictures were lost for a reason of ``LOSSES`` in the last minutes."""
