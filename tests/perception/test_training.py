import dataclasses
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.values import Concept
from audit_plugin.perception import compact
from audit_plugin.perception.detectors import OnnxConceptDetector
from audit_plugin.perception.onnx_graph import compact_model
from audit_plugin.perception.task import TrainingOptions
from audit_plugin.perception.training import macro_auroc, train_detectors
from audit_plugin.sources.folder import FolderOptions, open_folder

from .world import COLOUR, CONCEPTS, SIZE, squares

QUICK = TrainingOptions(size=24, epochs=8, shift_px=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Detectors of colour and size, trained on 500 squares."""
    path = tmp_path_factory.mktemp("detector") / "squares.onnx"
    images, values = squares(500)
    return path, train_detectors(images, values, CONCEPTS, path, seed=3, options=QUICK)


def test_planted_concepts_are_learnt(trained):
    """Fresh squares are read almost without error, and the card's held-out figure says so."""
    path, card = trained
    images, values = squares(300, seed=1)
    answers = OnnxConceptDetector(path).read(images)
    assert macro_auroc(answers["colour"], values[:, 0]) > 0.97
    assert macro_auroc(answers["size"], values[:, 1]) > 0.97
    assert min(card.auroc.values()) > 0.9


def test_the_order_of_concepts_does_not_matter(tmp_path):
    """Answers are found by name: with the columns swapped each concept is still read as itself."""
    images, values = squares(300)
    train_detectors(images, values[:, ::-1], (SIZE, COLOUR), tmp_path / "d.onnx", seed=3, options=QUICK)
    answers = OnnxConceptDetector(tmp_path / "d.onnx").read(images)
    assert [answers[name].shape[1] for name in ("size", "colour")] == [2, 3]
    assert macro_auroc(answers["colour"], values[:, 0]) > 0.9


def test_equal_arguments_give_equal_files(tmp_path):
    """The seed decides; the global random state does not."""
    images, values = squares(120)
    short = dataclasses.replace(QUICK, epochs=1)
    files = [tmp_path / f"{i}.onnx" for i in range(3)]
    for file, seed in zip(files, (3, 3, 4), strict=True):
        train_detectors(images, values, CONCEPTS, file, seed=seed, options=short)
    first, again, other = (file.read_bytes() for file in files)
    assert first == again != other


def test_heads_on_a_given_feature_network(tmp_path):
    """With features that show the colours, logistic heads read colour; the card says which network was used."""
    images, values = squares(300)
    card = train_detectors(
        images, values[:, :1], (COLOUR,), tmp_path / "d.onnx", seed=3, features=colour_features(tmp_path / "f.onnx"), options=QUICK
    )
    answers = OnnxConceptDetector(tmp_path / "d.onnx").read(images)
    assert macro_auroc(answers["colour"], values[:, 0]) > 0.97
    assert card.kind == "features"
    assert card.training["features"] == 3


def colour_features(path):
    """A feature network of three maps: each channel less the mean of the others, where positive."""
    kernel = (np.eye(3) * 1.5 - 0.5).astype(np.float32).reshape(3, 3, 1, 1)
    nodes = [helper.make_node("Conv", ["photo", "k"], ["c"]), helper.make_node("Relu", ["c"], ["maps"])]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("photo", "maps")]
    graph = helper.make_graph(nodes, "colours", ports[:1], ports[1:], [onnx.numpy_helper.from_array(kernel, "k")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((60, 2), int)}, "0 training images of level 'green'"),
        ({"values": np.zeros((60, 1), int)}, r"need values \(60, 2\)"),
        ({"images": np.full((60, 3, 24, 24), np.nan, np.float32)}, "must be finite"),
        ({"units": ["a"]}, "one unit per image"),
        ({"features": "none.onnx"}, "cannot be read"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path, change, message):
    """Before any time is spent, with the cure."""
    images, values = squares(60)
    given = {"images": images, "values": values, "units": None, "features": None} | change
    with pytest.raises(DetectorError, match=message):
        train_detectors(given.pop("images"), given.pop("values"), CONCEPTS, tmp_path / "d.onnx", seed=0, options=QUICK, **given)


def test_a_correlated_concept_is_not_read_instead(tmp_path):
    """Trained where nine in ten red squares only are large, size is still read among red squares and among the others."""
    images, values = squares(800, agree=0.85)
    train_detectors(images, values, CONCEPTS, tmp_path / "d.onnx", seed=3, options=QUICK)
    fresh, truth = squares(300, seed=1)
    size = OnnxConceptDetector(tmp_path / "d.onnx").read(fresh)["size"]
    for rows in (truth[:, 0] == 0, truth[:, 0] != 0):
        assert macro_auroc(size[rows], truth[rows, 1]) > 0.9


def test_the_file_answers_as_the_trained_network():
    """Normalisation and temperature folded into the ONNX file give the softmax of the network's own logits."""
    images, _ = squares(60)
    torch.manual_seed(0)
    network = compact._network([3, 2])
    network(torch.from_numpy(images))  # one pass in training mode moves the running means
    logits = compact._logits(network, torch.from_numpy(images))
    layers, heads = compact._folded(network, CONCEPTS, [2.0, 1.0])
    session = onnxruntime.InferenceSession(compact_model(layers, heads, 24), providers=["CPUExecutionProvider"])
    colour, size = session.run(["concept/colour", "concept/size"], {"input": images})
    np.testing.assert_allclose(colour, torch.softmax(logits[0] / 2, 1), atol=1e-4)
    np.testing.assert_allclose(size, torch.softmax(logits[1], 1), atol=1e-4)


def test_auroc_is_unknown_when_a_level_is_missing():
    """Half a judgement is not shown as a whole one."""
    assert macro_auroc(np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]), np.array([0, 1])) is None


SITE = Concept(name="site", levels=("GH", "RS"), phrases=("", "sunlit"))
DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.mark.skipif(
    not (DATA / "squeezenet-v1.1-features").is_dir() or not (DATA / "plantvillage-leaves").is_dir(),
    reason="optional photos: set AUDIT_PLUGIN_DATA to a folder with plantvillage-leaves and squeezenet-v1.1-features",
)
def test_site_of_leaf_photos_is_read(tmp_path):
    """On 160 real photos, heads on a small feature network read the capture site of 80 photos taken later."""
    images, site = leaf_photos("train", 160)
    later, truth = leaf_photos("test", 80)
    features = DATA / "squeezenet-v1.1-features" / "squeezenet_v1.1_features.onnx"
    train_detectors(images, site, (SITE,), tmp_path / "d.onnx", seed=1, features=features)
    assert macro_auroc(OnnxConceptDetector(tmp_path / "d.onnx").read(later)["site"], truth[:, 0]) > 0.95


@dataclasses.dataclass(frozen=True)
class Site:
    concept: Concept
    column: str = "site"
    numeric: bool = False
    cells: dict[str, str] = dataclasses.field(default_factory=dict)


def leaf_photos(split, n):
    leaves = DATA / "plantvillage-leaves"
    where = {"label": ["tomato_healthy", "tomato_late_blight"], "site": ["RS", "GH"], "split": split}
    options = FolderOptions(images=f"{leaves}/images.zip", table=f"{leaves}/labels.csv", where=where, rows=n)
    source = open_folder(options, [Site(SITE)])
    return source.images(64), source.values
