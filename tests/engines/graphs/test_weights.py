"""Weights are replaced by the map alone, and never where it is not sure."""

import json

import onnx
import pytest
import torch

from engines.errors import NotRefittableError
from engines.graphs import weights
from engines.graphs.weights import WEIGHTS, WeightMap, laid_out, read_weight_map, refit
from tests.engines.graphs.cases import draw, relative, right, session


def initialisers(folder):
    return {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(folder / "model.onnx").graph.initializer}


@pytest.mark.parametrize("name", ["denoiser", "vjp", "guided"])
def test_every_initialiser_is_one_parameter(exported, name):
    """Bit for bit, in the layout that the map says; every parameter that can matter is there."""
    module, _, folder = exported(name)
    names, stored = read_weight_map(folder / WEIGHTS), initialisers(folder)
    assert set(names.entries) == set(stored)
    assert names.obstacle is None
    arrays = names.arrays({key: value for key, value in module.state_dict().items() if key in names.parameters})
    assert all((arrays[key].numpy() == stored[key]).all() for key in stored)
    assert names.parameters == {key for key in module.state_dict() if not key.endswith("num_batches_tracked")}


def test_linear_weights_are_transposed_for_the_runtime(exported):
    _, _, folder = exported("denoiser")
    table = json.loads((folder / WEIGHTS).read_text())
    layouts = dict(table.values())
    assert layouts["enter.weight"] == "identity"
    assert "transpose" in layouts.values()


@pytest.mark.parametrize("name", ["denoiser", "vjp"])
def test_refitted_is_exported_again(exported, name, tmp_path):
    """A change of low rank in a linear layer, and a new bias: the graph computes what the changed module does, others stay."""
    module, spec, folder = exported(name)
    state = {key: value for key, value in module.state_dict().items() if value.ndim == 2 or key.endswith("conv.bias")}
    chance = torch.Generator().manual_seed(3)
    low = {key: torch.randn(len(value), 1, generator=chance) for key, value in state.items()}
    changed = {
        key: value + low[key].reshape(-1, *[1] * (value.ndim - 1)) * torch.randn(value.shape[1:], generator=chance) / 4
        for key, value in state.items()
    }
    refit(folder, changed, tmp_path)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    feeds = draw(spec, 3)
    module.load_state_dict({**before, **changed})
    try:
        theirs = right(module, spec, feeds)
    finally:
        module.load_state_dict(before)
    assert all(relative(ours, theirs[output]) < 1e-5 for output, ours in session(tmp_path)(feeds).items())
    assert relative(session(folder)(feeds)["y"], theirs["y"]) > 1e-2
    assert read_weight_map(tmp_path / WEIGHTS) == read_weight_map(folder / WEIGHTS)


@pytest.mark.parametrize(
    ("state", "message"), [({"enter.wrong": torch.ones(1)}, "enter.wrong"), ({"enter.weight": torch.ones(2, 2)}, "shape")]
)
def test_strange_weights_are_refused(exported, state, message, tmp_path):
    _, _, folder = exported("denoiser")
    with pytest.raises(NotRefittableError, match=message):
        refit(folder, state, tmp_path)


def test_a_graph_with_an_unknown_initialiser_cannot_be_refitted(exported, tmp_path):
    """It is not guessed from shapes."""
    _, _, folder = exported("denoiser")
    names = read_weight_map(folder / WEIGHTS)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    WeightMap({**names.entries, "enter.weight": None}).write(tmp_path / WEIGHTS)
    with pytest.raises(NotRefittableError, match="no parameter in any known layout"):
        refit(tmp_path, {"enter.bias": torch.zeros(16)}, tmp_path / "out")


def test_an_entry_stands_only_if_the_content_agrees(exported):
    """One number differs in its last bit; nothing else is wrong."""
    import onnx_ir

    module, _, folder = exported("denoiser")
    names, model = read_weight_map(folder / WEIGHTS), onnx_ir.load(folder / "model.onnx")
    state = dict(module.state_dict())
    assert weights.weight_map(model, names.entries, state) == names
    bias = state["enter.bias"].clone()
    bias[3] = torch.nextafter(bias[3], torch.tensor(9.0))
    found = weights.weight_map(model, names.entries, {**state, "enter.bias": bias})
    assert [name for name, entry in found.entries.items() if entry is None] == ["enter.bias"]


def test_maps_are_read_as_written(tmp_path):
    """Every kind of layout, in order."""
    steps = (("permute", (2, 0, 1)), ("reshape", (6, 4)))
    names = WeightMap({"a": ("p", ()), "b": ("p", (("permute", (1, 0)),)), "c": ("q", steps), "d": None})
    names.write(tmp_path / WEIGHTS)
    assert read_weight_map(tmp_path / WEIGHTS) == names
    assert '"b": ["p", "transpose"]' in (tmp_path / WEIGHTS).read_text()
    value = torch.arange(24.0).reshape(3, 2, 4)
    torch.testing.assert_close(laid_out(value, steps), value.permute(2, 0, 1).reshape(6, 4))


def test_large_weights_lie_beside_the_graph(exported, tmp_path, monkeypatch):
    """As those beyond what a protobuf holds must."""
    module, spec, folder = exported("denoiser")
    monkeypatch.setattr(weights, "ONE_FILE_BYTES", 1000)
    refit(folder, {}, tmp_path)
    assert (tmp_path / "model.onnx.data").stat().st_size > 1000
    assert (tmp_path / "model.onnx").stat().st_size < (folder / "model.onnx").stat().st_size
    feeds = draw(spec, 2)
    torch.testing.assert_close(session(tmp_path)(feeds)["y"], right(module, spec, feeds)["y"])
