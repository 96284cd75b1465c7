"""Execution contexts of one engine, one per stream, and what each was last told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from engines.backends.trt.api import IExecutionContext
from engines.backends.trt.arena import Arena, Block
from engines.backends.trt.device import Queue
from engines.backends.trt.messages import said
from engines.backends.trt.opening import Opened
from engines.errors import ExecutionError
from engines.spec import EngineSpec


@dataclass(eq=False)
class Slot:
    """A context on its stream."""

    queue: Queue
    context: IExecutionContext
    block: Block | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)


class Contexts:
    """Made when a stream is first used.  Activation memory is the arena's."""

    def __init__(self, spec: EngineSpec, opened: Opened, arena: Arena) -> None:
        self._spec, self._opened, self._arena = spec, opened, arena
        self._slots: dict[int, Slot] = {}

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def ready(self, queue: Queue) -> Block:
        """Make the stream's context, if there is none; gives the activation memory that it uses."""
        if queue.cuda_stream not in self._slots:
            self._new(queue)
        return self._arena.block(queue.cuda_stream, self._opened.memory_bytes)

    def enqueue(self, queue: Queue, tensors: Mapping[str, Tensor], handle: int | None = None) -> None:
        """Put the network on the stream, from and into these tensors.  Raises ExecutionError.

        With a handle it is put on that stream, which nothing of the first one runs beside.
        """
        block = self.ready(queue)
        self._launch(self._slots[queue.cuda_stream], queue.cuda_stream if handle is None else handle, tensors, block)

    def enqueue_captured(self, queue: Queue, tensors: Mapping[str, Tensor]) -> None:
        """The same while somebody else captures the stream: no context can be made then, and activations are the graph's own memory."""
        slot = self._slots.get(queue.cuda_stream) or next(reversed(self._slots.values()), None)
        if slot is None:
            raise ExecutionError(f"engine {self._spec.name!r} has not run yet; run it once before it is captured in a graph")
        self._launch(slot, queue.cuda_stream, tensors, self._arena.temporary(self._opened.memory_bytes))

    def close(self) -> None:
        """Wait for what is under way, and give the contexts back."""
        for slot in self:
            slot.queue.synchronize()
        self._slots.clear()

    def _new(self, queue: Queue) -> None:
        strategy = self._opened.library.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._opened.engine.create_execution_context(strategy)
        if context is None:
            raise self._failed("no execution context can be made")
        self._must(context.set_optimization_profile_async(0, queue.cuda_stream), "its profile cannot be chosen")
        self._slots[queue.cuda_stream] = Slot(queue, context)

    def _launch(self, slot: Slot, handle: int, tensors: Mapping[str, Tensor], block: Block) -> None:
        self._opened.library.heard.errors.clear()
        if slot.block is not block:
            slot.context.set_device_memory(block.address, block.size)
            slot.block = block
        self._tell_shapes(slot, tensors)
        for name, tensor in tensors.items():
            if slot.addresses.get(name) != tensor.data_ptr():
                self._must(slot.context.set_tensor_address(name, tensor.data_ptr()), f"it refuses the address of {name!r}")
                slot.addresses[name] = tensor.data_ptr()
        self._must(slot.context.execute_async_v3(handle), "it cannot be put on its stream")

    def _tell_shapes(self, slot: Slot, tensors: Mapping[str, Tensor]) -> None:
        """Only what changed; outputs must come out in the shapes that there is room for."""
        shapes = {each.name: tuple(tensors[each.name].shape) for each in self._spec.inputs}
        if slot.shapes == shapes:
            return
        slot.shapes = {}
        for name, shape in shapes.items():
            self._must(slot.context.set_input_shape(name, shape), f"it refuses {name!r} of {shape}")
        missing = slot.context.infer_shapes()
        self._must(not missing, f"shapes of {missing} are not settled")
        for each in self._spec.outputs:
            found, room = tuple(slot.context.get_tensor_shape(each.name)), tuple(tensors[each.name].shape)
            self._must(found == room, f"{each.name!r} comes out as {found}, there is room for {room}")
        slot.shapes = shapes

    def _must(self, fine: bool, what: str) -> None:
        if not fine:
            raise self._failed(what)

    def _failed(self, what: str) -> ExecutionError:
        return ExecutionError(f"engine {self._spec.name!r}: {what} ({said(self._opened.library.heard.errors)}); build it again")
