"""The name under which a served network and its clients know each other."""

from dataclasses import replace

from engines.spec import EngineSpec, Profile

PREFIX = "audit_"
"""In front of every served model's name."""


def served_name(spec: EngineSpec) -> str:
    """Name of a network's model on the server."""
    return PREFIX + spec.name


def engine_key(spec: EngineSpec) -> str:
    """Equal keys mean equal numbers: covers weights, tensors, kind and precision, but neither batch sizes nor the form of the graph.

    A client therefore needs to know neither the server's buckets nor whether it runs an ONNX graph or a plan.
    """
    return replace(spec, profile=Profile(1, 1, 1), opset=0).key()
