"""Prompts between words: what a network is told of a base prompt, moved along what each of several prompts changes in it.

e(w) = e_base + Σ_i w_i (e_i − e_base), behind the text encoders, so that it costs no gradient and works where nothing is known but names of
concepts; what encoders sum up (pooled vectors) is moved along.  A search goes over whitened coordinates z: the changes, made orthonormal
by QR and scaled to their median length, so that every direction of z moves the prompt equally far; w = basis · z reads z as weights of words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.pipeline import Images, Pipeline, Wanted
from engines.protocols import Prompts

NEW = 0.1
"""A change of which those before it leave less than this share unsaid is left out: its weight would be arbitrary."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Blend:
    """The span of some prompts around a base; draws by any pipeline of the same directory and settings."""

    concepts: tuple[int, ...]
    """Which of the prompts that were given span it, d of them: those that change what others before them do not."""
    basis: Float[np.ndarray, "d d"]
    """Weights of these prompts = basis · z."""
    base: Conditioning
    """One row."""
    changes: Mapping[str, Tensor]
    """By name of a tensor (d ...): prompt minus base."""

    def told(self, weights: Float[np.ndarray, "n d"]) -> Conditioning:
        """What the network is told, one row per row of weights: 0 is the base, 1 of one prompt alone that prompt."""
        tensors = dict(self.base.expand(len(weights)).tensors)
        for name, change in self.changes.items():
            told = torch.from_numpy(weights).to(change)
            for at, each in enumerate(change):  # one by one: sums of a matrix product would depend on the batch
                tensors[name] = tensors[name] + told[:, at].view(-1, *[1] * each.ndim) * each
        return Conditioning(tensors, len(weights))

    def draw(self, pipeline: Pipeline, weights: Float[np.ndarray, "n d"], seeds: Sequence[int]) -> Images:
        """One image per row of weights and seed, float32 RGB in [0, 1]; equal for equal arguments, whatever else is in the batch."""
        if weights.shape != (len(seeds), len(self.concepts)):
            raise ValueError(f"need {len(self.concepts)} weights for each of {len(seeds)} seeds, got shape {weights.shape}")
        return replace(pipeline, text=_Told(self, weights, pipeline.text)).generate(range(len(seeds)), seeds)


def blend(pipeline: Pipeline, base: str, prompts: Sequence[str]) -> Blend:
    """The span of what each of the prompts changes in the base.

    Raises UnsupportedPipelineError for a pipeline that takes no words, CaptionTooLongError, and ValueError where no prompt changes anything.
    """
    if pipeline.wording is None:
        raise UnsupportedPipelineError(
            f"prompts are blended for pipelines that draw captions, a {pipeline.family.name} pipeline takes none; use a text-to-image directory"
        )
    start, told = pipeline.told([base]), pipeline.told(list(prompts)) if prompts else Conditioning(rows=0)
    changes = {name: value - start.tensors[name] for name, value in told.tensors.items() if value.is_floating_point()}
    changes = {name: value for name, value in changes.items() if bool(value.any())}
    if not changes:
        raise ValueError(f"none of {len(prompts)} prompts changes what the network is told of {base!r}; give it other ones")
    columns = torch.cat([value.flatten(1).cpu().double() for value in changes.values()], 1).T
    kept, basis = whitened(torch.linalg.qr(columns, mode="r").R.numpy())
    some = torch.tensor(kept)
    return Blend(
        concepts=kept,
        basis=basis,
        base=start,
        changes=MappingProxyType({name: value[some.to(value.device)] for name, value in changes.items()}),
    )


def whitened(columns: Float[np.ndarray, "m k"]) -> tuple[tuple[int, ...], Float[np.ndarray, "d d"]]:
    """Columns D that say something new, in their order, and weights of them by whitened coordinates.

    D w = s Q z with D = Q R and s the median length of the columns, so w = s R⁻¹ z.

    >>> kept, basis = whitened(np.array([[2.0, 4.0, 1.0], [0.0, 0.0, 2.0]]))
    >>> kept, basis.round(3).tolist()
    ((0, 2), [[1.059, -0.53], [0.0, 1.059]])
    """
    lengths, kept = np.linalg.norm(columns, axis=0), list[int]()
    for at in np.flatnonzero(lengths).tolist():
        left = np.asarray(np.linalg.qr(columns[:, [*kept, at]], mode="r"))[-1, -1]
        if abs(left) >= NEW * lengths[at] and len(kept) < len(columns):
            kept.append(at)
    triangle = np.asarray(np.linalg.qr(columns[:, kept], mode="r"))
    triangle *= np.sign(np.diag(triangle))[:, None]
    return tuple(kept), np.asarray(float(np.median(lengths[kept])) * np.linalg.inv(triangle))


@dataclass(frozen=True, eq=False)
class _Told:
    """Prompts by their number: rows of weights in place of captions."""

    blend: Blend
    weights: Float[np.ndarray, "n d"]
    text: Prompts

    @property
    def null(self) -> Conditioning | None:
        """As the pipeline's."""
        return self.text.null

    def check(self, wanted: Wanted) -> None:
        """Numbers of rows are all right."""

    def encode(self, wanted: Wanted, rows: int) -> Conditioning:
        """One row for each."""
        return self.blend.told(self.weights[[int(row) for row in wanted or ()]])

    def examples(self, rows: int) -> Conditioning:
        """As the pipeline's."""
        return self.text.examples(rows)
