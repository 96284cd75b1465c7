"""What sessions and providers are told, as data.  Names and values are ONNX Runtime's; providers take text only."""

from collections.abc import Mapping
from pathlib import Path

from engines.spec import EngineSpec

SESSION_ENTRIES: Mapping[str, str] = {
    "session.intra_op.allow_spinning": "0",  # idle threads must not take the cores from serving
    "session.inter_op.allow_spinning": "0",
    "session.record_ep_graph_assignment_info": "1",  # so that a session can be asked where its nodes run
}

ASYNCHRONOUS = ("disable_synchronize_execution_providers", "1")
"""The host does not wait at the end of a run; order is kept by our stream."""

NO_GRAPH = "-1"
"""A run that neither records a CUDA graph nor replays one."""


def cuda_options(spec: EngineSpec, *, index: int, stream: int, nhwc: bool) -> dict[str, str]:
    """Options of the CUDA provider; ``stream`` is the handle of the CUDA stream that everything is enqueued on."""
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": _flag(spec.precision == "tf32"),
        "prefer_nhwc": _flag(nhwc),
        "enable_cuda_graph": _flag(spec.profile.static),
    }


def tensorrt_options(spec: EngineSpec, folder: Path, *, index: int, stream: int) -> dict[str, str]:
    """Options of the TensorRT provider, which keeps plans and timings in ``folder``.

    Its own precision switches stay off: the graph's types are the precision.
    """
    shapes = {
        f"trt_profile_{which}_shapes": ",".join(f"{each.name}:{'x'.join(map(str, (rows, *each.row)))}" for each in spec.inputs)
        for which, rows in (("min", spec.profile.min_b), ("opt", spec.profile.opt_b), ("max", spec.profile.max_b))
    }
    return {
        "device_id": str(index),
        "user_compute_stream": str(stream),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
        "trt_builder_optimization_level": "3",
        "trt_cuda_graph_enable": _flag(spec.profile.static),
        **shapes,
    }


def run_entries(graph: int | None) -> dict[str, str]:
    """Entries of one run's options on a GPU; ``graph`` numbers the CUDA graph to record or replay."""
    return {ASYNCHRONOUS[0]: ASYNCHRONOUS[1], "gpu_graph_id": NO_GRAPH if graph is None else str(graph)}


def _flag(value: bool) -> str:
    return "1" if value else "0"
