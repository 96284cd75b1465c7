"""Witness and networks from what is configured; a file witness is the deployed kind of classifier, read locally."""

from contextlib import ExitStack

import numpy as np
import pytest

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bystanders import Bystanders
from audit_plugin.config import ExplainConfig, WitnessOptions
from audit_plugin.core.errors import GradientError
from audit_plugin.methods.counterfactuals.diversity import PLAIN
from audit_plugin.perception.features import FeatureOptions
from audit_plugin.sources.images import encode_png
from tests.fixtures.networks import LABELS, WEIGHT, colour_network, expected_probabilities
from tests.perception.test_features import network
from tests.target.gradients.deployed import Coarse


def further(root, **asked):
    store = edit_store(root)
    found = Bystanders(
        asked=ExplainConfig(**asked), target=Coarse(99), models=(), store=store, scores=None, progress=lambda *_: None
    )
    return store, found.further(ExitStack())


def test_nothing_is_opened_unasked(tmp_path):
    _, found = further(tmp_path, paths=3)
    assert (found.paths, found.witness, found.runs, found.distance) == (3, None, 1, PLAIN)
    assert found.networks.names == ("", "", "")


def test_a_file_is_a_witness_of_the_same_classes(tmp_path):
    """It says what the network says, and is asked about each picture once."""
    other = -WEIGHT
    store, found = further(tmp_path, witness=WitnessOptions(file=str(colour_network(tmp_path / "other.onnx", weight=other))))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    sha = store.put(encode_png(pixels, synthetic=True))
    told = found.witness.answers({sha})
    np.testing.assert_allclose(
        told[sha], expected_probabilities(pixels.transpose(2, 0, 1)[None] / np.float32(255), weight=other)[0], atol=1e-5
    )
    assert (found.witness.name, found.witness.labels) == ("other.onnx", LABELS)
    np.testing.assert_array_equal(found.witness.answers({sha})[sha], told[sha])


def test_a_witness_of_other_classes_is_refused(tmp_path):
    file = colour_network(tmp_path / "few.onnx", weight=WEIGHT[:, :2], bias=np.zeros(2, np.float32))
    store, found = further(tmp_path, witness=WitnessOptions(file=str(file)))
    sha = store.put(encode_png(np.zeros((16, 16, 3), np.uint8), synthetic=True))
    with pytest.raises(GradientError, match="answers 2 classes, the audited model 4"):
        found.witness.answers({sha})


def test_no_model_is_its_own_witness(tmp_path):
    """Where one of several audited models is the others' witness, nobody is shown its own flips."""
    _, found = further(tmp_path, witness=WitnessOptions(model=Coarse(99).info.model))
    assert found.witness is None


def test_networks_are_named_by_file_and_output(tmp_path):
    file = network(tmp_path / "net.onnx")
    _, found = further(
        tmp_path, features=FeatureOptions(file=file, output="pool"), likeness=FeatureOptions(file=file, output="map")
    )
    assert found.networks.names == ("net:pool", "", "net:map")
    assert found.networks.faces is None


def test_a_witness_is_a_model_or_a_file():
    with pytest.raises(ValueError, match="one of the two"):
        WitnessOptions()
    with pytest.raises(ValueError, match="one of the two"):
        WitnessOptions(model="a", file="b")
