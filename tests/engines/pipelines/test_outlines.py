"""Graphs beside the weights: small, the same graph again once filled, and never trusted."""

import importlib.util
import json
import shutil

import numpy as np
import onnx
import pytest

from audit_plugin.demo.truth import ASSETS
from engines.backends.registry import choosable
from engines.cache import BuildCache
from engines.desk.pipelines import read_networks
from engines.directory import directory_digest
from engines.errors import PipelineError
from engines.graphs.weights import read_weight_map
from engines.pipeline import load_pipeline
from engines.pipelines.files import OUTLINES
from engines.pipelines.outlines import KeptGraphs, check_place, keep_outlines
from tests.engines.pipelines.miniatures import ONE_BLOCK

GENERATOR = ASSETS / "generator"
PLAIN = {"down_block_types": ("DownBlock2D",)}


@pytest.fixture
def kept(family_directory, tmp_path, graphs):
    """A directory with outlines, and its networks."""
    directory = shutil.copytree(family_directory("latent_consistency", **ONE_BLOCK), tmp_path / "pipeline")
    networks = read_networks(directory)
    return directory, networks, keep_outlines(directory, networks, BuildCache(graphs))


def refuse_exports(monkeypatch):
    """From here on exporting is an error."""

    def refuse(*_):
        raise AssertionError("exported")

    monkeypatch.setattr("engines.pipelines.outlines.export", refuse)
    monkeypatch.setattr("engines.graphs.maker.export", refuse)


def made(directory, network, folder):
    """What a directory makes of a network's graph."""
    folder.mkdir()
    KeptGraphs(directory)(network.module, network.spec, folder)
    return (folder / "model.onnx").read_bytes()


def test_filled_is_the_graph_that_was_exported(kept, graphs, tmp_path, monkeypatch):
    directory, networks, folders = kept
    refuse_exports(monkeypatch)
    for at, (network, folder) in enumerate(zip(networks, folders, strict=True)):
        whole = (graphs / network.spec.key() / "model.onnx").read_bytes()
        assert made(directory, network, tmp_path / str(at)) == whole
        state = network.module.state_dict()
        weights = sum(state[name].nbytes for name in read_weight_map(folder / "weights.json").parameters)
        assert (folder / "model.onnx").stat().st_size < len(whole) - 0.9 * weights
    assert sorted(path.name for path in directory.iterdir() if path.name.startswith(".")) == []


def test_in_half_precision_too(family_directory, tmp_path, monkeypatch):
    """What stays float32 there was rounded before it was widened again."""
    directory = shutil.copytree(family_directory("ddpm", **ONE_BLOCK | PLAIN), tmp_path / "pipeline")
    networks, cache = read_networks(directory, "bf16")[:1], BuildCache(tmp_path / "cache")
    keep_outlines(directory, networks, cache)
    refuse_exports(monkeypatch)
    for at, network in enumerate(networks):
        whole = (cache.root / network.spec.key() / "model.onnx").read_bytes()
        assert made(directory, network, tmp_path / str(at)) == whole


def test_a_pipeline_takes_them_and_exports_nothing(kept, tmp_path, monkeypatch):
    directory, _, _ = kept
    refuse_exports(monkeypatch)
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


def _layout(text):
    """Weights in another layout."""

    def spoil(folder):
        table = json.loads((folder / "weights.json").read_text())
        (folder / "weights.json").write_text(json.dumps({name: [entry[0], text] for name, entry in table.items()}))

    return spoil


def _swapped(folder):
    """Two weights of one shape changed places: the graph is well formed and wrong."""
    table = json.loads((folder / "weights.json").read_text())
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    pairs = [(a, b) for a in sorted(table) for b in sorted(table) if a < b and shapes[a] == shapes[b] and len(shapes[a]) == 4]
    first, second = pairs[0]
    table[first], table[second] = table[second], table[first]
    (folder / "weights.json").write_text(json.dumps(table))


