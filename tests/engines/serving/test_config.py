"""Configurations are compared with files that were read by eye; ``python -m tests.engines.serving.test_config`` writes them anew."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from engines.serving.config import Port, graph_config, loop_config, renamed
from engines.spec import EngineSpec, Profile, TensorSpec
from tests.engines.serving.networks import WAVE

GOLDEN = Path(__file__).parent / "golden"
ABOUT = {"artifact": "a" * 32, "engine_key": "e" * 32}
VJP = EngineSpec(
    name="classifier_vjp",
    inputs=(TensorSpec("image", "float32", ("B", 3, 16, 16)), TensorSpec("cotangent", "float32", ("B", 2))),
    outputs=(TensorSpec("scores", "float32", ("B", 2)), TensorSpec("gradient", "float32", ("B", 3, 16, 16))),
    gradients=("gradient",),
    kind="vjp",
    profile=Profile(1, 8, 64),
    model_hash="d" * 64,
)
LOOP = loop_config(
    "audit_loop",
    [Port(name="latents", dtype="float32", dims=(-1, 4, 8, 8), optional=True), Port(name="plan", dtype="string", dims=(1,))],
    [Port(name="image", dtype="float32", dims=(-1, 3, 16, 16))],
    "cpu",
    instances=2,
    parameters={"engine_key": "e" * 32, "note": 'said "so"'},
)
TEXTS = {
    "wave-python-cpu": graph_config(WAVE, "python", (1, 4), "cpu", tier="exact", about=ABOUT),
    "wave-onnxruntime-cuda": graph_config(WAVE, "onnxruntime", (4, 1, 16), "cuda", tier="exact", about=ABOUT),
    "wave-tensorrt-cuda": graph_config(WAVE, "tensorrt", (1, 4, 16), "cuda", tier="approximate", about=ABOUT),
    "vjp-onnxruntime-cpu": graph_config(VJP, "onnxruntime", (1, 8), "cpu", tier="exact", about=ABOUT),
    "loop": LOOP,
}


def parsed(name: str) -> ModelConfig:
    return text_format.Parse(TEXTS[name], ModelConfig())


@pytest.mark.parametrize("name", TEXTS)
def test_the_text_is_the_golden_one(name):
    assert TEXTS[name] == (GOLDEN / f"{name}.pbtxt").read_text()


@pytest.mark.parametrize("name", TEXTS)
def test_triton_can_read_it(name):
    """By the message definition that Triton's client carries."""
    config = parsed(name)
    assert config.name.startswith("audit_")
    assert config.parameters["written_by"].string_value == "audit-plugin"


def test_buckets_are_batch_sizes_everywhere():
    """Largest request, preferred batches, captured graphs, warm-ups: one set of sizes, in order."""
    config = parsed("wave-tensorrt-cuda")
    graphs = config.optimization.cuda.graph_spec
    assert config.max_batch_size == 16
    assert list(config.dynamic_batching.preferred_batch_size) == [each.batch_size for each in graphs] == [1, 4, 16]
    assert [each.batch_size for each in config.model_warmup] == [1, 4, 16]
    assert [each.graph_lower_bound.batch_size for each in graphs] == [1, 2, 5]


def test_captured_graphs_have_the_networks_shapes():
    """A number per row has no sizes but the batch, which Triton adds."""
    (spec, *_) = parsed("wave-tensorrt-cuda").optimization.cuda.graph_spec
    assert {name: list(shape.dim) for name, shape in spec.input.items()} == {"x": [4, 8, 8], "t": []}


def test_a_number_per_row_is_a_column_for_clients():
    (entry,) = [each for each in parsed("wave-python-cpu").input if each.name == "t"]
    assert list(entry.dims) == [1]
    assert list(entry.reshape.shape) == []


def test_only_tensorrt_is_told_of_cuda_graphs():
    """Other backends do not read it."""
    assert not parsed("wave-onnxruntime-cuda").optimization.cuda.graphs


def test_nothing_waits_for_a_fuller_batch_on_a_cpu():
    delays = {name: parsed(name).dynamic_batching.max_queue_delay_microseconds for name in TEXTS}
    assert (delays["wave-python-cpu"], delays["wave-onnxruntime-cuda"]) == (0, 2000)


if __name__ == "__main__":
    for name, text in TEXTS.items():
        (GOLDEN / f"{name}.pbtxt").write_text(text)


def test_a_gradient_of_its_own_name_says_which_command_writes_it():
    """Not the one that writes generators."""
    told = renamed((GOLDEN / "vjp-onnxruntime-cpu.pbtxt").read_text(), "audit_classifier_vjp", "mine_vjp")
    assert told.startswith("# mine_vjp: written by `audit-plugin engines export-vjp`")
    assert 'name: "mine_vjp"' in told
    assert "export-triton" not in told
    assert "audit_classifier_vjp" not in told
