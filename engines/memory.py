"""Has a device run out of memory?  Every library says so in its own words, most of them as a plain RuntimeError."""

import re
from collections.abc import Iterator

import torch

from engines.errors import OutOfMemoryError

_TYPES = (torch.OutOfMemoryError, OutOfMemoryError, MemoryError)

_WORDS = re.compile(
    r"out of memory"  # CUDA runtime and driver, TensorRT, torch
    r"|can't allocate memory"  # torch on a CPU
    r"|failed to allocate memory"  # ONNX Runtime's arenas
    r"|bad allocation|std::bad_alloc"  # C++ libraries on a CPU
    r"|OutOfMemory\b|cudaErrorMemoryAllocation"  # TensorRT's error codes
    r"|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Whether the error, or one that caused it, is a failed allocation.

    >>> out_of_memory(RuntimeError("CUDA error: out of memory")), out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    return any(isinstance(each, _TYPES) or (isinstance(each, Exception) and _WORDS.search(str(each))) for each in _causes(error))


def give_back(device: torch.device) -> None:
    """Return what torch holds but does not use to the driver, so that other libraries can have it too."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__
