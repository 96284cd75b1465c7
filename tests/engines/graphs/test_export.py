"""Graphs against their modules, on ONNX Runtime's CPU.  Bounds are those of certificates."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from engines.certificate import FORWARD_LIMITS, GRADIENT_LIMITS
from engines.errors import ExportError
from engines.graphs.check import check_batches, check_graph, forbidden
from engines.graphs.export import export, export_onnx
from engines.graphs.gradients import Vjp
from engines.spec import Profile, TensorSpec
from tests.engines.graphs import networks
from tests.engines.graphs.cases import DENOISER, VJP, cosine, draw, relative, right, session, spec_of, tensors


def operators(folder):
    return [node.op_type for node in onnx.load(folder / "model.onnx").graph.node]


@pytest.mark.parametrize("name", ["denoiser", "vjp", "guided"])
def test_graph_and_module_agree_at_any_batch(exported, name):
    """One row among them, which exporters take for a constant, and 23, which the example had."""
    module, spec, folder = exported(name)
    run, (error, least) = session(folder), GRADIENT_LIMITS["fp32"]
    for rows in (1, 3, 8, 23, 32):
        feeds = draw(spec, rows)
        for output, theirs in right(module, spec, feeds).items():
            ours = run(feeds)[output]
            assert ours.shape == theirs.shape
            assert relative(ours, theirs) < (error if output in spec.gradients else FORWARD_LIMITS["fp32"])
            assert output not in spec.gradients or cosine(ours, theirs) > least


@pytest.mark.parametrize(("opset", "native"), [(18, ()), (23, ("GroupNormalization", "Attention"))])
def test_newer_operator_sets_have_whole_operators(exported, opset, native):
    """As the table of targets expects: on a CPU group norm is an InstanceNormalization."""
    module, spec, folder = exported("smooth", opset=opset)
    names = set(operators(folder))
    assert names & {"GroupNormalization", "Attention"} == set(native)
    assert ("InstanceNormalization" in names) is (opset == 18)
    feeds = draw(spec, 3)
    assert relative(session(folder)(feeds)["y"], right(module, spec, feeds)["y"]) < FORWARD_LIMITS["fp32"]


@pytest.mark.parametrize(("name", "most"), [("denoiser", 110), ("vjp", 240), ("guided", 340)])
def test_graphs_hold_portable_operators_and_few(exported, name, most):
    """No sizes are computed, nothing scatters, and gradients are not twice differentiable, which would take several times as many."""
    _, _, folder = exported(name)
    names = operators(folder)
    assert not [each for each in names if forbidden(each)]
    assert not set(names).intersection(["Shape", "Gather", "GatherElements", "Identity"])
    assert len([each for each in names if each != "Constant"]) < most


def test_a_static_profile_fixes_the_batch(exported):
    _, spec, folder = exported("smooth", profile=Profile(4, 4, 4))
    graph = onnx.load(folder / "model.onnx").graph
    assert {each.type.tensor_type.shape.dim[0].dim_value for each in (*graph.input, *graph.output)} == {4}
    assert session(folder)(draw(spec, 4))["y"].shape == (4, 5)


class Types(nn.Module):
    """Whole numbers, truths, an input without a batch, two outputs."""

    def forward(self, x, number, chosen, table):
        picked = torch.where(chosen[:, None], x, -x) + number[:, None] * table
        return picked, picked > 0


def test_other_types_and_inputs_without_a_batch(tmp_path):
    inputs = (*tensors(x=("float16", (3,)), number=("int64", ()), chosen=("bool", ())), TensorSpec("table", "float32", (3,)))
    spec = spec_of("types", "forward", inputs, tensors(y=("float16", (3,)), positive=("bool", (3,))))
    export(Types(), spec, tmp_path)
    feeds = {
        "x": torch.randn(2, 3).half(), "number": torch.tensor([1, -2]), "chosen": torch.tensor([True, False]),
        "table": torch.tensor([1.0, 2.0, 3.0]),
    }  # fmt: skip
    found = session(tmp_path)(feeds)
    for ours, theirs in zip(found.values(), Types()(*feeds.values()), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype))


class Odd(nn.Module):
    """A constant as large as the batch, an output that is an input, one that is given twice, sizes like the example's batch."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(46, 23)

    def forward(self, x):
        wide = torch.cat([x, torch.ones_like(x[:, :22])], 1)
        y = self.layer(wide.reshape(-1, 23, 2).flatten(1))
        return x, y, y


