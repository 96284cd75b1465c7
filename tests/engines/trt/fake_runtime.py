"""The fake's runtime: opens plans, runs them by ONNX's reference evaluator at the addresses that were set, replaces weights."""

import ctypes
import json

import onnx
from onnx import numpy_helper

from tests.engines.trt.fake_types import (
    NUMPY_TYPES,
    ONNX_TYPES,
    DataType,
    ExecutionContextAllocationStrategy,
    TensorIOMode,
    TensorLocation,
    Weights,
    at,
    kind_of,
    major,
    needs,
    shape_of,
    told,
    weights,
)  # fmt: skip

MEMORY_BYTES = 5000
MERGED = "merged."
"""Weights whose names begin so are merged by the builder: all of them must be given at a refit, or none."""


class IExecutionContext:
    __slots__ = ("_addresses", "_engine", "_memory", "_profile", "_shapes")

    def __init__(self, engine):
        self._engine, self._memory, self._shapes, self._addresses, self._profile = engine, (0, 0), {}, {}, None

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self._profile = profile_index
        return profile_index == 0 and stream_handle > 0

    def set_device_memory(self, memory, size):
        self._memory = (memory, size)

    def set_input_shape(self, name, shape):
        fixed = shape_of(self._engine._infos[name])
        low, _, high = self._engine._profile.get(name, (fixed, fixed, fixed))
        fits = len(shape) == len(low) and all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        return fits or bool(told(self._engine._log, f"{name} of {shape} is outside of the profile"))

    def set_tensor_address(self, name, memory):
        self._addresses[name] = memory
        return name in self._engine._infos and memory != 0

    def infer_shapes(self):
        return [name for name in self._engine._profile if name not in self._shapes]

    def get_tensor_shape(self, name):
        rows = next(iter(self._shapes.values()))[0]
        return self._shapes.get(name) or (rows, *shape_of(self._engine._infos[name])[1:])

    def execute_async_v3(self, stream_handle):
        assert stream_handle > 0, "the default stream was given, for which the vendor synchronises the device"
        engine, (memory, size) = self._engine, self._memory
        lacking = [
            (self._profile is None, "no profile"), (memory % 256 != 0 or memory == 0, "device memory is not aligned"),
            (size < engine.device_memory_size_v2, "device memory is too small"), (self.infer_shapes(), "shapes are missing"),
            (set(engine._infos) - set(self._addresses), "addresses are missing"), (engine._stripped, "weights are missing"),
        ]  # fmt: skip
        wrong = [what for bad, what in lacking if bad]
        if wrong:
            return bool(told(engine._log, ", ".join(wrong)))
        from tests.engines.trt import host  # torch, which a child that only builds does without

        shapes, addresses, model = dict(self._shapes), dict(self._addresses), engine._model
        host.enqueue(lambda: compute(model, engine._infos, shapes, addresses, (memory, size)))
        return True


class ICudaEngine:
    __slots__ = ("_flags", "_infos", "_log", "_model", "_profile", "_stripped", "_version", "weight_streaming_budget_v2")

    def __init__(self, head, model, log):
        self._flags, self._profile, self._model, self._log = set(head["flags"]), head["profile"], model, log
        self._infos = {info.name: info for info in (*model.graph.input, *model.graph.output)}
        self._stripped = set(weights(model)) if "STRIP_PLAN" in self._flags else set()
        self.weight_streaming_budget_v2 = self.streamable_weights_size

    @property
    def num_io_tensors(self):
        return len(self._infos)

    @property
    def device_memory_size_v2(self):
        return MEMORY_BYTES

    @property
    def streamable_weights_size(self):
        held = sum(value.nbytes for value in weights(self._model).values())
        return held if "WEIGHT_STREAMING" in self._flags else 0

    @property
    def refittable(self):
        return bool(self._flags & {"REFIT", "REFIT_IDENTICAL"})

    def get_tensor_name(self, index):
        return list(self._infos)[index]

    def get_tensor_mode(self, name):
        inputs = [info.name for info in self._model.graph.input]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT if name in self._infos else TensorIOMode.NONE

    def get_tensor_dtype(self, name):
        return ONNX_TYPES[self._infos[name].type.tensor_type.elem_type]

    def get_tensor_shape(self, name):
        return shape_of(self._infos[name])

    def get_tensor_profile_shape(self, name, profile_index):
        assert profile_index == 0
        return self._profile[name]

    def create_execution_context(self, strategy=ExecutionContextAllocationStrategy.STATIC):
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return IExecutionContext(self)


