"""A stand-in for CUDA graphs on a CPU: the operators of some work are recorded and repeated on the very same tensors.

As with a graph, Python does not run again, addresses are fixed, numbers from the host are as they were, and asking for one fails.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


class Tape(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in HOST:
            raise RuntimeError("operation not permitted when stream is capturing")
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        for func, args, kwargs, out in self.calls:
            for kept, again in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(kept, torch.Tensor):
                    kept.detach().copy_(again.detach())


class Recorder:
    """Records as engines.capture.record_cuda does: two runs, then the recording."""

    def __init__(self):
        self.recordings = 0

    def __call__(self, work):
        work()
        work()
        self.recordings += 1
        tape = Tape()
        with tape:
            work()

        def replay():
            with torch.no_grad():
                tape.replay()

        return replay
