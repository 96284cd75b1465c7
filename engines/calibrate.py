"""What this machine can do: the rate of a large matrix product and of a large copy, measured within two seconds.

On CUDA the product is one of 8192-cubes and the copy one of a gibibyte; a CPU gets sizes that fit into the time.  The best of the
repeats counts, since a floor must not be too high.  Results are kept in the build cache, per machine, library and precision.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from engines.backends.eager import DTYPES, borrowed_threads
from engines.cache import BuildCache
from engines.roof import Roof
from engines.spec import Precision, digest
from engines.timing import is_positive

SECONDS = 1.0
"""For the product, and again for the copy."""
CUDA_CUBE, CPU_CUBE = 8192, 1024
"""Rows and columns of the matrices."""
CUDA_COPY_BYTES, CPU_COPY_BYTES = 2**30, 2**28
NOTES = "calibration"
"""Where in the build cache the results are."""


def calibrated(cache: BuildCache, device: Literal["cpu", "cuda"], precision: Precision, threads: int | None = None) -> Roof:
    """The machine's roof from the cache, or measured now and kept."""
    threads = threads or torch.get_num_threads()
    name = f"{device}-{precision}-{digest([machine(), torch.__version__, threads])[:16]}"
    known = cache.read_note(NOTES, name)
    if known is not None and is_positive(known.get("flops")) and is_positive(known.get("bandwidth")):
        return Roof(float(str(known["flops"])), float(str(known["bandwidth"])))
    roof = calibrate(device, precision, threads)
    cache.write_note(NOTES, name, {"flops": roof.flops, "bandwidth": roof.bandwidth, "machine": machine(), "threads": threads})
    return roof


def calibrate(
    device: Literal["cpu", "cuda"], precision: Precision, threads: int | None = None, *, seconds: float = SECONDS
) -> Roof:
    """Measure a large product in the precision, and a large copy."""
    with torch.no_grad(), borrowed_threads(threads if device == "cpu" else None):
        return Roof(_product_rate(device, precision, seconds), _copy_rate(device, seconds))


def machine() -> str:
    """Processor and GPU, in words."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{_processor()}, {gpu}"


def _product_rate(device: str, precision: Precision, seconds: float) -> float:
    cube = CUDA_CUBE if device == "cuda" else CPU_CUBE
    work = _scaled_product(cube, device) if precision == "fp8" else _product(cube, device, precision)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        return 2 * cube**3 / fastest(work, device, seconds)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _product(cube: int, device: str, precision: Precision) -> Callable[[], object]:
    a, b = (torch.randn(cube, cube, device=device).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def _scaled_product(cube: int, device: str) -> Callable[[], object]:
    """In 8 bits, where both operands carry a scale; the second one lies by columns."""
    a, b = (torch.randn(cube, cube, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)  # noqa: SLF001  (torch has no other name for it)


def _copy_rate(device: str, seconds: float) -> float:
    size = CUDA_COPY_BYTES if device == "cuda" else CPU_COPY_BYTES
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return 2 * size / fastest(lambda: target.copy_(source), device, seconds)


def fastest(work: Callable[[], object], device: str, seconds: float) -> float:
    """Least time of one run, of as many as fit into the time; by events on CUDA."""
    once = _cuda_seconds if device == "cuda" else _cpu_seconds
    once(work)
    best, ends = once(work), time.perf_counter() + seconds
    while time.perf_counter() < ends:
        best = min(best, once(work))
    return best


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _cuda_seconds(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    work()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _processor() -> str:
    """Its model name where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
