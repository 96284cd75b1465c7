"""What is captured, how much of it is kept and for how long, and what is made unrecognisable before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class CaptureOptions:
    """A bounded sample of what production sends to the audited models; nothing is captured where this section is absent."""

    path: str
    """Directory of the samples, on a local disk; one directory below it for each model."""
    models: tuple[str, ...] = ()
    """Models that are captured, by name; all audited ones when empty.  Events about others are refused."""
    services: Mapping[str, str] = field(default_factory=dict)
    """InferenceService of KServe -> model, where their names differ."""
    share: float = 1.0
    """Share of the requests, in (0, 1], that are looked at; which ones follows from their ids, so that answers are found again."""
    size: int = 1_000
    """Most pictures in the sample of one model; every request of the last ``days`` is as likely to be in it as any other."""
    days: float = 30.0
    """Pictures that are older are deleted."""
    max_bytes: int = 2_000_000_000
    """Most that the pictures of one model take on disk; the oldest are deleted beyond it."""
    body_mb: float = 8.0
    """Largest event, in MiB."""
    pixels: int = 12_000_000
    """Most pixels of all pictures of one request together."""
    queue: int = 256
    """Most pictures and answers that wait for the writer; when it is behind, events are dropped and counted."""
    queue_mb: float = 128.0
    """Most memory of what waits for the writer, in MiB."""
    redact: tuple[str, ...] = ()
    """Functions as ``module:function``, called in this order with every picture before it is kept: uint8 (h, w, 3) to the same, or None to
    drop it.  Where one fails the picture is dropped."""
    regions: tuple[tuple[float, float, float, float], ...] = ()
    """Rectangles that are blacked out in every picture before that: left, top, right, bottom as shares of its width and height."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if not self.path or "://" in self.path:
            raise ValueError("`path` must be a directory on a local disk, e.g. captured")
        if not 0 < self.share <= 1:
            raise ValueError("`share` must be above 0 and at most 1")
        if min(self.size, self.queue, self.pixels, self.max_bytes) < 1:
            raise ValueError("`size`, `queue`, `pixels` and `max_bytes` must be at least 1")
        if min(self.days, self.body_mb, self.queue_mb) <= 0:
            raise ValueError("`days`, `body_mb` and `queue_mb` must be positive")
        for name in self.redact:
            if name.count(":") != 1 or not all(name.split(":")):
                raise ValueError(f"`redact` names functions as module:function, got {name!r}")
        for left, top, right, bottom in self.regions:
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError("`regions` are left, top, right, bottom in [0, 1], left before right and top before bottom")

    @property
    def body_bytes(self) -> int:
        """Largest event in bytes."""
        return int(self.body_mb * MEBIBYTE)