class Runtime:
    __slots__ = ("_log", "_version", "engine_host_code_allowed")

    def __init__(self, version, logger):
        self._version, self._log, self.engine_host_code_allowed = version, needs(logger), False

    def deserialize_cuda_engine(self, serialized_engine):
        first, _, rest = bytes(serialized_engine).partition(b"\n")
        try:
            head = json.loads(first)
        except ValueError:
            return told(self._log, "magic tag does not match")
        compatible = "VERSION_COMPATIBLE" in head["flags"]
        if head["version"] != self._version and not (compatible and major(head["version"]) <= major(self._version)):
            return told(self._log, f"the engine plan file was made by {head['version']}, expecting {self._version}")
        if compatible and not self.engine_host_code_allowed:
            return told(self._log, "the engine contains host code, which is not allowed")
        return ICudaEngine(head, onnx.ModelProto.FromString(rest), self._log)


class Refitter:
    __slots__ = ("_engine", "_given", "_log")

    def __init__(self, engine, logger):
        self._engine, self._log, self._given = engine, needs(logger), {}

    def get_missing_weights(self):
        merged = [name for name in weights(self._engine._model) if name.startswith(MERGED)]
        touched = any(name in self._given for name in merged)
        return sorted({*self._engine._stripped, *(merged if touched else ())} - set(self._given))

    def get_weights_prototype(self, weights_name):
        held = {each.name: each for each in self._engine._model.graph.initializer}
        if weights_name not in held or not self._engine.refittable:
            return Weights(DataType.FLOAT, 0, -1)
        value = numpy_helper.to_array(held[weights_name])
        return Weights(ONNX_TYPES[held[weights_name].data_type], 0, value.size)

    def set_named_weights(self, name, weights, location=TensorLocation.HOST):
        prototype = self.get_weights_prototype(name)
        if (prototype.size, prototype.dtype) != (weights.size, weights.dtype) or location != TensorLocation.DEVICE:
            return bool(told(self._log, f"{name} does not match its prototype"))
        self._given[name] = weights
        return True

    def refit_cuda_engine_async(self, stream_handle):
        if self.get_missing_weights():
            return bool(told(self._log, f"missing {self.get_missing_weights()}"))
        fresh = onnx.ModelProto.FromString(self._engine._model.SerializeToString())
        for each in fresh.graph.initializer:
            if each.name in self._given:
                given, shape = self._given[each.name], tuple(each.dims)
                each.CopyFrom(numpy_helper.from_array(at(given._ptr, NUMPY_TYPES[given.dtype], shape).copy(), each.name))
        self._engine._model, self._engine._stripped = fresh, set()
        return stream_handle > 0


class NewRefitter(Refitter):
    """As of 11."""

    __slots__ = ()

    def release_refit_resources(self):
        self._given = None
        return True


def compute(model, infos, shapes, addresses, memory):
    """Read at the addresses of the inputs, use the activation memory, write at those of the outputs."""
    from onnx.reference import ReferenceEvaluator

    ctypes.memset(memory[0], 0xAB, memory[1])
    feeds = {name: at(addresses[name], kind_of(infos[name]), shape) for name, shape in shapes.items()}
    names = [info.name for info in model.graph.output]
    for name, value in zip(names, ReferenceEvaluator(model).run(names, feeds), strict=True):
        at(addresses[name], kind_of(infos[name]), value.shape)[...] = value
