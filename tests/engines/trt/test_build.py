"""From graph to plan: what the builder is told, what is learnt, and what happens when its process ends badly."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from engines.backends.trt.messages import listener
from engines.backends.trt.planner import Refused, make_plan, read_graph
from engines.backends.trt.request import BuildOptions, build_request, read_request, write_request
from engines.backends.trt.spawn import ChildBuild, try_runtime
from engines.backends.trt.timings import alone_on
from engines.errors import CacheError, PlanError
from tests.engines.trt import fake
from tests.engines.trt.networks import SPEC, Small, write_graph


@pytest.fixture
def ask(tmp_path):
    """A request for the small network's plan."""

    def ask(spec=SPEC, options=BuildOptions(), *, streaming=False, threads=3, **graph):  # noqa: B008  # frozen
        write_graph(Small(), spec, tmp_path, **graph)
        paths = {"graph": tmp_path / "model.onnx", "plan": tmp_path / "plan", "timings": tmp_path / "known"}
        return build_request(spec, options, module="tensorrt", streaming=streaming, threads=threads, **paths)

    return ask


def test_a_request_survives_its_file(ask, tmp_path):
    request = ask(options=BuildOptions(portable="ampere_plus", refit=True))
    write_request(request, tmp_path / "request")
    assert read_request(tmp_path / "request") == request


@pytest.mark.parametrize("options", [{"level": 6}, {"timeout_seconds": 0.0}, {"workspace_bytes": 0}, {"aux_streams": -1}])
def test_nonsense_is_no_option(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BuildOptions(**options)


@pytest.mark.parametrize(
    ("precision", "options", "flags", "hardware"),
    [
        ("fp32", {}, set(), "NONE"),
        ("tf32", {}, {"TF32"}, "NONE"),
        ("bf16", {"refit": True}, {"REFIT"}, "NONE"),
        ("fp16", {"strip": True}, {"STRIP_PLAN", "REFIT_IDENTICAL"}, "NONE"),
        ("fp16", {"strip": True, "refit": True}, {"STRIP_PLAN", "REFIT"}, "NONE"),
        ("fp16", {}, {"WEIGHT_STREAMING"}, "NONE"),
        ("fp32", {"portable": "ampere_plus"}, {"VERSION_COMPATIBLE"}, "AMPERE_PLUS"),
        ("fp32", {"portable": "same_compute_capability"}, {"VERSION_COMPATIBLE"}, "SAME_COMPUTE_CAPABILITY"),
    ],
)
def test_flags_follow_the_request(trt, ask, precision, options, flags, hardware):  # noqa: PLR0917  # one table
    """None is a precision: the graph's types are.  TF32, on by default, is off unless it was asked for."""
    request = ask(SPEC.at(precision), BuildOptions(**options), streaming="WEIGHT_STREAMING" in flags)
    make_plan(trt, request)
    head = fake.head_of(request.plan)
    assert set(head["flags"]) == flags
    assert head["hardware"] == hardware


def test_limits_follow_the_request(trt, ask):
    request = ask(options=BuildOptions(level=5, workspace_bytes=1 << 20))
    make_plan(trt, request)
    head = fake.head_of(request.plan)
    assert (head["level"], head["workspace"], head["aux"], head["threads"]) == (5, 1 << 20, 0, 3)
    assert head["profile"] == {"x": [[1, 2, 6], [4, 2, 6], [8, 2, 6]], "t": [[1], [4], [8]]}


def test_timings_accumulate_and_those_of_other_releases_are_not_believed(trt, ask):
    """Each build adds to what is known; a file that cannot be read is replaced."""
    request = ask()
    known = Path(request.timings)
    counts = []
    for _ in range(2):
        make_plan(trt, request)
        counts.append(len(json.loads(known.read_text())["kernels"]))
    assert counts[1] == 2 * counts[0] > 0
    for odd in ('{"version": "9.0", "kernels": ["Foreign"]}', "{"):
        known.write_text(odd)
        make_plan(trt, request)
        assert "Foreign" not in known.read_text()


def test_timings_lie_apart_by_device_and_release(tmp_path):
    with alone_on(tmp_path, "NVIDIA H200", "10.16.1") as one, alone_on(tmp_path, "NVIDIA L4", "10.16.1") as two:
        assert one.name == "NVIDIA-H200-10.16.1.timings"
        assert one != two
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="choose another directory"), alone_on(tmp_path / "file", "d", "v"):
        pass


def test_a_size_that_depends_on_data_is_refused(trt, ask):
    """Such an engine could not write into a tensor of ours."""
    request = ask()
    model = onnx.load(request.graph)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "found"
    onnx.save(model, request.graph)
    network = trt.Builder(listener(trt)).create_network(0)
    with pytest.raises(Refused, match="'y' has a size that depends on data"):
        read_graph(trt, network, listener(trt), request.graph)


def test_a_profile_that_does_not_rise_is_refused(trt, ask):
    request = ask()
    upside = replace(request, inputs=tuple(replace(each, least=each.most, most=each.least) for each in request.inputs))
    with pytest.raises(Refused, match="do not suit the graph"):
        make_plan(trt, upside)


def child(how):
    return ChildBuild((sys.executable, "-m", "tests.engines.trt.child", how))


def test_a_child_builds(ask):
    """From the request's file to the plan, readable by nobody else."""
    request = ask()
    child("builds")(request, {})
    assert fake.head_of(request.plan)["version"] == fake.VERSIONS[10]


def test_a_child_reports_what_the_parser_refuses(ask):
    with pytest.raises(PlanError, match=r"\(parse\): node 'odd_Loop' \(Loop\)"):
        child("builds")(ask(extra=("Loop",)), {})


@pytest.mark.parametrize(
    ("how", "stage", "message"),
    [
        ("crashes", "crash", "SIGSEGV: about to die"),
        ("is killed", "crash", "want of host memory"),
        ("hangs", "timeout", "not finished after 5 s; raise"),
        ("forgets", "crash", "exit code 0"),
    ],
)
def test_however_a_child_ends_there_is_one_error_and_nothing_is_left(ask, tmp_path, how, stage, message):
    """No half a plan, no process."""
    request = ask(options=BuildOptions(timeout_seconds=5.0 if how == "hangs" else 60.0))
    plan, pid = tmp_path / "plan", tmp_path / "pid"
    if how != "forgets":
        plan.write_bytes(b"half")
    with pytest.raises(PlanError, match=message) as caught:
        child(how)(request, {"PID_FILE": str(pid)})
    assert caught.value.stage == stage
    assert not plan.exists()
    assert not Path("/proc", pid.read_text()).exists()


def test_the_real_child_asks_for_the_driver(ask):
    """Where there is none, it says so and never imports TensorRT."""
    with pytest.raises(PlanError, match=r"\(driver\)"):
        ChildBuild()(ask(), {"CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", None),
        ("import os; os.abort()", "ended by SIGABRT"),
        ("raise SystemExit('no libnvinfer')", "exit code 1: no libnvinfer"),
    ],
)
def test_a_trial_tells_how_the_runtime_ended(code, reason):
    found = try_runtime("tensorrt", {}, (sys.executable, "-c", code))
    assert found == reason or reason in found
