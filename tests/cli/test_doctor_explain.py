"""What ``doctor`` says of the files that `explain` names."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.cli import doctor_explain
from audit_plugin.config import ExplainConfig, WitnessOptions
from audit_plugin.core.errors import AuditError
from audit_plugin.perception.features import FeatureOptions
from audit_plugin.target.gradients import GradientOptions
from tests.fixtures.networks import WEIGHT, colour_network, sigmoid_network
from tests.perception.test_features import network
from tests.target.gradients.deployed import Coarse, contract


def told(works):
    out = {}
    for check, work in works:
        try:
            out[check] = (True, work())
        except AuditError as error:
            out[check] = (False, str(error))
    return out


def known():
    return replace(contract(), info=Coarse().info)


def test_files_of_a_model_are_read_and_tried(tmp_path):
    own, few = tmp_path / "own.onnx", tmp_path / "few.onnx"
    colour_network(own)
    colour_network(few, weight=WEIGHT[:, :2], bias=np.zeros(2, np.float32))
    asked = ExplainConfig(
        gradients={"colours": GradientOptions(file=own)}, robust=str(few), witness=WitnessOptions(file=str(tmp_path / "gone.onnx"))
    )
    found = told(doctor_explain.classifiers(asked, "colours", known(), 16))
    assert found["gradients"] == (True, "own.onnx answers 4 classes, with a gradient")
    assert found["robust"][0] is found["witness"][0] is False
    assert "answers 2 classes, the audited model 4" in found["robust"][1]
    assert "there is no file" in found["witness"][1]
    away = told(doctor_explain.classifiers(asked, "colours", None, 16))
    assert away["gradients"] == (True, "own.onnx is there; it is tried once the server says what the model takes")


def test_one_class_of_independent_ones_is_looked_up(tmp_path):
    """Its file answers two columns then; a class that is not there is said."""
    file = sigmoid_network(tmp_path / "sigmoid.onnx")
    asked = ExplainConfig(gradients={"colours": GradientOptions(file=file, of_class="blue")})
    found = told(doctor_explain.classifiers(asked, "colours", known(), 16))
    assert found["class"] == (True, "'blue', column 2 of independent classes")
    assert found["gradients"] == (True, "sigmoid.onnx answers 2 classes, with a gradient")
    other = ExplainConfig(gradients={"colours": GradientOptions(file=file, of_class="sky")})
    assert told(doctor_explain.classifiers(other, "colours", known(), 16))["class"][0] is False


def test_what_is_no_network_is_said(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    asked = ExplainConfig(gradients={"colours": GradientOptions(file=tmp_path / "text.onnx")})
    ok, said = told(doctor_explain.classifiers(asked, "colours", known(), 16))["gradients"]
    assert not ok
    assert "cannot be read as" in said
    (check,) = told(doctor_explain.unknown_models(asked, ("shapes",))).items()
    assert check == ("gradients", (False, "explain.gradients: model 'colours' is not audited; audited are shapes"))


@pytest.mark.parametrize(("output", "ok"), [("pool", True), ("nothing", False)])
def test_feature_networks_are_tried_on_a_picture(tmp_path, output, ok):
    file = network(tmp_path / "net.onnx")
    found = told(doctor_explain.networks(ExplainConfig(features=FeatureOptions(file=file, output=output)), 16))
    assert found["features"][0] is ok
    assert ("features a picture" in found["features"][1]) is ok
