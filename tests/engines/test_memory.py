import pytest
import torch

from engines.errors import OutOfMemoryError
from engines.memory import out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        OutOfMemoryError("also with 1 row"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 268435456"),
        RuntimeError("CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("IExecutionContext::enqueueV3: Error Code 2: OutOfMemory (Requested size was 1 bytes.)"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_failed_allocations_are_recognised(error):
    """Also when something else was raised because of them."""
    wrapped = ValueError("the engine failed")
    wrapped.__cause__ = error
    assert out_of_memory(error)
    assert out_of_memory(wrapped)


@pytest.mark.parametrize("message", ["shapes differ", "shared memory region is unknown", "the allocation was not aligned"])
def test_other_errors_are_not(message):
    assert not out_of_memory(RuntimeError(message))


def test_a_real_allocation_that_cannot_be():
    """Torch's own words on this machine."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert out_of_memory(caught.value)
