from dataclasses import replace
from pathlib import Path

import pytest

from engines.backends.ort.options import cuda_options, run_entries, tensorrt_options
from engines.spec import Profile
from tests.engines.conformance.networks import make_cases

SPEC = make_cases()["forward"].spec
STATIC = replace(SPEC, profile=Profile(4, 4, 4))


def test_options_are_text():
    """Providers refuse anything else."""
    for options in (cuda_options(SPEC, index=1, stream=77, nhwc=True), tensorrt_options(SPEC, Path("x"), index=1, stream=77)):
        assert all(isinstance(value, str) for value in options.values())
        assert (options["device_id"], options["user_compute_stream"]) == ("1", "77")


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1"), ("bf16", "0")])
def test_tf32_only_where_it_was_asked_for(precision, tf32):
    """The provider's own default is on."""
    assert cuda_options(SPEC.at(precision), index=0, stream=1, nhwc=False)["use_tf32"] == tf32


@pytest.mark.parametrize(("spec", "flag"), [(SPEC, "0"), (STATIC, "1")])
def test_graphs_only_for_one_batch_size(spec, flag):
    assert cuda_options(spec, index=0, stream=1, nhwc=False)["enable_cuda_graph"] == flag
    assert tensorrt_options(spec, Path("x"), index=0, stream=1)["trt_cuda_graph_enable"] == flag


def test_profiles_name_every_input():
    options = tensorrt_options(SPEC, Path("plans"), index=0, stream=1)
    assert options["trt_profile_min_shapes"] == "x:1x4x8x8,t:1"
    assert options["trt_profile_opt_shapes"] == "x:4x4x8x8,t:4"
    assert options["trt_profile_max_shapes"] == "x:12x4x8x8,t:12"
    assert "trt_fp16_enable" not in options


def test_each_binding_has_a_graph_of_its_own():
    assert run_entries(7) == {"disable_synchronize_execution_providers": "1", "gpu_graph_id": "7"}
    assert run_entries(None)["gpu_graph_id"] == "-1"
