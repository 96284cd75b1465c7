"""From a graph to a plan.  Runs in the child process, or wherever the vendor's module is handed in."""

from collections.abc import Sequence
from pathlib import Path

from engines.backends.trt.api import Builder, IBuilderConfig, INetworkDefinition
from engines.backends.trt.messages import Listener, listener
from engines.backends.trt.request import BuildRequest, InputRange
from engines.backends.trt.vendor import TensorRT


class Refused(Exception):  # noqa: N818  # a verdict with its reasons, made an error where it is reported
    """TensorRT will not build this, for these reasons."""

    def __init__(self, stage: str, reasons: Sequence[str]) -> None:
        super().__init__(f"{stage}: {'; '.join(reasons)}")
        self.stage, self.reasons = stage, tuple(reasons)


def make_plan(trt: TensorRT, request: BuildRequest) -> None:
    """Write the plan and what was learnt about kernels' speed.  Raises Refused."""
    heard = listener(trt)
    builder = trt.Builder(heard)
    builder.max_threads = request.threads
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    read_graph(trt, network, heard, request.graph)
    config = builder.create_builder_config()
    configure(trt, config, request)
    add_profile(builder, network, config, request.inputs)
    use_timings(config, Path(request.timings))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refused("build", list(heard.errors) or ["the builder gives no reason"])
    Path(request.plan).write_bytes(plan)
    keep_timings(config, Path(request.timings))


def read_graph(trt: TensorRT, network: INetworkDefinition, heard: Listener, path: str) -> None:
    """Into the network; weights beside the graph are found by its path."""
    parser = trt.OnnxParser(network, heard)
    parser.set_flag(trt.OnnxParserFlag.NATIVE_INSTANCENORM)  # no plugin, which portable plans could not have
    if not parser.parse_from_file(path):
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [f"node {each.node_name()!r} ({each.node_operator()}): {each.desc()}" for each in found]
        raise Refused("parse", reasons or list(heard.errors) or ["the parser gives no reason"])
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    unknown = [f"output {each.name!r} has a size that depends on data" for each in outputs if any(n < 0 for n in each.shape[1:])]
    if unknown:
        raise Refused("parse", unknown)


def configure(trt: TensorRT, config: IBuilderConfig, request: BuildRequest) -> None:
    """Precision is the graph's; TF32, on by default, is taken away where float32 was asked for."""
    options, flags = request.options, trt.BuilderFlag
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.level
    config.max_aux_streams = options.aux_streams
    (config.set_flag if request.tf32 else config.clear_flag)(flags.TF32)
    wanted = {
        flags.REFIT: options.refit,
        flags.STRIP_PLAN: options.strip,
        flags.REFIT_IDENTICAL: options.strip and not options.refit,
        flags.VERSION_COMPATIBLE: options.portable is not None,
        flags.WEIGHT_STREAMING: request.streaming,
    }
    for flag, on in wanted.items():
        if on:
            config.set_flag(flag)
    if options.portable is not None:
        levels = trt.HardwareCompatibilityLevel
        same = options.portable == "same_compute_capability"
        config.hardware_compatibility_level = levels.SAME_COMPUTE_CAPABILITY if same else levels.AMPERE_PLUS


def add_profile(builder: Builder, network: INetworkDefinition, config: IBuilderConfig, inputs: Sequence[InputRange]) -> None:
    """One profile: the batch sizes of the spec, for a graph whose batch is not fixed."""
    found = [network.get_input(index) for index in range(network.num_inputs)]
    free = {each.name for each in found if any(size < 0 for size in each.shape)}
    if not free:
        return
    profile = builder.create_optimization_profile()
    for each in inputs:
        if each.name in free:
            profile.set_shape(each.name, each.least, each.tuned, each.most)
    if config.add_optimization_profile(profile) < 0:
        raise Refused("profile", [f"batch sizes {[each.least[0] for each in inputs]} and up do not suit the graph"])


def use_timings(config: IBuilderConfig, path: Path) -> None:
    """Those of this device and release; others are not believed, and measuring starts afresh."""
    known = path.read_bytes() if path.exists() else b""
    for content in (known, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def keep_timings(config: IBuilderConfig, path: Path) -> None:
    """What was known and what was measured, in one rename."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    fresh = path.with_suffix(".new")
    fresh.write_bytes(bytes(cache.serialize()))
    fresh.replace(path)
