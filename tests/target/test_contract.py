import json

import pytest

from audit_plugin.core.errors import ConfigError, TargetShapeError
from audit_plugin.target.contract import TensorSpec, _labels, _settle
from audit_plugin.target.options import PreprocessOptions, TargetOptions


def test_classes_that_the_server_names_alike_are_refused():
    """ImageNet's own list has two cranes: an effect would be read from the first of them, whichever was meant."""
    config = {"parameters": {"labels": {"string_value": json.dumps(["crane", "kite", "crane"])}}}
    output = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))
    with pytest.raises(ConfigError, match=r"names 1 classes of model 'm' twice \('crane'\); list them as `labels`"):
        _labels(TargetOptions(model="m"), config, output)
    own = ("crane (bird)", "kite", "crane (machine)")
    assert _labels(TargetOptions(model="m", labels=own), config, output) == own


def test_a_grey_model_is_told_by_its_one_channel():
    """And refused, with the way out, where colours would be sent to it."""
    source = TensorSpec(name="image", datatype="FP32", shape=(-1, 1, 28, 28))
    grey = TargetOptions(model="m", preprocess=PreprocessOptions(channels="GREY"))
    assert _settle(grey, source, batch_axis=True).size == (28, 28)
    with pytest.raises(TargetShapeError, match=r"wants \(1, 28, 28\) but preprocessing makes \(3, 28, 28\).*`preprocess.channels`"):
        _settle(TargetOptions(model="m"), source, batch_axis=True)
