"""What does an audit cost the customers of the same server?  `python -m tests.bench.non_interference [--quick]`.

A real Triton whose model takes some milliseconds an image on the CPU, a customer who asks for one image at a time without pause, and an
audit beside it in every other interval of the same run: under the default budget, without any guard, and under the default budget while another
customer's burst fills the queue.  Ratios are of the intervals with the audit to those without it, next to each other in time; the noise of the run is
the ratio of quiet intervals to the quiet ones before them.
"""

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from audit_plugin.demo.kit import ensure_kit
from audit_plugin.demo.planted import CLASSES
from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.demo.truth import onnx_path
from audit_plugin.target.load import LoadOptions
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.bench.report import Report, parser, publish
from tests.bench.scenes_bank import Say

MODEL = "shape_clean"
SIDE, AUDITED = 64, 8
"""Pixels of a picture, pictures of an audit's request."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = parser(__doc__).parse_args(arguments)
    pairs, seconds = (6, 3.0) if options.quick else (20, 6.0)
    report = Report(
        name="non_interference",
        question="What does an audit cost the customers of the same server?",
        mode="quick" if options.quick else "full",
        seeds={"pictures": "0"},
    )
    with TemporaryDirectory() as workdir:
        write_model(Path(workdir) / "models", MODEL, onnx_path(MODEL), CLASSES)
        with TritonServer(Path(workdir) / "models", kit=ensure_kit(), log_file=Path(workdir) / "server.log") as server:
            for name, load in (("default budget", LoadOptions()), ("no guard", None)):
                report.rows.append({"audit": name, **_compared(server.grpc_url, load, pairs, seconds, name)})
            report.figures |= _paused(server.grpc_url)
    for row in report.rows:
        report.figures |= {
            f"{key}_{str(row['audit']).replace(' ', '_')}": float(str(row[key])) for key in ("p99_ratio", "throughput_ratio")
        }
    report.figures["p99_noise"] = float(str(report.rows[0]["p99_noise"]))
    report.notes += [
        "- p99 ratio, throughput ratio: the customer's, with the audit over without it, median over pairs of neighbouring intervals and the middle half of them",
        "- noise: the same ratio of quiet intervals to the quiet ones before them",
        "- pause: seconds from a burst that fills the queue to the audit's last request, and until it goes on after the burst",
    ]
    publish(report, options)


def _compared(url: str, load: LoadOptions | None, pairs: int, seconds: float, name: str) -> dict[str, float]:
    quiet, loud = list[tuple[float, float]](), list[tuple[float, float]]()
    asked = 0
    with _customer(url) as measured, TritonClassifier.connect(TargetOptions(model=MODEL, url=url, load=load)) as audit:
        measured(1.0)  # the first requests are slow
        for at in range(pairs):
            quiet.append(measured(seconds))
            with _auditing(audit):
                loud.append(measured(seconds))
            Say()(at + 1, pairs, name)
        asked = audit.counts.images
    ratios = np.array([[b[0] / a[0], b[1] / a[1]] for a, b in zip(quiet, loud, strict=True)])
    noise = np.array([b[0] / a[0] for a, b in pairwise(quiet)])
    low, high = np.quantile(ratios[:, 0], [0.25, 0.75])
    return {
        "p99_ratio": float(np.median(ratios[:, 0])),
        "p99_low": float(low),
        "p99_high": float(high),
        "p99_noise": float(np.quantile(np.abs(np.log(noise)), 0.5)),
        "throughput_ratio": float(np.median(ratios[:, 1])),
        "audit_images_per_second": asked / (pairs * seconds),
        "customer_p99_ms": float(np.median([one[0] for one in quiet])),
    }


@contextmanager
def _customer(url: str) -> Iterator[Callable[[float], tuple[float, float]]]:
    """Asks without pause from a process of its own, as customers do; measures p99 (ms) and requests a second over so many seconds."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve_customer, args=(url, theirs), daemon=True)
    process.start()

    def measured(seconds: float) -> tuple[float, float]:
        ours.send(seconds)
        p99, rate = ours.recv()
        return p99, rate

    try:
        yield measured
    finally:
        ours.send(None)
        process.join(10)


def _serve_customer(url: str, pipe: Connection) -> None:
    image = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    with TritonClassifier.connect(TargetOptions(model=MODEL, url=url, concurrency=1)) as one:
        while (seconds := pipe.recv()) is not None:
            took, end = list[float](), time.perf_counter() + seconds
            while time.perf_counter() < end:
                begun = time.perf_counter()
                one.predict(image)
                took.append(time.perf_counter() - begun)
            pipe.send((1000 * float(np.quantile(took, 0.99)), len(took) / seconds))


@contextmanager
def _auditing(audit: TritonClassifier, log: list[float] | None = None) -> Iterator[None]:
    """An audit that asks as fast as it may."""
    images, stop = np.random.default_rng(1).random((AUDITED, 3, SIDE, SIDE), np.float32), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            audit.predict(images)
            if log is not None:
                log.append(time.perf_counter())

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _paused(url: str) -> dict[str, float]:
    """Other customers' burst: eight at a time, for six seconds."""
    log, guarded = list[float](), LoadOptions(most_queue_ms=2.0, busy_share=1)
    stop, images = threading.Event(), np.random.default_rng(2).random((16, 3, SIDE, SIDE), np.float32)

    def burst() -> None:
        with TritonClassifier.connect(TargetOptions(model=MODEL, url=url, concurrency=4)) as many:
            while not stop.is_set():
                many.predict(images)

    with TritonClassifier.connect(TargetOptions(model=MODEL, url=url, load=guarded)) as audit, _auditing(audit, log):
        time.sleep(3)
        begun = time.perf_counter()
        threads = [threading.Thread(target=burst) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(6)
        during = [moment for moment in log if moment > begun]
        stop.set()
        for thread in threads:
            thread.join()
        ended = time.perf_counter()
        while not log or log[-1] < ended:
            if time.perf_counter() - ended > 30:
                break
            time.sleep(0.1)
        after = next((moment for moment in log if moment > ended), float("nan"))
    return {"pause_after_seconds": (max(during) - begun) if during else 0.0, "goes_on_after_seconds": after - ended}


if __name__ == "__main__":
    main()
