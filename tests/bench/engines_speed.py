"""The shipped generator on every backend beside diffusers' own pipeline call: same weights, steps and scheduler, in one run.

Contenders take turns, so that what disturbs the machine disturbs all alike.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from engines.certificate import FORWARD_LIMITS
from engines.desk.place import Place, worst_error
from engines.desk.samples import call_sample
from engines.desk.speed import call_seconds
from engines.errors import BackendError
from engines.pipeline import Pipeline, load_pipeline
from engines.pipelines.replicas import replicas, shared_out
from engines.spec import Precision
from tests.bench.report import Cell, Report

BATCHES = (1, 8, 32)
PRECISIONS: Mapping[str, tuple[Precision, ...]] = {"cpu": ("fp32",), "cuda": ("fp32", "bf16")}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Draw = Callable[[int], np.ndarray]
"""So many images (n 3 h w) in [0, 1]."""
Times = Mapping[tuple[str, int], list[float]]
"""Contender and batch -> seconds of each repeat."""


@dataclass(frozen=True)
class Subject:
    """What is drawn, and by which weights."""

    directory: Path = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"
    caption: str = "a large red circle on grass with a ruler in bright light"

    def load(self, backend: str, place: Place, precision: Precision, batch: int) -> Pipeline:
        """Our generator on a backend."""
        return load_pipeline(
            self.directory, backend=backend, sampler="ddim", guidance=1.0, batch=batch, device=place.device, precision=precision,
            threads=place.threads, cache=place.cache.root,
        )  # fmt: skip


SHIPPED = Subject()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to draw."""

    title: str
    precision: Precision
    draw: Draw
    ours: bool
    certificate_error: float | None = None
    """Largest relative error of its networks' outputs; None for diffusers and for the reference."""


def compare(
    report: Report,
    place: Place,
    *,
    repeats: int,
    batches: Sequence[int] = BATCHES,
    subject: Subject = SHIPPED,
    backends: Sequence[str] = (),
) -> list[dict[str, Cell]]:
    """Rows of the race, of all backends or of some; figures and notes go to the report."""
    most = max(batches)
    reference = subject.load("torch", Place(place.cache, "cpu", place.threads), "fp32", most)
    truth = reference.generate([subject.caption] * most, range(most))
    racing = [*diffusers_calls(subject, place, reference.plan.steps), *our_calls(subject, place, most, report.notes, backends)]
    times, pictures = race(racing, batches, repeats)
    errors = {each.title: _distance(pictures[each.title], truth) for each in racing if each.ours}
    best = {batch: min(_median(times, each, batch) for each in racing if not each.ours) for batch in batches}
    exact = [each for each in racing if each.ours and each.precision == "fp32"]
    report.figures |= {
        f"speedup_over_diffusers_b{batch}": best[batch] / min(_median(times, each, batch) for each in racing if each.ours)
        for batch in batches
    }
    report.figures |= {
        "max_parity_error": max((each.certificate_error or 0.0 for each in exact), default=0.0),
        "parity_bound": FORWARD_LIMITS["fp32"],
        "max_image_error": max(errors[each.title] for each in exact),
    }
    report.notes += NOTES
    return [_row(each, batch, times, best[batch], errors.get(each.title)) for batch in batches for each in racing]


NOTES = (
    "ours on a CPU: as audits draw, each core its share of the batch; torch-compiled on all cores at once",
    "diffusers: its own pipeline call, arrays out; speed-up: over the fastest of its calls, medians of repeats taken in turns",
    "captions are encoded once by us and on every call by diffusers, as in audits, where captions recur",
    "parity error: of the networks, as in their certificates; in the figures the largest of the fp32 ones",
    "image error: norm of the difference of whole images to torch fp32 on the CPU, relative",
)


def race(racing: Sequence[Contender], batches: Sequence[int], repeats: int) -> tuple[Times, Mapping[str, np.ndarray]]:
    """Everybody warms up, then all take turns; who begins changes with every turn.  Also what each drew in its last warm-up."""
    times: dict[tuple[str, int], list[float]] = {}
    pictures: dict[str, np.ndarray] = {}
    for batch in sorted(batches):
        for each in racing:
            pictures[each.title] = each.draw(batch)
        for turn in range(repeats):
            begins = turn % len(racing)
            for each in (*racing[begins:], *racing[:begins]):
                start = time.perf_counter()
                each.draw(batch)  # arrays out, so that nothing is still under way
                times.setdefault((each.title, batch), []).append(time.perf_counter() - start)
    return times, pictures