def _beside(folder):
    """A constant whose numbers lie in a file elsewhere."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    node = onnx.helper.make_node("Constant", [], ["secret"], value=onnx.numpy_helper.from_array(np.zeros(3, np.float32), "secret"))
    node.attribute[0].t.ClearField("raw_data")
    node.attribute[0].t.data_location = onnx.TensorProto.EXTERNAL
    node.attribute[0].t.external_data.add(key="location", value="../../secret.bin")
    model.graph.node.insert(0, node)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _folder_in_place(folder):
    (folder / "weights.json").unlink()
    (folder / "weights.json").mkdir()


SPOILT = [
    _cut,
    _elsewhere,
    _strange,
    _renamed,
    _layout("reshape -1"),
    _layout("reshape 7 7"),
    _layout("permute 0 0"),
    _layout(""),
    _layout("rotate 96 1 1"),
    _swapped,
    _beside,
    _folder_in_place,
    lambda folder: (folder / "weights.json").write_text('{"a": 1}'),
    lambda folder: (folder / "weights.json").write_text("[" * 100_000),
    shutil.rmtree,
]


@pytest.mark.parametrize("spoil", SPOILT)
def test_one_that_is_not_right_is_exported_anew(kept, tmp_path, caplog, monkeypatch, spoil):
    """With one line that says what is wrong with it; a folder that is not there is no fault."""
    directory, (network, *_), (folder, *_) = kept
    spoil(folder)
    monkeypatch.setattr(
        "engines.pipelines.outlines.export", lambda _, __, empty: (empty / "model.onnx").write_text("anew") and None
    )
    assert made(directory, network, tmp_path / "fresh") == b"anew"
    assert [path.name for path in (tmp_path / "fresh").iterdir()] == ["model.onnx"]
    assert len(caplog.messages) == (0 if spoil is shutil.rmtree else 1)
    assert all("exporting it instead" in line and "\n" not in line for line in caplog.messages)


def test_where_the_libraries_are_not_installed_torch_draws(kept, tmp_path, monkeypatch):
    """Nothing is imported that was not asked for."""
    directory, _, _ = kept
    real = importlib.util.find_spec
    absent = {"onnx", "onnx_ir", "onnxscript", "onnxruntime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in absent else real(name, *more))
    chosen = load_pipeline(directory, backend="auto", steps=2, threads=1, cache=tmp_path / "fresh")
    assert chosen.choice.name.startswith("torch")


def test_a_pin_is_of_the_weights_and_trusts_no_graph(kept, tmp_path, monkeypatch):
    directory, _, _ = kept
    seen = []
    monkeypatch.setattr("engines.pipelines.outlines.fill", lambda *_: seen.append(1))
    load_pipeline(
        directory, backend="auto", steps=2, threads=1, cache=tmp_path / "fresh", images=1, pin=directory_digest(directory)
    )
    assert seen == []


def test_only_who_reads_a_graph_has_it_filled(kept, tmp_path):
    directory, (network, *_), _ = kept
    cache = BuildCache(tmp_path / "fresh")
    by_name = {each.name: each for each in choosable("auto", cache, threads=1, make=KeptGraphs(directory))}
    assert by_name["ort"].ready(network.spec)
    load_pipeline(directory, backend="torch", steps=2, threads=1, cache=cache.root)
    assert not cache.has(network.spec.key())


def test_where_nothing_can_be_written_what_was_there_stays(kept, graphs, monkeypatch):
    directory, networks, folders = kept
    before = [(folder / "model.onnx").read_bytes() for folder in folders]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engines.pipelines.outlines.outline", full)
    (directory / ".graphs.killed").mkdir()
    with pytest.raises(PipelineError, match="No space left"):
        keep_outlines(directory, networks, BuildCache(graphs))
    assert not list(directory.glob(".graphs*"))
    assert [(folder / "model.onnx").read_bytes() for folder in folders] == before


def test_those_of_the_shipped_generator_belong_to_it(tmp_path, monkeypatch):
    """Whoever changes how graphs are made, or the weights, writes them again: audit-plugin engines build --keep-graphs."""
    networks = read_networks(GENERATOR)
    refuse_exports(monkeypatch)
    for at, network in enumerate(networks):
        made(GENERATOR, network, tmp_path / str(at))
    assert {path.name for path in (GENERATOR / OUTLINES).iterdir()} == {each.spec.key() for each in networks}


def test_a_place_that_cannot_be_written_is_refused_first(tmp_path):
    with pytest.raises(PipelineError, match="graphs cannot be written"):
        check_place(tmp_path / "nowhere")
