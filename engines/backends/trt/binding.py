"""Fixed feeds and outputs: one graph per stream, recorded again when weights or activation memory changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from engines.backends.trt.arena import Block
from engines.backends.trt.contexts import Contexts
from engines.backends.trt.device import Device, Queue
from engines.protocols import Replay


@dataclass(frozen=True)
class Recorded:
    """A graph, and what it was recorded with."""

    replay: Replay
    block: Block
    """Held, since the graph writes there."""
    weights: int


@dataclass(frozen=True)
class Staged:
    """Tensors at fixed addresses, with copies around where the engine cannot take them as they are."""

    tensors: Mapping[str, Tensor]
    before: tuple[tuple[Tensor, Tensor], ...]
    """(to, from), copied before the engine runs."""
    after: tuple[tuple[Tensor, Tensor], ...]


@dataclass(eq=False)
class Binding:
    """What ``bind`` returns: a call launches once."""

    device: Device
    contexts: Callable[[], Contexts]
    """Raises when the engine was closed."""
    weights: Callable[[], int]
    """How often they were replaced."""
    staged: Staged
    captured: Callable[[], None]
    """Called for every graph that is recorded."""
    graphs: dict[int, Recorded] = field(default_factory=dict)

    def __call__(self) -> None:
        """Compute the outputs from what is in the feeds now, on the current stream."""
        contexts = self.contexts()
        with self.device.working(None) as queue:
            if self.device.capturing():
                self._launch(lambda: contexts.enqueue_captured(queue, self.staged.tensors))
            else:
                self._recorded(contexts, queue).replay()

    def _recorded(self, contexts: Contexts, queue: Queue) -> Recorded:
        known, block = self.graphs.get(queue.cuda_stream), contexts.ready(queue)
        if known is None or known.block is not block or known.weights != self.weights():
            replay = self.device.capture(lambda handle: self._launch(lambda: contexts.enqueue(queue, self.staged.tensors, handle)))
            known = self.graphs[queue.cuda_stream] = Recorded(replay, block, self.weights())
            self.captured()
        return known

    def _launch(self, enqueue: Callable[[], None]) -> None:
        for to, source in self.staged.before:
            to.copy_(source)
        enqueue()
        for to, source in self.staged.after:
            to.copy_(source)
