"""Does a backend compute the numbers of the reference?  Measured on inputs like those it will meet, and kept as a certificate."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from engines.noise import start_noise
from engines.precondition import NoiseLevels
from engines.protocols import Denoiser, Engine
from engines.samplers import sample_ddim
from engines.schedules import trailing_sigmas

FORWARD_LIMITS = {"fp32": 1e-5, "tf32": 2e-3, "fp16": 5e-3, "bf16": 3e-2, "fp8": 8e-2}
"""Largest relative error of an output row, by precision."""

ROWS = 8
"""Rows of the largest test batch."""

Feeds = Mapping[str, Tensor]


@dataclass(frozen=True)
class Certificate:
    """What was measured when a backend was compared with the reference."""

    backend: str
    precision: str
    error: float
    """Largest ||a - b|| / ||b|| of a row, b being the reference."""
    batch_error: float
    """The same between a row alone and in its batch; 0 means bit for bit."""
    finite: bool
    batches: int

    @property
    def passed(self) -> bool:
        """Whether the backend may be used."""
        return self.failure is None

    @property
    def failure(self) -> str | None:
        """Why the backend may not be used, or None."""
        limit = FORWARD_LIMITS[self.precision]
        if not self.finite:
            return "its output is not finite"
        if self.error > limit:
            return f"its output differs from the reference by {self.error:.1e}, allowed is {limit:.0e}"
        if self.batch_error > limit:
            return f"a row differs by {self.batch_error:.1e} from itself in a batch, allowed is {limit:.0e}"
        return None


def certify(candidate: Engine, reference: Engine, batches: Sequence[Feeds]) -> Certificate:
    """Compare on every batch, and the first row of the first batch with itself alone."""
    output = reference.spec.outputs[0].name
    pairs = [(candidate.run(feeds)[output].cpu(), reference.run(feeds)[output].cpu()) for feeds in batches]
    alone = candidate.run({name: value[:1] for name, value in batches[0].items()})[output].cpu()
    return Certificate(
        backend=candidate.backend,
        precision=candidate.spec.precision,
        error=max(relative_error(ours, theirs) for ours, theirs in pairs),
        batch_error=relative_error(alone, pairs[0][0][:1]),
        finite=all(bool(ours.isfinite().all()) for ours, _ in pairs),
        batches=len(batches),
    )


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest ||a - b|| / ||b|| over rows, in float64; infinite where shapes or finiteness differ."""
    if ours.shape != theirs.shape or not ours.isfinite().all():
        return float("inf")
    a, b = ours.double().flatten(1), theirs.double().flatten(1)
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp(min=1e-30)).max())


def certificate_note(certificate: Certificate) -> dict[str, Any]:
    """As it is stored."""
    return asdict(certificate)


def read_certificate(note: Mapping[str, Any] | None) -> Certificate | None:
    """A stored certificate; a note of another form is none."""
    if note is None or set(note) != {field.name for field in fields(Certificate)}:
        return None
    return Certificate(**note)


def clean_latents(denoise: Denoiser, levels: NoiseLevels, shape: tuple[int, int, int]) -> Tensor:
    """Rough samples of the reference itself: two steps suffice to be on the distribution's scale."""
    sigmas = trailing_sigmas(levels.sigmas, 2)
    return sample_ddim(denoise, sigmas[0] * start_noise(range(ROWS), shape), sigmas)


def noised_batches(clean: Tensor, contexts: Tensor, levels: NoiseLevels, sizes: Sequence[int]) -> list[Feeds]:
    """Network inputs as in sampling: clean + noise at levels spread over the schedule, every row at another one."""
    table = torch.tensor(levels.sigmas)
    total, start = sum(sizes), 0
    batches: list[Feeds] = []
    every = (
        torch.linspace(len(table) - 1, 0, total).round().long()[torch.randperm(total, generator=torch.Generator().manual_seed(0))]
    )
    for size in sizes:
        rows = torch.arange(start, start + size)
        t = every[rows]
        sigma = table[t].view(-1, 1, 1, 1)
        x = (clean[rows % len(clean)] + sigma * start_noise((1000 + rows).tolist(), clean.shape[1:])) * (1 + sigma**2).rsqrt()
        batches.append({"sample": x.float(), "t": t.float(), "context": contexts[rows % len(contexts)]})
        start += size
    return batches
