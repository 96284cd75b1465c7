"""Which way counterfactuals are guided: the best rung that can be had and passes its tests, and why the better ones were not taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from audit_plugin.core.errors import GradientError, UnknownModelError
from audit_plugin.target.gradients.agreement import Bound, agreement
from audit_plugin.target.gradients.reading import read_network
from audit_plugin.target.gradients.served import SUFFIX, ServedGradients
from audit_plugin.target.gradients.shelf import Kept, StudentShelf
from audit_plugin.target.gradients.student import Lesson, OnStep, Surrogate, Transfer, check_transfer, examine, lesson_of, teach
from audit_plugin.target.gradients.watched import WatchedSurrogate
from audit_plugin.target.guidance import GradientOptions, Rung
from audit_plugin.target.one_class import Asked, independent
from audit_plugin.target.options import Activation
from audit_plugin.target.searching import resolution

Pictures = NDArray[np.float32]
Judge = Callable[[torch.Tensor], torch.Tensor]
"""Pictures (n 3 h w) in [0, 1] -> logits (n k), differentiable."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Guide:
    """The rung that is used."""

    rung: Rung
    judge: Judge | None
    """None where nothing is differentiated."""
    said: str
    """How well it stands in for the deployed model, measured."""
    passed_over: tuple[str, ...] = ()
    """Why better rungs were not taken."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """Pictures to teach and test a surrogate with."""

    images: Pictures
    drawn: NDArray[np.bool_]
    """Which of them a diffusion made."""


Pool = Callable[[int], Pooled]
"""So many pictures: real ones, and the same noised and denoised; fewer where there are fewer."""


def guide(
    options: GradientOptions,
    target: Asked,
    images: Pictures,
    *,
    pool: Pool | None = None,
    shelf: StudentShelf | None = None,
    on_step: OnStep | None = None,
) -> Guide:
    """The rung for a deployed model; ``images`` (n 3 h w) in [0, 1] are what stand-ins are compared on.

    A surrogate that lies on the ``shelf`` is taken from there, and one that is taught is put there.  A rung that was asked for and cannot be had raises GradientError; of those that ``auto`` tries, the reasons are kept.
    """
    tried: list[str] = []
    for rung in (options.rung,) if options.rung is not None else _available(options):
        try:
            if rung is not Rung.FREE:
                _check_own_classes(target)
            if rung is Rung.SURROGATE:
                found = _surrogate(options, target, pool, shelf, on_step)
            else:
                found = _free(target) if rung is Rung.FREE else _compared(rung, options, target, images)
        except GradientError as error:
            if options.rung is not None:
                raise
            tried.append(f"{rung.value}: {error}")
        else:
            return Guide(rung=found.rung, judge=found.judge, said=found.said, passed_over=tuple(tried))
    raise GradientError("; ".join(tried))


def _check_own_classes(target: Asked) -> None:
    """Stand-ins and gradient models speak of the model's own classes.  Raises GradientError where others are audited."""
    if target.contract.merging is not None:
        raise GradientError(f"`classes` of {target.info.model} are merged from its scores, of which no gradient can be had")


def _available(options: GradientOptions) -> Sequence[Rung]:
    """What is tried unasked.  A file that was given is tried first, and a server without a gradient model is quickly found out."""
    return (*([Rung.TWIN] if options.file else []), Rung.ENDPOINT, Rung.FREE)


def _free(target: Asked) -> Guide:
    said = "scores of the deployed model itself"
    if target.labels_only:
        said = "labels alone: the share of slightly changed copies that get a label is the score"
    elif target.contract.activation is Activation.SIGMOID and len(target.info.labels) > 2:
        said += f"; its classes are independent, and flips are of the likeliest: `explain.gradients.{target.info.model}.of_class` names one"
    return Guide(rung=Rung.FREE, judge=None, said=said)


def _compared(rung: Rung, options: GradientOptions, target: Asked, images: Pictures) -> Guide:
    """Twin or endpoint, once their answers were held against the server's; of labels alone, the likeliest class."""
    judge = _twin(options, target) if rung is Rung.TWIN else _endpoint(options, target)
    theirs = target.predict(images)
    step = 0.0 if target.labels_only else resolution(theirs)
    if not target.labels_only and independent(theirs, step):
        raise GradientError(
            f"{target.info.model} answers independent classes (its scores do not sum to 1), of which the likeliest decides nothing; name one "
            f"as `explain.gradients.{target.info.model}.of_class`, or set `activation: softmax` where the scores are logits"
        )
    ours = probabilities(judge, images)
    if target.labels_only:
        ours = np.eye(ours.shape[1])[ours.argmax(1)]
    found = agreement(ours, theirs)
    Bound(top1=options.top1, worst=1.0 if target.labels_only else options.worst + step / 2).check(found, rung.value)
    rounded = f"; the server's answers are rounded to {step:.2g}, which explains up to {step / 2:.2g}" if step else ""
    return Guide(rung=rung, judge=judge, said=f"{found}{rounded}")


def probabilities(judge: Judge, images: Pictures, batch: int = 64) -> NDArray[np.float64]:
    """What a judge says of pictures, as the server says it."""
    with torch.no_grad():
        parts = [judge(torch.from_numpy(images[at : at + batch])).softmax(1) for at in range(0, len(images), batch)]
    found: NDArray[np.float64] = torch.cat(parts).double().numpy() if parts else np.zeros((0, 0))
    return found


def _twin(options: GradientOptions, target: Asked) -> Judge:
    if options.file is None:
        raise GradientError("a twin needs the file that the server runs; set `gradients.file`")
    judge: Judge = read_network(options.file, target.contract)
    return judge


def _endpoint(options: GradientOptions, target: Asked) -> Judge:
    name = options.endpoint or target.info.model + SUFFIX
    try:
        return ServedGradients.connect(target.wire, name, classes=len(target.info.labels))
    except UnknownModelError as error:
        raise GradientError(f"the server has no gradient model {name!r}") from error


def _surrogate(
    options: GradientOptions, target: Asked, pool: Pool | None, shelf: StudentShelf | None, on_step: OnStep | None
) -> Guide:
    if target.labels_only:
        raise GradientError("the endpoint answers labels alone, which teach no slope; use twin or gradient_free")
    if pool is None:
        raise GradientError("a surrogate needs pictures to learn from; give images, and a generator where there is one")

    @cache
    def lesson() -> Lesson:
        shown = pool(options.queries)
        return lesson_of(shown.images, target.predict(shown.images), drawn=shown.drawn, options=options.student)

    kept = None if shelf is None else shelf.load(len(target.info.labels), options.student)
    known = kept is not None
    if kept is None:
        taught = teach(lesson(), options.student, on_step=on_step)
        kept = Kept(students=taught.students, found=examine(taught, target.predict, options=options.student), again=False)
        if shelf is not None:
            shelf.save(kept)
    check_transfer(kept.found, options.student)

    def keep(again: Surrogate, found: Transfer) -> None:
        if shelf is not None:
            shelf.save(Kept(students=again.students, found=found, again=True))

    watched = WatchedSurrogate(
        surrogate=Surrogate(kept.students, lesson),
        predict=target.predict,
        options=options.student,
        on_step=on_step,
        keep=keep,
        again=kept.again,
    )
    return Guide(
        rung=Rung.SURROGATE, judge=watched, said=f"{kept.found}{' (taught and tested in an earlier run)' if known else ''}"
    )
