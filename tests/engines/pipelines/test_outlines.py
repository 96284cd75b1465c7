"""Graphs beside the weights: small, the same graph again once filled, and never trusted."""

import json
import shutil

import numpy as np
import onnx
import pytest

from audit_plugin.demo.truth import ASSETS
from engines.backends.ort import backend as ort_backend
from engines.cache import BuildCache
from engines.desk.pipelines import read_networks
from engines.errors import PipelineError
from engines.graphs.weights import read_weight_map
from engines.pipeline import load_pipeline
from engines.pipelines.outlines import OUTLINES, keep_outlines, take_outlines

GENERATOR = ASSETS / "generator"


@pytest.fixture
def kept(family_directory, tmp_path, graphs):
    """A directory with outlines, and its networks."""
    directory = shutil.copytree(family_directory("stable_diffusion_2"), tmp_path / "pipeline")
    networks = read_networks(directory)
    return directory, networks, keep_outlines(directory, networks, BuildCache(graphs))


@pytest.fixture
def no_export(monkeypatch):
    """Exporting is an error."""

    def refuse(*_):
        raise AssertionError("exported")

    monkeypatch.setattr(ort_backend, "export", refuse)


def test_filled_is_the_graph_that_was_exported(kept, graphs, tmp_path):
    directory, networks, folders = kept
    cache = BuildCache(tmp_path / "fresh")
    take_outlines(directory, networks, cache)
    for network, folder in zip(networks, folders, strict=True):
        key = network.spec.key()
        made = (cache.root / key / "model.onnx").read_bytes()
        assert made == (graphs / key / "model.onnx").read_bytes()
        state = network.module.state_dict()
        weights = sum(state[name].nbytes for name in read_weight_map(folder / "weights.json").parameters)
        assert (folder / "model.onnx").stat().st_size < len(made) - 0.9 * weights
    assert {each.facts["backend"] for each in cache.entries()} == {"onnx"}
    assert sorted(path.name for path in directory.iterdir() if path.name.startswith(".")) == []


@pytest.mark.usefixtures("no_export")
def test_a_pipeline_takes_them_and_exports_nothing(kept, tmp_path):
    directory, _, _ = kept
    filled = load_pipeline(directory, backend="ort", steps=2, threads=1, cache=tmp_path / "fresh")
    plain = load_pipeline(directory, backend="torch", steps=2, threads=1, cache=tmp_path / "other")
    assert filled.fingerprint == plain.fingerprint
    np.testing.assert_allclose(filled.generate(["a"], [3]), plain.generate(["a"], [3]), atol=5e-5)
    assert not (tmp_path / "other").exists() or not BuildCache(tmp_path / "other").entries()[0].files


def _cut(folder):
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:500])


def _elsewhere(folder):
    """Weights that a file outside is to supply."""
    table = json.loads((folder / "weights.json").read_text())
    table.popitem()
    (folder / "weights.json").write_text(json.dumps(table))


def _strange(folder):
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    model.graph.node[0].domain = "somebody"
    onnx.save(model, folder / "model.onnx")


def _renamed(folder):
    table = json.loads((folder / "weights.json").read_text())
    (folder / "weights.json").write_text(json.dumps({f"{name}x": entry for name, entry in table.items()}))


def _turned(folder):
    """Weights in a layout of another shape."""
    table = json.loads((folder / "weights.json").read_text())
    (folder / "weights.json").write_text(json.dumps({name: [entry[0], "reshape -1"] for name, entry in table.items()}))


@pytest.mark.parametrize(
    "spoil",
    [_cut, _elsewhere, _strange, _renamed, _turned, lambda folder: (folder / "weights.json").write_text('{"a": 1}'), shutil.rmtree],
)
def test_one_that_is_not_right_is_exported_anew(kept, tmp_path, caplog, spoil):
    """With one line that says what is wrong with it; a folder that is not there is no fault."""
    directory, networks, folders = kept
    for folder in folders:
        spoil(folder)
    cache = BuildCache(tmp_path / "fresh")
    take_outlines(directory, networks, cache)
    assert not any(cache.has(each.spec.key()) for each in networks)
    assert len(caplog.messages) == (0 if spoil is shutil.rmtree else len(folders))
    assert all("exporting it instead" in line and "\n" not in line for line in caplog.messages)
    assert not list(cache.root.glob(".*"))


def test_one_that_computes_something_else_is_not_certified(kept, tmp_path):
    """Two weights of one shape changed places: the graph is well formed and wrong."""
    directory, _, folders = kept
    table = json.loads((folders[0] / "weights.json").read_text())
    model = onnx.load(folders[0] / "model.onnx", load_external_data=False)
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    first, second = next(
        (a, b) for a in sorted(table) for b in sorted(table) if a < b and shapes[a] == shapes[b] and len(shapes[a]) == 4
    )
    table[first], table[second] = table[second], table[first]
    (folders[0] / "weights.json").write_text(json.dumps(table))
    chosen = load_pipeline(directory, backend="auto", steps=2, threads=1, cache=tmp_path / "fresh")
    assert chosen.choice.name != "ort"
    assert any("ort" in refused and "not certified" in refused for refused in chosen.choice.refused)


def test_where_nothing_can_be_written_what_was_there_stays(kept, graphs, monkeypatch):
    directory, networks, folders = kept
    before = [(folder / "model.onnx").read_bytes() for folder in folders]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.pipelines.outlines.outline", full)
    with pytest.raises(PipelineError, match="No space left"):
        keep_outlines(directory, networks, BuildCache(graphs))
    assert [(folder / "model.onnx").read_bytes() for folder in folders] == before


def test_those_of_the_shipped_generator_belong_to_it(tmp_path):
    """Whoever changes how graphs are made, or the weights, writes them again: audit-plugin engines build --keep-graphs."""
    networks = read_networks(GENERATOR)
    take_outlines(GENERATOR, networks, cache := BuildCache(tmp_path))
    assert [cache.has(each.spec.key()) for each in networks] == [True, True]
    assert {path.name for path in (GENERATOR / OUTLINES).iterdir()} == {each.spec.key() for each in networks}
