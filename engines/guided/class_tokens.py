"""Words for what a deployed model sees: token embeddings learned from pictures that it sorted, everything else frozen.

Textual inversion (Gal et al. 2023) as TIME uses it (Jeanneret et al., "Text-to-image models for counterfactual explanations: a black-box
approach", 2024): some words for the look of all pictures, then some for each class that the model predicted.  Followed: squared error of the
predicted noise, summed over a picture; uniform timesteps; latents drawn from the autoencoder's posterior; Adam, the decay added to
the gradient of the new words alone.  Ours: several text encoders, each with words of its own; a course that was interrupted goes on to the same
end.  No label but the model's is needed.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engines.conditioning import Conditioning
from engines.errors import UnsupportedPipelineError
from engines.guided.canvas import Pictures
from engines.guided.token_file import Course, load_course, save_course
from engines.guided.token_options import TokenOptions
from engines.pipeline import Pipeline
from engines.pipelines.codecs import KlCodec
from engines.pipelines.wording import Rows, Sentence, Wording
from engines.precondition import estimates
from engines.spec import digest

VERSION = "class-tokens-1"
"""Changed whenever the same pictures come to teach other words."""
_UNUSED = {"save_every", "look", "sentence", "media", "medium", "start"}
"""Settings that do not decide the words, or do so by the sentences and rows that follow from them."""
OnIteration = Callable[[int, int], None]
"""(iterations that are over, of how many)"""


class Spread(NamedTuple):
    """Pictures as the autoencoder spreads them: draws are mean + std * noise."""

    mean: Float[Tensor, "n c h w"]
    std: Float[Tensor, "n c h w"]


@dataclass(frozen=True, eq=False)
class Shown:
    """Pictures to learn from, read when the first of them is needed."""

    digest: str
    """Of the pictures."""
    count: int
    read: Callable[[], Spread]

    @cached_property
    def spread(self) -> Spread:
        """Of all of them, on the pipeline's device."""
        return self.read()

    def some(self, which: Sequence[int]) -> "Shown":
        """Some of the pictures."""
        at = list(which)
        return Shown(digest([self.digest, at]), len(at), lambda: Spread(self.spread.mean[at], self.spread.std[at]))


def speaking(pipeline: Pipeline) -> Wording:
    """The pipeline's text encoders.  Raises UnsupportedPipelineError for one that is not asked in words, or is no diffusion."""
    if pipeline.wording is None:
        raise UnsupportedPipelineError(
            f"words are learned for pipelines that draw captions, a {pipeline.family.name} pipeline takes none; "
            "use a text-to-image directory, or another method (ensemble asks for scores alone as well)"
        )
    _ = pipeline.diffusion  # a flow has no noise to predict, and says so
    return pipeline.wording


def show(pipeline: Pipeline, batches: Callable[[], Iterable[Pictures]], count: int, of: str) -> Shown:
    """``count`` images (RGB in [0, 1], of the pipeline's size), some at a time; ``of`` is their digest.

    Nothing is spread where no autoencoder in torch is at hand.
    """

    def read() -> Spread:
        parts = [_spread(pipeline, images) for images in batches()]
        return Spread(torch.cat([part.mean for part in parts]), torch.cat([part.std for part in parts]))

    return Shown(of, count, read)


def learn_look(
    pipeline: Pipeline,
    shown: Shown,
    *,
    options: TokenOptions,
    seed: int = 0,
    file: Path | None = None,
    on_iteration: OnIteration | None = None,
) -> Course:
    """Words for what all pictures have in common; see :func:`learn_class`."""
    words = speaking(pipeline).words(options.start, options.tokens)
    sentences = tuple(options.about_all(medium) for medium in options.media)
    nothing = tuple(row[:0] for row in words)
    return _Course(pipeline, shown, sentences, nothing, options, seed).run(words, file, on_iteration)


def learn_class(
    pipeline: Pipeline,
    shown: Shown,
    look: Rows,
    start: str,
    *,
    options: TokenOptions,
    seed: int = 0,
    file: Path | None = None,
    on_iteration: OnIteration | None = None,
) -> Course:
    """Words for the pictures of one class, behind those for all (``look``), which stay as they are; they begin as ``start``.

    With ``file`` the state is saved there now and then, and a course that is there already, of the same pictures, pipeline and settings, goes on
    to where it would have ended.  Raises UnsupportedPipelineError for a pipeline that takes no words, CaptionTooLongError, TokenFileError.
    """
    words = speaking(pipeline).words(start, options.tokens)
    sentences = tuple(options.about_class(medium) for medium in options.media)
    return _Course(pipeline, shown, sentences, look, options, seed).run(words, file, on_iteration)


