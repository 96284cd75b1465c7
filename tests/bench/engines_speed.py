"""What ``engines_cpu`` and ``engines_gpu`` share: the shipped generator by each backend, beside diffusers' own pipeline call, in one run."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from engines.pipeline import TextToImage, load_pipeline
from tests.bench.report import CACHE, Report, publish

GENERATOR = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"
CAPTION = "a large red circle on grass with a ruler in bright light"
BATCHES = (1, 8, 32)


def bench(name: str, device: str, contenders: dict[str, dict[str, str]], options: argparse.Namespace) -> None:
    """Draw batches of 1, 8 and 32 by every contender (arguments of ``load_pipeline``) and by diffusers; median of repeats."""
    repeats = 3 if options.quick else 7
    report = Report(
        name=name, question="how fast is each backend, against diffusers' own call, with which error?", seeds={"images": "0..31"}
    )
    report.mode = "quick" if options.quick else "full"
    reference = load_pipeline(GENERATOR, backend="torch", sampler="ddim", batch=max(BATCHES))
    truth = reference.generate([CAPTION] * 32, range(32))
    theirs = _diffusers(device, reference)
    baseline = {batch: _seconds(lambda n=batch: theirs(n), repeats, device) for batch in BATCHES}
    report.rows += [_row("diffusers StableDiffusionPipeline", batch, seconds, seconds, None) for batch, seconds in baseline.items()]
    worst = 0.0
    best = dict.fromkeys(BATCHES, 0.0)
    for title, arguments in contenders.items():
        ours = load_pipeline(GENERATOR, sampler="ddim", batch=max(BATCHES), device=device, cache=CACHE / "engines", **arguments)  # type: ignore[arg-type]
        images = ours.generate([CAPTION] * 32, range(32))
        error = float(np.linalg.norm(images - truth) / np.linalg.norm(truth))
        exact = arguments.get("precision", "fp32") == "fp32"
        worst = max(worst, error) if exact else worst
        for batch in BATCHES:
            seconds = _seconds(lambda p=ours, n=batch: p.generate([CAPTION] * n, range(n)), repeats, device)
            best[batch] = max(best[batch], baseline[batch] / seconds)
            report.rows.append(_row(title, batch, seconds, baseline[batch], error))
    report.figures |= {f"speedup_over_diffusers_b{batch}": value for batch, value in best.items()} | {"max_parity_error": worst}
    report.notes.append("parity error: norm of the difference of the images to torch float32 on the CPU, relative; fp32 rows count")
    if device == "cuda":
        report.notes.append(f"device: {torch.cuda.get_device_name(0)}")
    publish(report, options)


def _diffusers(device: str, ours: TextToImage) -> Callable[[int], object]:
    """Diffusers' own call: DDIM with the same steps, no guidance, arrays out."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(GENERATOR, local_files_only=True, torch_dtype=torch.float32)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    pipe = pipe.to(device)
    return lambda n: pipe([CAPTION] * n, num_inference_steps=ours.plan.steps, guidance_scale=1.0, output_type="np").images


def _row(backend: str, batch: int, seconds: float, baseline: float, error: float | None) -> dict[str, str | int | float | None]:
    return {
        "backend": backend,
        "batch": batch,
        "images_per_s": batch / seconds,
        "speedup": baseline / seconds,
        "parity_error": error,
    }


def _seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median wall time after one warm-up."""
    return statistics.median(list(_times(work, repeats, device))[1:])


def _times(work: Callable[[], object], repeats: int, device: str) -> Iterator[float]:
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        yield time.perf_counter() - start
