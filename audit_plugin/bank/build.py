"""Draw what a plan needs and the bank lacks.

A row's recipes stand in one batch where they fit, because kernels need not be batch-invariant and a row is compared with itself only.
Each batch is committed when all its files are on disk, so a build killed at any moment loses at most the batches in flight.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from audit_plugin.bank.plan import Plan
from audit_plugin.bank.store import FORGOTTEN, Drawn, ProbeBank
from audit_plugin.core.errors import BankError, GeneratorError
from audit_plugin.core.protocols import Generator, Images, Progress
from audit_plugin.core.values import DrawnImage, Recipe
from audit_plugin.sources.images import encode_png, to_uint8

Quality = Callable[[Images], Sequence[str]]
"""Images ``(n, 3, h, w)`` -> per image why it cannot be used, empty if it can."""


class Executor(Protocol):
    """Where batches are drawn; any ``concurrent.futures`` executor.  Processes need a generator and a filter that can be pickled."""

    def submit(self, work: Callable[[], list[Drawn]], /) -> Future[list[Drawn]]:
        """Start the work."""
        ...


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build did."""

    drawn: int
    reused: int
    """Pictures of the plan that were there already."""
    rejected: int
    """Of those drawn now, refused by the quality filter or deleted on request before."""
    evaluations: int
    """Denoiser network evaluations spent."""
    seconds: float


def build(
    bank: ProbeBank,
    plan: Plan,
    generator: Generator,
    quality: Quality,
    *,
    progress: Progress,
    batch: int = 32,
    executor: Executor | None = None,
    in_flight: int = 1,
    workers: int = 1,
    stored: Callable[[Sequence[DrawnImage]], None] = lambda _: None,
    buried: Collection[str] = (),
) -> BuildReport:
    """Make ``plan`` the bank's and draw its missing pictures.

    ``workers`` threads draw at once, when the generator is safe to call from so many; an executor of one's own draws ``in_flight`` batches
    at a time.  ``stored`` is told of each batch once it is safe.  A picture whose sha256 is ``buried`` is dropped, and its
    recipe counts as refused.

    Raises StorageFullError when the disk is full (run again to resume), BankError if somebody else is writing.
    """
    if generator.fingerprint != plan.generator:
        raise BankError(f"the plan is for generator {plan.generator} but {generator.fingerprint} would draw; make the plan again")
    start, drawn, rejected = time.monotonic(), 0, 0
    with bank.writer():
        bank.register(plan)
        reused = len(plan.recipes.keys() & bank.images().keys())
        total = len(plan.recipes)
        progress(reused, total, "images")
        work = (partial(draw, generator, quality, recipes) for recipes in batches(plan, bank.images().keys(), batch))
        with drawing(executor, workers) as pool:
            for pictures in run(work, pool, in_flight if executor else 2 * workers):
                images = bank.add_images([replace(one, rejected=FORGOTTEN) if one.sha256 in buried else one for one in pictures])
                drawn += len(images)
                rejected += sum(bool(image.rejected) for image in images)
                stored(images)
                progress(reused + drawn, total, "images")
    evaluations = drawn * generator.evaluations_per_image
    return BuildReport(drawn=drawn, reused=reused, rejected=rejected, evaluations=evaluations, seconds=time.monotonic() - start)


@contextmanager
def drawing(executor: Executor | None, workers: int) -> Iterator[Executor | None]:
    """The executor that was given, or one of so many threads; None for one worker, who draws in the caller's thread."""
    if executor is not None or workers == 1:
        yield executor
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="draw") as pool:
        yield pool


def batches(plan: Plan, drawn: Collection[str], size: int) -> Iterator[list[Recipe]]:
    """What is left to draw: whole rows together up to ``size`` recipes; only a row larger than that is cut."""
    waiting: list[Recipe] = []
    for row in plan.by_row():
        missing = [recipe for recipe in row if recipe.id not in drawn]
        if waiting and len(waiting) + len(missing) > size:
            yield waiting
            waiting = []
        waiting += missing
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def draw(generator: Generator, quality: Quality, recipes: Sequence[Recipe]) -> list[Drawn]:
    """One batch: generated, judged, encoded.  A picture with NaN in it is kept as a refused one, with 0 in their place."""
    images = generator.generate([recipe.caption for recipe in recipes], [recipe.seed for recipe in recipes])
    if images.ndim != 4 or images.shape[:2] != (len(recipes), 3):
        raise GeneratorError(f"asked for {len(recipes)} RGB images, got an array {images.shape}; the engine is broken")
    judged = zip(quality(images), images, strict=True)
    reasons = [why or ("" if np.isfinite(image).all() else "not finite") for why, image in judged]
    pixels = to_uint8(np.nan_to_num(images, nan=0, posinf=1, neginf=0))
    synthetic = bool(getattr(generator, "synthetic", True))  # pictures that were only looked up are not marked
    return [
        Drawn(recipe=recipe.id, png=encode_png(picture, synthetic=synthetic), rejected=why)
        for recipe, picture, why in zip(recipes, pixels, reasons, strict=True)
    ]


def run(work: Iterator[Callable[[], list[Drawn]]], executor: Executor | None, in_flight: int) -> Iterator[list[Drawn]]:
    """Results in the order of the work; never more than ``in_flight`` batches are started and not yet handed out."""
    if executor is None:
        for task in work:
            yield task()
        return
    started: deque[Future[list[Drawn]]] = deque()
    try:
        for task in work:
            started.append(executor.submit(task))
            if len(started) >= in_flight:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
    finally:
        for future in started:
            future.cancel()