def diffusers_calls(subject: Subject, place: Place, steps: int) -> Iterator[Contender]:
    """Diffusers' own call in each precision: DDIM with the directory's steps, no guidance, arrays out."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    for precision in PRECISIONS[place.device]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names of arguments differ between releases
            pipe = StableDiffusionPipeline.from_pretrained(subject.directory, local_files_only=True, torch_dtype=DTYPES[precision])
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        pipe = pipe.to(place.device)

        def draw(n: int, pipe: object = pipe) -> np.ndarray:
            return pipe([subject.caption] * n, num_inference_steps=steps, guidance_scale=1.0, output_type="np").images

        yield Contender(title=f"diffusers {precision}", precision=precision, draw=draw, ours=False)


def our_calls(subject: Subject, place: Place, batch: int, notes: list[str], only: Sequence[str] = ()) -> Iterator[Contender]:
    """Our generator on every backend in each precision; those that refuse leave a note."""
    for backend in (each for each in place.backends if not only or each.name in only):
        for precision in PRECISIONS[place.device]:
            title = f"{backend.name} {precision}"
            try:
                pipeline = subject.load(backend.name, place, precision, batch)
            except BackendError as error:
                notes.append(f"{title}: {error}")
                continue
            worst = [worst_error(engine) for engine in (pipeline.course.network.engine, pipeline.codec.decoder)]
            yield Contender(
                title=title,
                precision=precision,
                draw=_by_cores(subject, backend.name, place, pipeline),
                ours=True,
                certificate_error=max((each for each in worst if each is not None), default=None),
            )


def _by_cores(subject: Subject, backend: str, place: Place, whole: Pipeline) -> Draw:
    """As audits draw: on a CPU each core a share of the batch, and all of them one picture; on a GPU the batch as it is."""
    workers, threads = shared_out(place.threads or torch.get_num_threads())

    def together(n: int) -> np.ndarray:
        return whole.generate([subject.caption] * n, range(n))

    if place.device != "cpu" or workers == 1 or backend == "torch-compiled":  # which would compile for one thread anew
        return together
    several = replicas(subject.load(backend, replace(place, threads=threads), whole.precision, whole.batch), workers)
    pool = ThreadPoolExecutor(workers)

    def shared(n: int) -> np.ndarray:
        shares = [range(n)[at * n // workers : (at + 1) * n // workers] for at in range(workers)]
        work = [
            pool.submit(pipeline.generate, [subject.caption] * len(seeds), seeds)
            for pipeline, seeds in zip(several, shares, strict=True)
        ]
        return np.concatenate([each.result() for each in work])

    return lambda n: shared(n) if n >= workers else together(n)


def host_microseconds(place: Place, only: Sequence[str] = ()) -> dict[str, float]:
    """Host time of a bound call on every backend that can be used."""
    usable = [each for each in place.backends if each.probe().usable and (not only or each.name in only)]
    found: dict[str, float] = {}
    for backend in usable:
        network = call_sample()
        engine = place.certified(backend, network)
        found[f"host_us_{backend.name}"] = 1e6 * call_seconds(engine, network.feeds(1, engine.device))
    return found


def _median(times: Times, contender: Contender, batch: int) -> float:
    return median(times[contender.title, batch])


def _distance(images: np.ndarray, truth: np.ndarray) -> float:
    return float(np.linalg.norm(images - truth) / np.linalg.norm(truth))


def _row(contender: Contender, batch: int, times: Times, baseline: float, image_error: float | None) -> dict[str, Cell]:
    seconds = times[contender.title, batch]
    return {
        "contender": contender.title,
        "batch": batch,
        "images_per_s": batch / median(seconds),
        "ms": 1e3 * median(seconds),
        "ms_min": 1e3 * min(seconds),
        "ms_max": 1e3 * max(seconds),
        "speedup": baseline / median(seconds),
        "parity_error": contender.certificate_error,
        "image_error": image_error,
    }
