"""Edits of real images by captions (or classes, or rows of conditioning) with a loaded pipeline: images in, images out.

The reference of every edit is the null edit, the same image drawn again, and not the image itself, so that what coding and resizing lose
does not count as an effect.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from engines.conditioning import Conditioning
from engines.editing.edit import Edited, EditTerm
from engines.editing.flow import FlowPath
from engines.editing.inversion import Inversion
from engines.editing.masks import AttentionMaps
from engines.editing.operators import Kept, Operator, OperatorName, operator_of
from engines.errors import UnsupportedPipelineError
from engines.pipeline import Pipeline
from engines.spec import digest

Images = Float[np.ndarray, "n 3 h w"]
Wanted = str | int | Sequence[str] | Sequence[int] | Conditioning
"""A caption or a class for all images, or one an image; or rows that the network reads as they are."""

VERSION = "editing-1"
"""Changed whenever an operator comes to mean another edit."""


@dataclass(frozen=True, eq=False, kw_only=True)
class NamedTerm:
    """One concept, added or removed, by name.  See :class:`engines.editing.edit.EditTerm`."""

    wanted: Wanted
    scale: float | None = None
    """How strongly; None is what suits the operator where the source is the null condition.

    Against a caption of the whole image 1 says just what ``wanted`` says, and more than 2 exaggerates.
    """
    sign: int = 1
    threshold: float = 0.75
    warm_up: int = 0
    cool_down: int | None = None
    user_mask: Float[np.ndarray, "..."] | None = None
    """Where it may act, in [0, 1], (h w) or one an image (n h w), of the images' size."""
    negative: Wanted | None = None
    """What it is the opposite of; None is the source."""
    tokens: int | None = None
    """Length of its caption in tokens, for attention maps; None is all tokens but the first."""


