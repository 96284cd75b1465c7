"""Which way counterfactuals are guided: the best rung that can be had and passes its tests, and why the better ones were not taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from audit_plugin.core.errors import GradientError, UnknownModelError
from audit_plugin.target.gradients.agreement import Bound, agreement
from audit_plugin.target.gradients.reading import read_network
from audit_plugin.target.gradients.served import SUFFIX, ServedGradients
from audit_plugin.target.gradients.student import OnStep, check_transfer, distil, examine
from audit_plugin.target.gradients.watched import WatchedSurrogate
from audit_plugin.target.guidance import GradientOptions, Rung
from audit_plugin.target.searching import resolution
from audit_plugin.target.triton import TritonClassifier

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


Pool = Callable[[int], Pictures]
"""So many pictures to teach and test a surrogate with: real ones, and the same noised and denoised; fewer where there are fewer."""


def guide(
    options: GradientOptions, target: TritonClassifier, images: Pictures, *, pool: Pool | None = None, on_step: OnStep | None = None
) -> Guide:
    """The rung for a deployed model; ``images`` (n 3 h w) in [0, 1] are what stand-ins are compared on.

    A rung that was asked for and cannot be had raises GradientError; of those that ``auto`` tries, the reasons are kept.
    """
    tried: list[str] = []
    for rung in (options.rung,) if options.rung is not None else _available(options):
        try:
            if rung is Rung.SURROGATE:
                found = _surrogate(options, target, pool, on_step)
            else:
                found = _free(target) if rung is Rung.FREE else _compared(rung, options, target, images)
        except GradientError as error:
            if options.rung is not None:
                raise
            tried.append(f"{rung.value}: {error}")
        else:
            return Guide(rung=found.rung, judge=found.judge, said=found.said, passed_over=tuple(tried))
    raise GradientError("; ".join(tried))


def _available(options: GradientOptions) -> Sequence[Rung]:
    """What is tried unasked.  A file that was given is tried first, and a server without a gradient model is quickly found out."""
    return (*([Rung.TWIN] if options.file else []), Rung.ENDPOINT, Rung.FREE)


def _free(target: TritonClassifier) -> Guide:
    said = "scores of the deployed model itself"
    if target.labels_only:
        said = "labels alone: the share of slightly changed copies that get a label is the score"
    return Guide(rung=Rung.FREE, judge=None, said=said)


def _compared(rung: Rung, options: GradientOptions, target: TritonClassifier, images: Pictures) -> Guide:
    """Twin or endpoint, once their answers were held against the server's; of labels alone, the likeliest class."""
    judge = _twin(options, target) if rung is Rung.TWIN else _endpoint(options, target)
    theirs = target.predict(images)
    ours = probabilities(judge, images)
    if target.labels_only:
        ours = np.eye(ours.shape[1])[ours.argmax(1)]
    step = 0.0 if target.labels_only else resolution(theirs)
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


def _twin(options: GradientOptions, target: TritonClassifier) -> Judge:
    if options.file is None:
        raise GradientError("a twin needs the file that the server runs; set `gradients.file`")
    judge: Judge = read_network(options.file, target.contract)
    return judge


def _endpoint(options: GradientOptions, target: TritonClassifier) -> Judge:
    name = options.endpoint or target.info.model + SUFFIX
    try:
        return ServedGradients.connect(target.wire, name, classes=len(target.info.labels))
    except UnknownModelError as error:
        raise GradientError(f"the server has no gradient model {name!r}") from error


def _surrogate(options: GradientOptions, target: TritonClassifier, pool: Pool | None, on_step: OnStep | None) -> Guide:
    if target.labels_only:
        raise GradientError("the endpoint answers labels alone, which teach no slope; use twin or gradient_free")
    if pool is None:
        raise GradientError("a surrogate needs pictures to learn from; give images, and a generator where there is one")
    pictures = pool(options.queries)
    surrogate = distil(pictures, target.predict(pictures), options=options.student, on_step=on_step)
    found = examine(surrogate, target.predict, options=options.student)
    check_transfer(found, options.student)
    watched = WatchedSurrogate(surrogate=surrogate, predict=target.predict, options=options.student, on_step=on_step)
    return Guide(rung=Rung.SURROGATE, judge=watched, said=str(found))
