"""What was measured when a backend was compared with the reference, and whether that suffices."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from engines.spec import Precision

FORWARD_LIMITS: Mapping[Precision, float] = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 5e-3, "bf16": 3e-2, "fp8": 8e-2}
"""Largest relative error of an output row, by precision."""

GRADIENT_LIMITS: Mapping[Precision, tuple[float, float]] = {
    "fp32": (1e-4, 0.99999),
    "tf32": (5e-3, 0.9999),
    "fp16": (1e-2, 0.9999),
    "bf16": (5e-2, 0.999),
}
"""Largest relative error and smallest cosine of a gradient row.  A precision that is not listed gives no gradients."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Made when an engine is built, kept beside it, required before its first use."""

    backend: str
    precision: Precision
    error: float
    """Largest ||a - b|| / ||b|| of an output row, b being torch in float32."""
    batch_error: float
    """The same between a row alone and in its batch; 0 means bit for bit."""
    gradient_error: float | None = None
    """As ``error``, of the outputs that are gradients; None where there are none."""
    gradient_cosine: float | None = None
    """Smallest cosine of a gradient row with the reference's."""
    finite: bool = True
    written: bool = True
    """Whether every number of the output buffers was written."""
    deterministic: bool = True
    """Whether a second run gave the same bits.  Not required, but said."""
    batches: int = 0

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        return self.failure is None

    @property
    def failure(self) -> str | None:
        """Why the engine may not be used, or None."""
        limit = FORWARD_LIMITS[self.precision]
        if not self.written:
            return "it leaves parts of its output unwritten"
        if not self.finite:
            return "its output is not finite"
        if not self.error <= limit:  # a number that is none is above every limit
            return f"its output differs from the reference by {self.error:.1e}, allowed is {limit:.0e}"
        if not self.batch_error <= limit:
            return f"a row differs by {self.batch_error:.1e} from itself in a batch, allowed is {limit:.0e}"
        return self._gradient_failure()

    def _gradient_failure(self) -> str | None:
        if self.gradient_error is None or self.gradient_cosine is None:
            return None
        if self.precision not in GRADIENT_LIMITS:
            return f"gradients are not allowed in {self.precision}"
        error, cosine = GRADIENT_LIMITS[self.precision]
        if not self.gradient_error <= error:
            return f"its gradient differs from the reference by {self.gradient_error:.1e}, allowed is {error:.0e}"
        if not self.gradient_cosine >= cosine:
            return f"its gradient points elsewhere: cosine {self.gradient_cosine:.6f} with the reference, needed is {cosine}"
        return None


def certificate_note(certificate: Certificate) -> dict[str, Any]:
    """As it is stored."""
    return asdict(certificate)


def read_certificate(note: Mapping[str, Any] | None) -> Certificate | None:
    """A stored certificate; a note of another form is none."""
    if note is None or set(note) != {field.name for field in fields(Certificate)}:
        return None
    numbers = [
        note["error"],
        note["batch_error"],
        *(each for each in (note["gradient_error"], note["gradient_cosine"]) if each is not None),
    ]
    words, flags = (note["backend"], note["precision"]), (note["finite"], note["written"], note["deterministic"])
    right = (
        all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in numbers)
        and all(isinstance(each, str) for each in words)
        and all(isinstance(each, bool) for each in flags)
        and isinstance(note["batches"], int)
    )
    return Certificate(**note) if right and note["precision"] in FORWARD_LIMITS else None
