"""A stand-in for a model that cannot be had: small networks that learned its answers, used only after they were tested.

Distillation by KL(p_server || p_student) (Hinton et al. 2015) with smooth activations, since gradients matter more than accuracy.  Students that
agree on nearly every image may still point elsewhere, so the test that decides is whether a small step along their gradient moves the
deployed model's score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audit_plugin.core.errors import GradientError
from audit_plugin.target.gradients.agreement import agreement
from audit_plugin.target.guidance import StudentOptions

Images = Float[Tensor, "n 3 h w"]
Pictures = NDArray[np.float32]
Scores = NDArray[np.float64]
Predict = Callable[[Pictures], Scores]
"""Pictures (n 3 h w) in [0, 1] -> probabilities of the deployed model (n k)."""
OnStep = Callable[[int, int], None]

WIDEST = 64
"""Pixels that a student looks at; larger pictures are averaged down to it."""
SMALLEST = 1e-7
LEAST_HELD = 8
"""Pictures that judge, in all; and of real and of drawn ones, where there are twice as many."""
LEAST_TAUGHT = 32


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What the tests of a surrogate found."""

    top1: float | None
    """Share of held-out real pictures with the server's class; None without any."""
    top1_generated: float | None
    """The same of those that a diffusion made."""
    rises: float
    times_random: float
    images: int

    def __str__(self) -> str:
        kinds = (("held-out images", self.top1), ("generated ones", self.top1_generated))
        same = " and ".join(f"{share:.0%} of {what}" for what, share in kinds if share is not None)
        return (
            f"same class on {same}; a step along its gradient raises the deployed score of "
            f"{self.rises:.0%}, {self.times_random:.1f} times as far as a random one"
        )


class Student(nn.Module):
    """Pictures in [0, 1] -> logits: strided convolutions, SiLU, average pooling."""

    def __init__(self, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.SiLU(), nn.AvgPool2d(2)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(widths[-1] * 16, 64), nn.SiLU(), nn.Linear(64, classes)
        )

    def forward(self, images: Images) -> Float[Tensor, "n k"]:
        """Logits."""
        if max(images.shape[2:]) > WIDEST:
            images = functional.interpolate(images, (WIDEST, WIDEST), mode="area")
        found: Tensor = self.head(self.body(2 * images - 1))
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Lesson:
    """What students are taught and examined with."""

    pictures: Pictures
    """That teach."""
    told: Scores
    """What the server said of those."""
    held_out: Pictures
    answers: Scores
    """Of the server to the held-out pictures."""
    drawn: NDArray[np.bool_]
    """Which of the held-out pictures a diffusion made."""


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Students as one judge: the logarithm of their mean probability."""

    students: tuple[Student, ...]
    lesson: Callable[[], Lesson]
    """Theirs; made again where students were kept and it was not."""

    def __call__(self, images: Images) -> Float[Tensor, "n k"]:
        """Logits (n k), differentiable."""
        found: Tensor = torch.stack([student(images).softmax(1) for student in self.students]).mean(0).clamp(min=1e-30).log()
        return found


def distil(
    pictures: Pictures,
    answers: Scores,
    *,
    drawn: NDArray[np.bool_] | None = None,
    seed: int = 0,
    options: StudentOptions | None = None,
    on_step: OnStep | None = None,
) -> Surrogate:
    """Students of answers (n k) that the server gave to pictures (n 3 h w); ``drawn`` are those that a diffusion made.

    Raises GradientError for too few to learn from.
    """
    options = options or StudentOptions()
    lesson = lesson_of(pictures, answers, drawn=drawn, seed=seed, options=options)
    return teach(lesson, options, seed=seed, on_step=on_step)


def lesson_of(
    pictures: Pictures, answers: Scores, *, drawn: NDArray[np.bool_] | None = None, seed: int = 0, options: StudentOptions
) -> Lesson:
    """Pictures and answers, parted into those that teach and those that judge: of real and of drawn ones the same share, and some of each."""
    held = round(options.held_out * len(pictures))
    if held < LEAST_HELD or len(pictures) - held < LEAST_TAUGHT:
        raise GradientError(f"a surrogate learns from at least 54 answered pictures, got {len(pictures)}; give more images")
    drawn = np.zeros(len(pictures), bool) if drawn is None else drawn
    order = np.random.default_rng(seed).permutation(len(pictures))
    judging = np.zeros(len(pictures), bool)
    for kind in (order[~drawn[order]], order[drawn[order]]):
        judging[kind[: max(round(options.held_out * len(kind)), min(LEAST_HELD, len(kind) // 2))]] = True
    taught, kept = order[~judging[order]], order[judging[order]]
    return Lesson(
        pictures=pictures[taught], told=answers[taught], held_out=pictures[kept], answers=answers[kept], drawn=drawn[kept]
    )


def taught_again(
    surrogate: Surrogate,
    pictures: Pictures,
    answers: Scores,
    *,
    seed: int = 1,
    options: StudentOptions | None = None,
    on_step: OnStep | None = None,
) -> Surrogate:
    """New students of what taught the old ones and of more pictures; the held-out ones stay what they were."""
    lesson = surrogate.lesson()
    more = replace(lesson, pictures=np.concatenate([lesson.pictures, pictures]), told=np.concatenate([lesson.told, answers]))
    return teach(more, options or StudentOptions(), seed=seed, on_step=on_step)


def new_student(classes: int, options: StudentOptions, at: int) -> Student:
    """The student number ``at``, each a little wider than the one before, with the weights that torch's seed gives it."""
    return Student(classes, [width + 8 * at for width in options.widths])