def test_odd_graphs_have_any_batch(tmp_path):
    """Where it is not sure what depends on the batch, sizes are computed in the graph."""
    spec = spec_of("odd", "forward", tensors(x=(24,)), tensors(same=(24,), once=(23,), twice=(23,)))
    module = networks.seeded(Odd)
    export(module, spec, tmp_path)
    for rows in (1, 7):
        feeds = draw(spec, rows)
        assert all(relative(ours, right(module, spec, feeds)[name]) < 1e-6 for name, ours in session(tmp_path)(feeds).items())


def test_graphs_do_not_tell_where_they_were_made(exported):
    """No paths and no stack traces, which exporters add."""
    _, _, folder = exported("denoiser")
    assert str(Path.cwd()).encode() not in (folder / "model.onnx").read_bytes()


class Scatters(nn.Module):
    def forward(self, x, t, context):
        return x.index_put((torch.tensor([0]),), torch.zeros(()))


class Branches(nn.Module):
    def forward(self, x, t, context):
        return x if t.sum() > 0 else -x


@pytest.mark.parametrize(("module", "message"), [(Scatters, "index_put"), (Branches, "cannot be exported")])
def test_what_cannot_be_trusted_is_refused(module, message, tmp_path):
    with pytest.raises(ExportError, match=f"{message}.*use backend torch"):
        export(module(), DENOISER, tmp_path)


def test_a_backward_that_is_not_written_out_is_refused(tmp_path):
    """Rather than exported as whatever the exporter makes of it."""

    class Folds(nn.Module):
        def forward(self, x):
            return nn.functional.adaptive_max_pool2d(x, 5).mean((2, 3))

    spec = replace(VJP, outputs=tensors(y=(3,), grad=(3, 16, 16)), inputs=tensors(x=(3, 16, 16), cotangent=(3,)))
    with pytest.raises(ExportError, match="adaptive_max_pool2d_backward"):
        export(Vjp(Folds()), spec, tmp_path)


@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (networks.Judge, {}, "give a Vjp for vjp"),
        (lambda: Vjp(networks.Judge()), {}, "training mode"),
        (lambda: Vjp(networks.seeded(networks.Judge)), {"kind": "forward"}, "any other module for forward"),
        (lambda: Vjp(networks.seeded(networks.Judge)), {"opset": 17}, "opset 17"),
        (lambda: Vjp(networks.seeded(networks.Judge)), {"precision": "fp8"}, "calibration"),
    ],
)
def test_impossible_requests_are_refused_at_once(module, change, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        export(module(), replace(VJP, **change), tmp_path)


def test_a_graph_goes_where_its_folder_is(tmp_path):
    with pytest.raises(ValueError, match=r"model\.onnx"):
        export_onnx(networks.seeded(networks.Denoiser), DENOISER, tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": DENOISER.inputs[:2]}, "asked for"),
        ({"opset": 21}, "opset is 18"),
        ({"profile": Profile(2, 2, 2)}, "'B'"),
        ({"outputs": tensors(y=(4, 8, 9))}, "y is"),
        ({"outputs": (replace(DENOISER.outputs[0], dtype="float16"),)}, "float16"),
    ],
)
def test_a_file_is_checked_against_a_spec(exported, change, message):
    _, spec, folder = exported("denoiser")
    check_graph(folder / "model.onnx", spec)
    with pytest.raises(ExportError, match=message):
        check_graph(folder / "model.onnx", replace(spec, **change))


@pytest.mark.parametrize("change", [{}, {"inputs": tensors(x=(4, 16, 16), t=(), context=(6, 16))}])
def test_a_graph_of_another_module_is_found_out(exported, change):
    """Other numbers, or inputs that it does not run on."""
    _, spec, folder = exported("denoiser")
    with pytest.raises(ExportError, match=r"computes another 'y'|cannot run 1 rows"):
        check_batches(folder / "model.onnx", networks.seeded(networks.Denoiser, seed=1), replace(spec, **change))


def test_what_is_no_graph_is_said_to_be_none(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ExportError, match="cannot be read"):
        check_graph(tmp_path / "model.onnx", DENOISER)