@dataclass(frozen=True, eq=False)
class _Course:
    pipeline: Pipeline
    shown: Shown
    sentences: tuple[Sentence, ...]
    frozen: Rows
    """Words that come first and stay as they are."""
    options: TokenOptions
    seed: int

    def run(self, words: Rows, file: Path | None, on_iteration: OnIteration | None) -> Course:
        if not self.shown.count:
            raise ValueError("words are learned from at least one picture")
        key, total = self.key(words), self.options.iterations
        course = (load_course(file, key) if file is not None else None) or Course.begin(words)
        while (at := course.iterations) < total:
            course = self.update(course, at)
            if file is not None and (at + 1 == total or (at + 1) % self.options.save_every == 0):
                save_course(file, key, course)
            if on_iteration is not None:
                on_iteration(at + 1, total)
        return course

    def key(self, words: Rows) -> str:
        """Of all that decides the words."""
        settings = {name: value for name, value in asdict(self.options).items() if name not in _UNUSED}
        rows = [_sha(row) for row in (*self.frozen, *words)]
        return digest(
            [
                VERSION,
                self.pipeline.fingerprint,
                self.shown.digest,
                [list(each) for each in self.sentences],
                settings,
                rows,
                self.seed,
            ]
        )

    def update(self, course: Course, at: int) -> Course:
        """One iteration of Adam (Kingma and Ba 2015, algorithm 1)."""
        options, (slow, slower) = self.options, self.options.betas
        loss, gradient = self.gradient(course.rows, at)
        found = [g + options.decay * row for g, row in zip(gradient, course.rows, strict=True)]
        first = tuple(slow * m + (1 - slow) * g for m, g in zip(course.first, found, strict=True))
        second = tuple(slower * v + (1 - slower) * g.square() for v, g in zip(course.second, found, strict=True))
        m_scale, v_scale = 1 - slow ** (at + 1), 1 - slower ** (at + 1)
        rows = tuple(
            row - options.lr * (m / m_scale) / ((v / v_scale).sqrt() + options.eps)
            for row, m, v in zip(course.rows, first, second, strict=True)
        )
        return replace(course, rows=rows, first=first, second=second, losses=(*course.losses, loss))

    def gradient(self, rows: Rows, at: int) -> tuple[float, Rows]:
        """Mean over the batch of the summed squared error, and its gradient in the words; the loss is told per number of a picture."""
        wording, device = speaking(self.pipeline), self.pipeline.device
        leaves = tuple(row.detach().requires_grad_() for row in rows)
        with torch.enable_grad():
            whole = wording.encode(
                self.sentences, tuple(torch.cat([old, new]) for old, new in zip(self.frozen, leaves, strict=True))
            )
        told = {name: value.detach().to(device) for name, value in whole.tensors.items()}
        learns = [name for name, value in whole.tensors.items() if value.requires_grad]
        for name in learns:
            told[name].requires_grad_()
        loss, gradient = 0.0, {name: torch.zeros_like(told[name]) for name in learns}
        for start in range(0, self.options.batch, self.options.micro):
            error = self.error(Conditioning(told), at, range(start, min(start + self.options.micro, self.options.batch)))
            for name, part in zip(learns, torch.autograd.grad(error, [told[each] for each in learns]), strict=True):
                gradient[name] += part
            loss += float(error.detach())
        back = torch.autograd.grad(
            [whole.tensors[name] for name in learns], leaves, [gradient[name].to(whole.tensors[name]) for name in learns]
        )
        return loss / self.shown.spread.mean[0].numel(), back

    def error(self, told: Conditioning, at: int, places: range) -> Tensor:
        """Of some places of an iteration's batch, as a share of the whole; what is drawn follows from iteration and place alone."""
        diffusion, shown, device = self.pipeline.diffusion, self.shown.spread, self.pipeline.device
        drawn = [self.drawn(at, place) for place in places]
        which, t, media = (torch.tensor(each) for each in zip(*(numbers for numbers, _ in drawn), strict=True))
        draw, noise = torch.from_numpy(np.stack([normal for _, normal in drawn], 1)).to(shown.mean)
        clean = shown.mean[which] + shown.std[which] * draw
        x, alpha_bar = diffusion.noised(clean, t, noise), diffusion.alpha_bar(t, len(places)).to(clean.dtype)
        with torch.enable_grad():
            out = self.pipeline.differentiable(x, t.to(device, x.dtype), told[media.to(device)])
            eps, _ = estimates(diffusion.prediction, x, out, alpha_bar)
            error: Tensor = (eps - noise).square().sum() / self.options.batch
        return error

    def drawn(self, at: int, place: int) -> tuple[tuple[int, int, int], Float[np.ndarray, "2 c h w"]]:
        """(picture, timestep, sentence), and what spreads the picture and makes it noisy."""
        rng = np.random.default_rng((self.seed, at, place))
        highs = (self.shown.count, self.pipeline.diffusion.timesteps, len(self.sentences))
        which, t, medium = (int(rng.integers(high)) for high in highs)
        return (which, t, medium), rng.standard_normal((2, *self.shown.spread.mean.shape[1:]), np.float32)


def _spread(pipeline: Pipeline, images: Pictures) -> Spread:
    codec, shown = pipeline.codec, 2 * torch.from_numpy(np.ascontiguousarray(images, np.float32)) - 1
    mean: Tensor = codec.encode(shown).to(pipeline.device)
    vae = getattr(codec.encoder, "vae", None) if isinstance(codec, KlCodec) else None
    if vae is None:
        return Spread(mean, torch.zeros_like(mean))
    with torch.no_grad():
        raw = vae.encode(shown.to(vae.device), return_dict=False)[0].std
    return Spread(mean, raw.to(mean) * float(vae.config.scaling_factor))


def _sha(row: Tensor) -> str:
    return hashlib.sha256(row.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
