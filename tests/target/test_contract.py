import json

import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.target.contract import TensorSpec, _labels
from audit_plugin.target.options import TargetOptions


def test_classes_that_the_server_names_alike_are_refused():
    """ImageNet's own list has two cranes: an effect would be read from the first of them, whichever was meant."""
    config = {"parameters": {"labels": {"string_value": json.dumps(["crane", "kite", "crane"])}}}
    output = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))
    with pytest.raises(ConfigError, match=r"names 1 classes of model 'm' twice \('crane'\); list them as `labels`"):
        _labels(TargetOptions(model="m"), config, output)
    own = ("crane (bird)", "kite", "crane (machine)")
    assert _labels(TargetOptions(model="m", labels=own), config, output) == own
