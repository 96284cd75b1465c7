"""The GPU as this backend needs it: streams, graphs, memory, and the facts that a compiled plan depends on."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Protocol, cast

import torch

from engines.capture import record_cuda
from engines.protocols import Replay, Stream


class Queue(Protocol):
    """A stream, whoever made it."""

    @property
    def cuda_stream(self) -> int:
        """Its handle; never that of the default stream."""
        ...

    def wait_stream(self, stream: "Queue", /) -> None:
        """What comes next here waits for what was put there."""
        ...

    def synchronize(self) -> None:
        """Wait for it."""
        ...


@dataclass(frozen=True)
class Facts:
    """What a plan is compiled for."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    cuda: str
    """Version of the CUDA runtime, major.minor."""

    def note(self) -> dict[str, str]:
        """As text, for keys and for what lies beside a plan."""
        capability = ".".join(map(str, self.capability))
        return {name: str(value) for name, value in asdict(self).items()} | {"capability": capability}


class Device(Protocol):
    """Where tensors lie and plans run.  Its own methods are the only place that knows CUDA."""

    @property
    def torch(self) -> torch.device:
        """As torch calls it, with its index."""
        ...

    @property
    def alignment(self) -> int:
        """Of tensors that an engine takes as they are, in bytes."""
        ...

    def unavailable(self) -> str | None:
        """Why there is no such device, or None."""
        ...

    def facts(self) -> Facts:
        """What a plan for it depends on."""
        ...

    def free_bytes(self) -> int:
        """Memory that nobody uses."""
        ...

    def environment(self) -> Mapping[str, str]:
        """Variables for a child process that is to find this device as its first."""
        ...

    def working(self, stream: Stream | None) -> AbstractContextManager[Queue]:
        """The stream, or the current one, made current; for the default stream a private one in its order."""
        ...

    def capturing(self) -> bool:
        """Whether the current stream is being captured into a graph by somebody else."""
        ...

    def capture(self, launch: Callable[[int], None]) -> Replay:
        """Launch twice, then record it, on the stream of the handle that it is given, after what is on the current one.

        What is returned puts it on the current stream at one launch's cost.  Raises CaptureError.
        """
        ...


class CudaDevice:
    """A CUDA device of torch's."""

    alignment = 256

    def __init__(self, name: str = "cuda") -> None:
        self._named = torch.device(name)
        self._private: Stream | None = None

    @property
    def torch(self) -> torch.device:
        """With the index of the current device where none was named."""
        return torch.device("cuda", self.index)

    @property
    def index(self) -> int:
        """Among the visible devices."""
        return torch.cuda.current_device() if self._named.index is None else self._named.index

    def unavailable(self) -> str | None:
        """Torch without CUDA, or with fewer devices."""
        if not torch.cuda.is_available():
            return f"torch {torch.__version__} sees no CUDA device; install a build of torch for CUDA"
        if (self._named.index or 0) >= torch.cuda.device_count():
            return f"{self._named} was asked for, there are {torch.cuda.device_count()} devices"
        return None

    def facts(self) -> Facts:
        """From the device's properties."""
        own = torch.cuda.get_device_properties(self.index)
        return Facts(own.name, (own.major, own.minor), own.multi_processor_count, str(torch.version.cuda))

    def free_bytes(self) -> int:
        """Of the device, including what torch holds but does not use."""
        held = torch.cuda.memory_reserved(self.index) - torch.cuda.memory_allocated(self.index)
        return int(torch.cuda.mem_get_info(self.index)[0]) + held

    def environment(self) -> Mapping[str, str]:
        """Only this device is visible to the child."""
        return {"CUDA_VISIBLE_DEVICES": visible(self.index, os.environ.get("CUDA_VISIBLE_DEVICES"))}

    @contextmanager
    def working(self, stream: Stream | None) -> Iterator[Queue]:
        """TensorRT synchronises the whole device when it is given the default stream, so it never is."""
        with torch.cuda.device(self.index):
            asked = stream if stream is not None else torch.cuda.current_stream()
            if asked != torch.cuda.default_stream():
                with torch.cuda.stream(asked):
                    yield cast("Queue", asked)
                return
            own = self._own_stream()
            own.wait_stream(asked)
            try:
                with torch.cuda.stream(own):
                    yield cast("Queue", own)
            finally:
                asked.wait_stream(own)

    def capturing(self) -> bool:
        """As the driver sees it."""
        return bool(torch.cuda.is_current_stream_capturing())

    def capture(self, launch: Callable[[int], None]) -> Replay:
        """As everything is captured here."""
        return record_cuda(lambda: launch(torch.cuda.current_stream().cuda_stream), self.torch)

    def _own_stream(self) -> Stream:
        if self._private is None:
            self._private = torch.cuda.Stream(self.index)  # type: ignore[no-untyped-call]  # torch has no types for it
        return self._private


def visible(index: int, chosen: str | None) -> str:
    """Name of the visible device ``index``, given what ``CUDA_VISIBLE_DEVICES`` says.

    >>> visible(1, "2,3"), visible(1, None)
    ('3', '1')
    """
    names = [name.strip() for name in (chosen or "").split(",") if name.strip()]
    return names[index] if index < len(names) else str(index)