@dataclass(frozen=True, eq=False)
class EditedImages:
    """Edited images, and where they were edited."""

    images: Images
    masks: Float[np.ndarray, "n k h w"]
    """Where each of the k terms acted, mean over steps, in [0, 1]."""
    rows: int
    """Network rows spent on all images."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LatentEditor:
    """A pipeline and a way of editing with it.  Not thread safe, as the pipeline is not."""

    pipeline: Pipeline
    name: OperatorName
    operator: Operator

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever an edit of the same images would."""
        return digest({"pipeline": self.pipeline.fingerprint, "editing": VERSION, "operator": self.name, **self.operator.note})

    def invert(self, images: Images, seeds: Sequence[int], source: Wanted | None = None) -> Kept:
        """What all edits of images (float32 RGB in [0, 1], of the pipeline's size) start from, on the CPU; ``source`` says what they show.

        Without a source it is the null condition.  Raises ValueError for images of another size or a number of seeds that does not fit,
        CaptionTooLongError for a caption that would be cut, UnsupportedPipelineError where a source is needed and not given.
        """
        if images.shape[1:] != self.pipeline.image_shape or not 0 < len(images) == len(seeds):
            raise ValueError(
                f"need images (n, {', '.join(map(str, self.pipeline.image_shape))}) and one seed for each, "
                f"got {images.shape} and {len(seeds)} seeds"
            )
        told = self._source(source, len(images))
        parts = [self._inverted(images[rows], seeds[rows], told[rows]) for rows in self._batches(len(images), 1)]
        return _joined(parts)

    def null(self, kept: Kept) -> Images:
        """The images drawn again with nothing changed."""
        return self.edit(kept, ()).images

    def edit(self, kept: Kept, terms: Sequence[NamedTerm]) -> EditedImages:
        """The images with terms added and removed.  Raises as :meth:`invert` does, before anything is drawn."""
        found = [self._term(term) for term in terms]
        for term in found:
            _check_rows(term, len(kept))
        size = self.pipeline.image_shape[1:]
        images, masks, spent = [], [], 0
        for rows in self._batches(len(kept), 1 + sum(len(term.told) for term in found)):
            edited = self.operator.edit(kept[rows].to(self.pipeline.device), [_of(term, rows) for term in found])
            images.append((self.pipeline.codec.decode(edited.latents) / 2 + 0.5).clamp(0, 1).cpu().numpy())
            masks.append(_at_size(edited, size))
            spent += edited.rows
        return EditedImages(np.concatenate(images), np.concatenate(masks), spent)

    def rows_per_edit(self, terms: Sequence[NamedTerm]) -> int:
        """Network rows that one image's edit costs; its inversion is paid once."""
        return self.operator.rows([self._term(term) for term in terms])

    @property
    def rows_per_inversion(self) -> int:
        """Network rows that one image's inversion costs."""
        return self.operator.inversion_rows

    def _inverted(self, images: Images, seeds: Sequence[int], source: Conditioning) -> Kept:
        pixels = torch.from_numpy(np.ascontiguousarray(images, np.float32)) * 2 - 1
        latents = self.pipeline.codec.encode(pixels.to(self.pipeline.device)).to(self.pipeline.device)
        return self.operator.invert(latents, seeds, source).to(torch.device("cpu"))

    def _batches(self, images: int, rows: int) -> Iterator[slice]:
        """So many images at a time that a call has about as many rows as guided drawing has."""
        size = max(1, min(self.pipeline.batch, 2 * self.pipeline.batch // rows))
        return (slice(start, min(start + size, images)) for start in range(0, images, size))

    def _source(self, source: Wanted | None, images: int) -> Conditioning:
        told = self.pipeline.null if source is None else self._told(source)
        if told is None:
            raise UnsupportedPipelineError(
                "this network has no condition that stands for none, so that edits need to know what images show; name their source"
            )
        if len(told) not in {1, images}:
            raise ValueError(f"need one source, or one for each of {images} images, got {len(told)}")
        return told.expand(images) if len(told) == 1 else told

    def _told(self, wanted: Wanted) -> Conditioning:
        if isinstance(wanted, Conditioning):
            return wanted.to(self.pipeline.device)
        if isinstance(wanted, str):
            return self.pipeline.told([wanted])
        return self.pipeline.told([wanted] if isinstance(wanted, int) else wanted)

    def _term(self, term: NamedTerm) -> EditTerm:
        return EditTerm(
            conditioning=self._told(term.wanted),
            scale=self.operator.scale if term.scale is None else term.scale,
            sign=term.sign,
            threshold=term.threshold,
            warm_up=term.warm_up,
            cool_down=term.cool_down,
            user_mask=None if term.user_mask is None else self._latent_mask(term.user_mask),
            negative=None if term.negative is None else self._told(term.negative),
            tokens=term.tokens,
        )

    def _latent_mask(self, mask: Float[np.ndarray, "..."]) -> Float[Tensor, "m h w"]:
        """Averaged over what each latent position covers."""
        given = torch.from_numpy(np.ascontiguousarray(mask, np.float32)).to(self.pipeline.device)
        if given.ndim not in {2, 3} or given.shape[-2:] != self.pipeline.image_shape[1:]:
            raise ValueError(f"a user mask is (h w) or (n h w) of the images' size, got {mask.shape}")
        height, width = self.pipeline.latent_shape[1:]
        return interpolate(given.view(-1, 1, *given.shape[-2:]), (height, width), mode="area")[:, 0]


def latent_editor(
    pipeline: Pipeline, operator: OperatorName = "auto", *, skip: float = 0.15, attention: AttentionMaps | None = None
) -> LatentEditor:
    """An editor over a pipeline; see :func:`engines.editing.operators.operator_of`."""
    name, made = operator_of(pipeline, operator, skip=skip, attention=attention)
    return LatentEditor(pipeline=pipeline, name=name, operator=made)


def _check_rows(term: EditTerm, images: int) -> None:
    """One row, or one an image, in everything that a term has."""
    counts = [len(each) for each in term.told] + ([] if term.user_mask is None else [len(term.user_mask)])
    if any(count not in {1, images} for count in counts):
        raise ValueError(f"a term names one thing, or one for each of {images} images, got {counts}")


def _of(term: EditTerm, rows: slice) -> EditTerm:
    """The same term for some of the images."""
    return replace(
        term,
        conditioning=_some(term.conditioning, rows),
        negative=None if term.negative is None else _some(term.negative, rows),
        user_mask=term.user_mask if term.user_mask is None or len(term.user_mask) == 1 else term.user_mask[rows],
    )


def _some(told: Conditioning, rows: slice) -> Conditioning:
    return told if len(told) == 1 else told[rows]


def _at_size(edited: Edited, size: tuple[int, ...]) -> Float[np.ndarray, "n k h w"]:
    if not edited.masks:
        return np.zeros((len(edited.latents), 0, *size), np.float32)
    return interpolate(torch.stack(edited.masks, 1), size, mode="nearest").cpu().numpy().astype(np.float32)


def _joined(parts: Sequence[Kept]) -> Kept:
    inversions = [part for part in parts if isinstance(part, Inversion)]
    return Inversion.cat(inversions) if inversions else FlowPath.cat([part for part in parts if isinstance(part, FlowPath)])