def teach(lesson: Lesson, options: StudentOptions, *, seed: int = 0, on_step: OnStep | None = None) -> Surrogate:
    """Students of a lesson, new ones."""
    x = torch.from_numpy(np.ascontiguousarray(lesson.pictures, np.float32))
    p = torch.from_numpy(np.clip(lesson.told, SMALLEST, 1).astype(np.float32))
    students = []
    for at in range(options.students):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1000 + at)
            student = new_student(lesson.told.shape[1], options, at)
            told = partial(_told, on_step, at, options.students)
            students.append(_taught(student, x, p / p.sum(1, keepdim=True), options, seed=seed * 1000 + at, on_step=told))
    return Surrogate(tuple(students), lambda: lesson)


def examine(
    surrogate: Surrogate,
    predict: Predict,
    *,
    targets: NDArray[np.int64] | None = None,
    seed: int = 0,
    options: StudentOptions | None = None,
    images: int = 32,
) -> Transfer:
    """Do the students stand in for the server, on real and on drawn pictures apart?  Costs 3 queries for each of ``images`` pictures."""
    options, lesson = options or StudentOptions(), surrogate.lesson()
    shown, ours = lesson.held_out[:images], _answers(surrogate, lesson.held_out)
    real, drawn = (
        agreement(ours[kind], lesson.answers[kind]).top1 if kind.any() else None for kind in (~lesson.drawn, lesson.drawn)
    )
    wanted = lesson.answers[:images].argsort(1)[:, -2] if targets is None else targets[: len(shown)]
    leaf = torch.from_numpy(np.ascontiguousarray(shown, np.float32)).requires_grad_()
    odds = _odds(surrogate(leaf).softmax(1), torch.from_numpy(wanted))
    (gradient,) = torch.autograd.grad(odds.sum(), leaf)
    reach = options.step / 2 * shown[0].size ** 0.5
    rng = np.random.default_rng(seed)
    smooth = functional.interpolate(
        torch.from_numpy(rng.normal(size=(len(shown), 3, 4, 4)).astype(np.float32)), shown.shape[2:], mode="bilinear"
    )
    before, along, aside = (
        _deployed(predict, shown + reach * _unit(direction), wanted) for direction in (torch.zeros_like(gradient), gradient, smooth)
    )
    rise, chance = along - before, np.abs(aside - before).mean()
    return Transfer(
        top1=real,
        top1_generated=drawn,
        rises=float((rise > 0).mean()),
        times_random=float(rise.mean() / chance) if chance > 0 else float("inf") if rise.mean() > 0 else 0.0,
        images=len(shown),
    )


def check_transfer(found: Transfer, options: StudentOptions | None = None) -> None:
    """Raise GradientError, with the numbers, for students that do not stand in for the server."""
    options = options or StudentOptions()
    real, drawn = (1.0 if share is None else share for share in (found.top1, found.top1_generated))
    if (
        real < options.top1
        or drawn < options.top1_generated
        or found.rises < options.rises
        or not found.times_random >= options.times_random
    ):
        raise GradientError(
            f"the surrogate does not stand in for the deployed model: {found} (needed: {options.top1:.0%}, {options.top1_generated:.0%}, "
            f"{options.rises:.0%} and {options.times_random:.1f} times); give more images, or explain without gradients"
        )


def _taught(student: Student, x: Images, p: Tensor, options: StudentOptions, *, seed: int, on_step: OnStep) -> Student:
    steps = options.epochs * -(-len(x) // options.batch)
    optimiser = torch.optim.AdamW(student.parameters(), options.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, total_steps=steps)
    g, done = torch.Generator().manual_seed(seed), 0
    for _ in range(options.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=g), options.batch):
            seen = x[rows] + options.noise * torch.randn(x[rows].shape, generator=g)
            loss = functional.kl_div(student(seen).log_softmax(1), p[rows], reduction="batchmean")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            done += 1
            on_step(done, steps)
    return student.eval().requires_grad_(requires_grad=False)


def _told(on_step: OnStep | None, at: int, students: int, done: int, steps: int) -> None:
    if on_step is not None:
        on_step(at * steps + done, students * steps)


def _answers(surrogate: Surrogate, pictures: Pictures) -> Scores:
    with torch.no_grad():
        found: Scores = surrogate(torch.from_numpy(np.ascontiguousarray(pictures, np.float32))).softmax(1).double().numpy()
    return found


def _deployed(predict: Predict, pictures: Pictures, wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    p = np.clip(np.take_along_axis(predict(np.clip(pictures, 0, 1).astype(np.float32)), wanted[:, None], 1)[:, 0], 1e-12, 1 - 1e-12)
    odds: NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return odds


def _odds(p: Tensor, wanted: Tensor) -> Tensor:
    own = p.gather(1, wanted[:, None])[:, 0].clamp(1e-12, 1 - 1e-7)
    return own.log() - (1 - own).log()


def _unit(direction: Tensor) -> Pictures:
    length = direction.flatten(1).norm(dim=1).clamp(min=1e-22)[:, None, None, None]
    found: Pictures = (direction / length).detach().numpy()
    return found
