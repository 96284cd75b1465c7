"""A device on the host: streams are numbers, work is done at once, and a graph is a list of what would have been done."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engines.backends.trt.device import Facts

RECORDING = []
"""The graph that is being recorded, if any."""


class Recording(TorchDispatchMode):
    """Copies and launches are noted instead of done; what is allocated meanwhile lives as long as the graph."""

    def __init__(self):
        super().__init__()
        self.work, self.held = [], []

    def __enter__(self):
        RECORDING.append(self)
        return super().__enter__()

    def __exit__(self, *error):
        RECORDING.remove(self)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.copy_.default:
            self.work.append(lambda: args[0].copy_(args[1]))
            return args[0]
        self.held.append(func(*args, **(kwargs or {})))
        return self.held[-1]

    def replay(self):
        for each in self.work:
            each()


def enqueue(work):
    """Do it, or note it in the graph that is being recorded."""
    RECORDING[-1].work.append(work) if RECORDING else work()


class HostStream:
    """Remembers whom it waited for."""

    def __init__(self, cuda_stream):
        self.cuda_stream, self.waited, self.synchronised = cuda_stream, [], 0

    def wait_stream(self, stream):
        self.waited.append(stream.cuda_stream)

    def synchronize(self):
        self.synchronised += 1


class HostDevice:
    """What the backend asks of a GPU."""

    torch, alignment = torch.device("cpu"), 1

    def __init__(self, name="Fake H", capability=(9, 0), free=1 << 40):
        self.name, self.capability, self.free = name, capability, free
        self.default = self.current = HostStream(0)
        self.private = HostStream(1)

    def unavailable(self):
        return None

    def facts(self):
        return Facts(self.name, self.capability, 132, "13.0")

    def free_bytes(self):
        return self.free

    def environment(self):
        return {}

    @contextmanager
    def working(self, stream):
        asked = self.current if stream is None else stream
        if asked.cuda_stream:
            yield asked
            return
        self.private.wait_stream(asked)
        yield self.private
        asked.wait_stream(self.private)

    def capturing(self):
        return bool(RECORDING)

    def capture(self, launch):
        """On a stream of its own, as CUDA graphs are recorded."""
        launch(99)
        launch(99)
        with Recording() as recording:
            launch(99)
        return recording.replay
