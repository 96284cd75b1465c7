"""The fake's builder: reads a graph, writes a plan, which is a line of JSON and the graph."""

import json

import numpy as np
import onnx
from onnx import numpy_helper

from tests.engines.trt.fake_types import (
    CREATION_FLAGS,
    BuilderFlag,
    HardwareCompatibilityLevel,
    IHostMemory,
    MemoryPoolType,
    OnnxParserFlag,
    major,
    needs,
    shape_of,
    told,
    weights,
)  # fmt: skip

UNREADABLE = ("NonZero", "Loop")


class ITimingCache:
    __slots__ = ("_content",)

    def __init__(self, content):
        self._content = content

    def serialize(self):
        return IHostMemory(json.dumps(self._content).encode())


class IOptimizationProfile:
    __slots__ = ("_shapes",)

    def __init__(self):
        self._shapes = {}

    def set_shape(self, input, min, opt, max):  # noqa: A002  # the real names
        self._shapes[input] = [list(min), list(opt), list(max)]


class IBuilderConfig:
    __slots__ = ("_cache", "_flags", "_pools", "_profiles", "_version", "builder_optimization_level", "hardware_compatibility_level",
                 "max_aux_streams")  # fmt: skip

    def __init__(self, version):
        self._version, self._flags, self._pools, self._profiles, self._cache = version, {BuilderFlag.TF32}, {}, [], None
        self.builder_optimization_level, self.max_aux_streams = 3, -1
        self.hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    def set_flag(self, flag):
        self._flags.add(BuilderFlag(flag))

    def clear_flag(self, flag):
        self._flags.discard(BuilderFlag(flag))

    def set_memory_pool_limit(self, pool, pool_size):
        self._pools[MemoryPoolType(pool)] = pool_size

    def add_optimization_profile(self, profile):
        rising = all(low <= tuned <= high for low, tuned, high in profile._shapes.values())
        self._profiles.append(profile._shapes)
        return len(self._profiles) - 1 if rising else -1

    def create_timing_cache(self, serialized_timing_cache):
        try:
            content = json.loads(serialized_timing_cache) if serialized_timing_cache else {"version": self._version, "kernels": []}
        except ValueError:
            return None
        return ITimingCache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache._content["version"] != self._version and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class ITensor:
    __slots__ = ("name", "shape")

    def __init__(self, info):
        self.name, self.shape = info.name, shape_of(info)


class INetworkDefinition:
    __slots__ = ("_flags", "_model")

    def __init__(self, flags):
        self._flags, self._model = flags, None

    @property
    def num_inputs(self):
        return len(self._model.graph.input)

    @property
    def num_outputs(self):
        return len(self._model.graph.output)

    def get_input(self, index):
        return ITensor(self._model.graph.input[index])

    def get_output(self, index):
        return ITensor(self._model.graph.output[index])


class ParserError:
    __slots__ = ("_node", "_what")

    def __init__(self, node, what):
        self._node, self._what = node, what

    def desc(self):
        return self._what

    def node_name(self):
        return self._node.name

    def node_operator(self):
        return self._node.op_type


class Builder:
    __slots__ = ("_log", "_version", "max_threads")

    def __init__(self, version, logger):
        self._version, self._log, self.max_threads = version, needs(logger), 1

    def create_network(self, flags=0):
        return INetworkDefinition(flags)

    def create_builder_config(self):
        return IBuilderConfig(self._version)

    def create_optimization_profile(self):
        return IOptimizationProfile()

    def build_serialized_network(self, network, config):
        if major(self._version) == 10 and not network._flags & 1 << CREATION_FLAGS[10].index("STRONGLY_TYPED"):
            return told(self._log, "the network is not strongly typed")
        dynamic = [info.name for info in network._model.graph.input if -1 in shape_of(info)]
        if any(name not in each for name in dynamic for each in config._profiles or [{}]):
            return told(self._log, "network has dynamic inputs, but no optimization profile has been defined")
        if any(node.op_type == "Explodes" for node in network._model.graph.node):
            return told(self._log, "could not find any implementation")
        head = {
            "version": self._version, "flags": [BuilderFlag(flag).name for flag in config._flags], "profile": (config._profiles or [{}])[0],
            "level": config.builder_optimization_level, "aux": config.max_aux_streams, "threads": self.max_threads,
            "hardware": HardwareCompatibilityLevel(config.hardware_compatibility_level).name,
            "workspace": config._pools.get(MemoryPoolType.WORKSPACE),
        }  # fmt: skip
        config._cache._content["kernels"] += sorted({node.op_type for node in network._model.graph.node})
        return IHostMemory(json.dumps(head).encode() + b"\n" + stripped(network._model, head["flags"]).SerializeToString())


class OnnxParser:
    __slots__ = ("_errors", "_flags", "_log", "_network", "_newest")

    def __init__(self, newest, network, logger):
        self._newest, self._network, self._log, self._errors, self._flags = newest, network, needs(logger), [], set()

    @property
    def num_errors(self):
        return len(self._errors)

    def set_flag(self, flag):
        self._flags.add(OnnxParserFlag(flag))

    def parse_from_file(self, model):
        loaded = onnx.load(model)
        nodes, opset = loaded.graph.node, max(each.version for each in loaded.opset_import if not each.domain)
        self._errors = [ParserError(node, "no importer for this operator") for node in nodes if node.op_type in UNREADABLE]
        if opset > self._newest:
            self._errors.append(ParserError(nodes[0], f"opset {opset} is not known"))
        self._network._model = loaded
        return not self._errors

    def get_error(self, index):
        return self._errors[index]


def stripped(model, flags):
    """Without its weights' values, where that was asked for."""
    if "STRIP_PLAN" not in flags:
        return model
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for each in copy.graph.initializer:
        if each.name in weights(model):
            each.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(each)), each.name))
    return copy
