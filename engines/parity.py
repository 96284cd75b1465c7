"""Does a backend compute the numbers of the reference?  Measured on inputs like those it will meet, and kept as a certificate."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from engines.certificate import Certificate
from engines.engine import Engine
from engines.spec import TORCH_TYPES

POISON = -12345.0
"""Outputs are full of it before they are written."""

ROWS = 8
"""Rows of the largest test batch."""

Feeds = Mapping[str, Tensor]


def certify(candidate: Engine, reference: Engine, batches: Sequence[Feeds]) -> Certificate:
    """Compare on every batch, the first batch twice, and its first row with itself alone; buffers are poisoned before.

    Batches are cut to what the engine takes.
    """
    most = candidate.spec.profile.max_b
    batches = [{name: value[:most] for name, value in feeds.items()} for feeds in batches]
    pairs = [(_poisoned(candidate, feeds), _host(reference.run(feeds))) for feeds in batches]
    again = _poisoned(candidate, batches[0])
    alone = _host(candidate.run({name: value[:1] for name, value in batches[0].items()}))
    gradients = candidate.spec.gradients
    primal = [each.name for each in candidate.spec.outputs if each.name not in gradients]
    first = pairs[0][0]
    return Certificate(
        backend=candidate.backend,
        precision=candidate.spec.precision,
        error=max((relative_error(ours[name], theirs[name]) for ours, theirs in pairs for name in primal), default=0.0),
        batch_error=max(relative_error(value, first[name][:1]) for name, value in alone.items()),
        gradient_error=max((relative_error(ours[n], theirs[n]) for ours, theirs in pairs for n in gradients), default=None),
        gradient_cosine=min((least_cosine(ours[n], theirs[n]) for ours, theirs in pairs for n in gradients), default=None),
        finite=all(bool(value.isfinite().all()) for _, value in _every(pairs)),
        written=not any(bool((value == POISON).any()) for _, value in _every(pairs)),
        deterministic=all(torch.equal(again[name], value) for name, value in first.items()),
        batches=len(batches),
    )


def _poisoned(engine: Engine, feeds: Feeds) -> dict[str, Tensor]:
    """Results in buffers that were full of a number no network computes."""
    rows = len(next(iter(feeds.values())))
    out = {
        each.name: torch.full((rows, *each.row), POISON, dtype=TORCH_TYPES[each.dtype], device=engine.device)
        for each in engine.spec.outputs
    }
    return _host(engine.run(feeds, out))


def _host(results: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in results.items()}


def _every(pairs: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]]) -> Iterator[tuple[str, Tensor]]:
    return ((name, value) for ours, _ in pairs for name, value in ours.items())


def least_cosine(ours: Tensor, theirs: Tensor) -> float:
    """Smallest cosine between corresponding rows, in float64; rows that are zero on both sides agree."""
    a, b = (each.double().reshape(len(each), -1) for each in (ours, theirs))
    norms = a.norm(dim=1) * b.norm(dim=1)
    cosine = (a * b).sum(1) / norms.clamp(min=1e-30)
    return float(torch.where((a.norm(dim=1) == 0) & (b.norm(dim=1) == 0), 1.0, cosine).min())


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest ||a - b|| / ||b|| over rows, in float64; infinite where shapes or finiteness differ."""
    if ours.shape != theirs.shape or not ours.isfinite().all():
        return float("inf")
    a, b = (each.double().reshape(len(each), -1) for each in (ours, theirs))
    return float(((a - b).norm(dim=1) / b.norm(dim=1).clamp(min=1e-30)).max())
