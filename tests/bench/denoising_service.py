"""What does it cost audits to share one worker, against one audit that draws all their pictures?

python -m tests.bench.denoising_service [--quick] [--json FILE] [--markdown FILE]

Every repeat draws the same pictures three times: by two audits in two threads on shared workers, by one audit on the same workers, and
by one audit without workers.  Which goes first changes from repeat to repeat; ratios are taken within a repeat, figures are medians.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from engines.cache import BuildCache
from engines.pipeline import Pipeline, load_pipeline
from engines.pipelines.sharing import PipelineWorkers, pipeline_workers
from engines.tally import WorkerStats
from tests.bench.report import CACHE, Cell, Report, parser, publish

GENERATOR = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"
CAPTIONS = (
    "a large red circle on grass with a ruler in bright light",
    "a small blue triangle on sand beside a snowman in dim light",
)
AUDITS = 2
BATCH = 16
SIZES = (1, 2, 4, 8, 16, 32)
BOUND = 1.15
"""What sharing may cost at most."""

Images = np.ndarray
Way = Callable[[], Images]


def main() -> None:
    """Measure and publish."""
    options = parser(__doc__).parse_args()
    count, repeats = (8, 5) if options.quick else (32, 9)
    report = Report(
        name="denoising_service",
        question="what does sharing one worker cost two audits, against one audit that draws all their pictures?",
        mode="quick" if options.quick else "full",
        seeds={"images": f"0..{AUDITS * count - 1}"},
    )
    plain = _load()
    with pipeline_workers(_load(), sizes=SIZES, cache=BuildCache(CACHE / "engines"), where={"threads": "default"}) as workers:
        ways: dict[str, Way] = {
            "two audits, shared workers": lambda: _shared(workers, count),
            "one audit, the same workers": lambda: _single(workers, count),
            "one audit, no worker": lambda: _draw(plain, range(AUDITS * count)),
        }
        *others, right = [way() for way in ways.values()]
        error = max(float(np.abs(pictures - right).max()) for pictures in others)
        seconds, unet = _measured(ways, workers, repeats)
    shared, single, alone = (seconds[name] for name in ways)
    report.rows += [_row(name, seconds[name], unet[name], AUDITS * count) for name in ways]
    report.figures |= {
        "shared_over_single": _ratio(shared, single),
        "shared_over_plain": _ratio(shared, alone),
        "single_over_plain": _ratio(single, alone),
        "padded_share": unet["two audits, shared workers"].padded_share,
        "rows_per_batch": _rows_per_batch(unet["two audits, shared workers"]),
        "max_difference": error,
    }
    spread = [fast / slow for fast, slow in zip(shared, single, strict=True)]
    report.notes.append(
        f"backend {plain.choice.name}; {repeats} repeats of {AUDITS * count} pictures, {plain.plan.steps} steps each"
    )
    report.notes.append(f"shared_over_single was {min(spread):.3f} to {max(spread):.3f}; at most {BOUND} is wanted")
    report.notes.append("max_difference: of pixels in [0, 1] from the pictures drawn without a worker")
    publish(report, options)


def _load() -> Pipeline:
    return load_pipeline(GENERATOR, batch=BATCH, cache=CACHE / "engines")


def _draw(pipeline: Pipeline, seeds: Sequence[int]) -> Images:
    return pipeline.generate([CAPTIONS[seed % len(CAPTIONS)] for seed in seeds], seeds)


def _single(workers: PipelineWorkers, pictures: int) -> Images:
    with workers.client("all") as pipeline:
        return _draw(pipeline, range(AUDITS * pictures))


def _shared(workers: PipelineWorkers, pictures: int) -> Images:
    def audit(number: int) -> Images:
        with workers.client(f"audit {number}") as pipeline:
            return _draw(pipeline, range(number * pictures, (number + 1) * pictures))

    with ThreadPoolExecutor(AUDITS) as threads:
        return np.concatenate(list(threads.map(audit, range(AUDITS))))


def _measured(
    ways: Mapping[str, Way], workers: PipelineWorkers, repeats: int
) -> tuple[dict[str, list[float]], dict[str, WorkerStats]]:
    """Seconds by way and repeat, and what the UNet's worker did for each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    done: dict[str, list[WorkerStats]] = {name: [] for name in ways}
    for repeat in range(repeats):
        names = list(ways)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            before = workers.stats()["unet"]
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
            done[name].append(_between(before, workers.stats()["unet"]))
    return seconds, {name: _total(each) for name, each in done.items()}


def _between(before: WorkerStats, after: WorkerStats) -> WorkerStats:
    return WorkerStats(
        calls=after.calls - before.calls,
        rows=after.rows - before.rows,
        padded=after.padded - before.padded,
        requests=after.requests - before.requests,
        wait_seconds=after.wait_seconds - before.wait_seconds,
        device_seconds=after.device_seconds - before.device_seconds,
    )


def _total(parts: Sequence[WorkerStats]) -> WorkerStats:
    return WorkerStats(
        calls=sum(part.calls for part in parts),
        rows=sum(part.rows for part in parts),
        padded=sum(part.padded for part in parts),
        requests=sum(part.requests for part in parts),
        wait_seconds=sum(part.wait_seconds for part in parts),
        device_seconds=sum(part.device_seconds for part in parts),
    )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _rows_per_batch(stats: WorkerStats) -> float:
    return stats.rows / max(stats.calls, 1)


def _row(way: str, seconds: Sequence[float], stats: WorkerStats, pictures: int) -> dict[str, Cell]:
    middle = statistics.median(seconds)
    return {
        "way": way,
        "images_per_s": pictures / middle,
        "seconds": middle,
        "batches": stats.calls / len(seconds),
        "rows_per_batch": _rows_per_batch(stats),
        "padded_share": stats.padded_share,
        "wait_ms_per_request": 1e3 * stats.wait_seconds / max(stats.requests, 1),
    }


if __name__ == "__main__":
    main()
