"""A loaded pipeline as a generator that can be differentiated in what it is told.

A sentence says which of its words are soft: ``("a photo of a", 0, 1, 2, 3)`` is a prefix before four of them.  A small generator understands
words in the places of the captions that it was taught only; there a whole caption is soft (:meth:`Prompted.caption`).  Of several text
encoders a token's rows stand side by side, so that one soft token is one row for all of them.

The prompt and the text encoders stay in single precision on the CPU; network and decoder compute where the pipeline draws, in its
precision, but for fp16, whose small gradients would be lost: there they compute in fp32.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count

import torch
from torch import Tensor

from engines.backends.weights import copied
from engines.conditioning import Conditioning
from engines.course import Course
from engines.errors import UnsupportedPipelineError
from engines.fitted import FittedSolver
from engines.guided.edits import Decode, pixels
from engines.guided.gradient_path import Latents, Prompt, PromptedGenerator
from engines.guided.vocabulary import Vocabulary, spoken, token_ids, vocabulary_of
from engines.networks import VaeDecode
from engines.pipeline import Pipeline
from engines.pipelines.codecs import KlCodec
from engines.pipelines.wording import Sentence, Wording
from engines.plan import SamplingPlan
from engines.protocols import Denoiser
from engines.samplers import SAMPLERS, STOCHASTIC_SAMPLERS, OnStep, Sampler, StochasticSampler, sample_ddpm


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompted:
    """A generator and the sentence that it is told, some of whose words are soft.  Not thread safe, as the pipeline is not."""

    generator: PromptedGenerator
    sentence: Sentence
    vocabulary: Vocabulary
    """Whole words, for projections and exchanges."""
    wording: Wording

    @cached_property
    def slots(self) -> int:
        """Soft words of the sentence."""
        return len({piece for piece in self.sentence if isinstance(piece, int)})

    @property
    def width(self) -> int:
        """Numbers of one soft word."""
        return sum(_widths(self.wording))

    def about(self, sentence: Sentence) -> "Prompted":
        """The same generator, told another sentence."""
        return replace(
            self, sentence=_checked(sentence), generator=replace(self.generator, encode=partial(_encoded, self.wording, sentence))
        )

    def caption(self, text: str) -> tuple["Prompted", Prompt]:
        """A whole caption as soft words, and the prompt that says exactly it.

        Words that are not one token of every text encoder stay as they are.  Raises ValueError where none is.
        """
        sentence: list[str | int] = []
        rows, number = list[Tensor](), count()
        for word in text.split():
            row = self.spelled(word)
            sentence.append(word if row is None else next(number))
            rows += [] if row is None else [row]
        if not rows:
            raise ValueError(f"{text!r} has no word that is one token of every text encoder; begin with plain words")
        return self.about(tuple(sentence)), torch.stack(rows)

    def spelled(self, word: str) -> Tensor | None:
        """A word's row (d); None where it is not one token of every text encoder."""
        ids = token_ids(self.wording, word)
        if any(len(each) != 1 for each in ids):
            return None
        return torch.cat([table.weight.detach()[int(each)].float() for table, each in zip(self.wording.tables, ids, strict=True)])

    def text(self, words: Sequence[str]) -> str:
        """The sentence with words in the places of its soft ones."""
        return spoken(self.sentence, words)


def prompted(
    pipeline: Pipeline, sentence: Sentence, *, plan: SamplingPlan | None = None, vocabulary: Vocabulary | None = None
) -> Prompted:
    """The pipeline told a sentence, by its own plan unless another is given; of equal words its pictures are the pipeline's.

    Guided plans cost two network rows a step; plans with guidance 1 one.  Raises UnsupportedPipelineError for a pipeline that takes no words or
    whose decoder gives no gradients, ValueError for soft words that are not numbered from 0 on.
    """
    wording = pipeline.wording
    if wording is None:
        raise UnsupportedPipelineError(
            f"prompts are searched for pipelines that draw captions, a {pipeline.family.name} pipeline takes none; use a text-to-image directory"
        )
    plan, course = plan or pipeline.plan, replace(pipeline.course, network=pipeline.differentiable)
    path, null, decode = course.path(plan), pipeline.null, _decoder(pipeline)

    def denoise(x: Latents, sigma: Tensor, told: Conditioning, /) -> Latents:
        return course.denoiser(plan, told, null)(x, sigma)

    generator = PromptedGenerator(
        encode=partial(_encoded, wording, _checked(sentence)),
        denoise=denoise,
        decode=lambda latents: decode(path.end * latents),
        sigmas=tuple(path.sigmas),
        shape=pipeline.latent_shape,
        sampler=_sampler(plan),
        fresh=_fresh(course, plan),
        start=path.start,
        device=pipeline.device,
    )
    return Prompted(generator=generator, sentence=sentence, vocabulary=vocabulary or vocabulary_of(wording), wording=wording)


def _encoded(wording: Wording, sentence: Sentence, prompt: Prompt) -> Conditioning:
    rows = prompt.to("cpu", torch.float32).split(_widths(wording), 1)  # type: ignore[no-untyped-call]
    return wording.encode([sentence], rows)


def _widths(wording: Wording) -> list[int]:
    return [table.embedding_dim for table in wording.tables]


def _checked(sentence: Sentence) -> Sentence:
    numbers = {piece for piece in sentence if isinstance(piece, int)}
    if numbers != set(range(len(numbers))):
        raise ValueError(f"soft words are numbered from 0 on, got {sorted(numbers)}")
    return sentence


def _sampler(plan: SamplingPlan) -> Sampler:
    return SAMPLERS.get(plan.sampler, SAMPLERS["ddim"]) if plan.solver is None else partial(_fitted, plan.solver)


def _fitted(
    solver: FittedSolver, denoise: Denoiser, x: Latents, sigmas: tuple[float, ...], on_step: OnStep | None = None
) -> Latents:
    """A fitted solver, or its first steps, the last of which goes to the clean estimate."""
    steps = len(sigmas) - 1
    if steps < solver.steps:
        clean = (0.0, 1.0, 0.0)[: len(solver.weights[steps - 1])]
        solver = FittedSolver(solver.levels[: steps + 1], (*solver.weights[: steps - 1], clean))
    return solver.sample(denoise, x, sigmas, on_step)


def _fresh(course: Course, plan: SamplingPlan) -> StochasticSampler | None:
    if plan.sampler == "ddpm":
        return partial(sample_ddpm, variance=course.scheduler.variance)
    return STOCHASTIC_SAMPLERS.get(plan.sampler)


def _decoder(pipeline: Pipeline) -> Decode:
    """In torch, for gradients, where the pipeline draws."""
    if not isinstance(pipeline.codec, KlCodec):
        return pixels
    vae = getattr(pipeline.codec.encoder, "vae", None)
    if vae is None:
        raise UnsupportedPipelineError("this pipeline's autoencoder gives no gradients; load the directory's own weights")
    decoder = VaeDecode(vae)
    if pipeline.device.type == "cpu":
        return decoder
    placed = copied(decoder, "fp32" if pipeline.precision == "fp16" else pipeline.precision, pipeline.device)
    return lambda latents: placed(latents).float()
