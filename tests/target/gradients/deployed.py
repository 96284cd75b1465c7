"""What a server would have said of the colour networks, and servers that say it coarsely."""

from dataclasses import dataclass, field, replace

import numpy as np

from audit_plugin.core.errors import UnknownModelError
from audit_plugin.core.values import TargetInfo
from audit_plugin.target.contract import Contract, TensorSpec
from audit_plugin.target.options import Activation, PreprocessOptions
from tests.fixtures.networks import LABELS, expected_probabilities


def contract(output="probabilities", activation=Activation.NONE, datatype="FP32", **preprocess):
    given = {"size": (16, 16), "dtype": datatype} | preprocess
    return Contract(
        info=None, request_version="1", input=TensorSpec(name="image", datatype=datatype, shape=(-1, 3, 16, 16)),
        output=TensorSpec(name=output, datatype="FP32", shape=(-1, 3)), preprocess=PreprocessOptions(**given),
        activation=activation, batch_axis=True, max_batch=8, priority=0, labels_only=False,
    )  # fmt: skip


class NoOtherModels:
    """The connection to a server that has the classifier and nothing beside it."""

    def call(self, _what, model, *_more, **_named):
        raise UnknownModelError(f"there is no {model}")


@dataclass
class Coarse:
    """The colour classifier behind a server that tells labels alone (``decimals=None``) or so many decimals; 99 for all of them."""

    decimals: int | None = 2
    tells: object = expected_probabilities
    asked: int = 0
    wire: object = field(default_factory=NoOtherModels)
    info: TargetInfo = field(
        default_factory=lambda: TargetInfo(model="colours", version="1", config_hash="h", server="fake", labels=LABELS, scoring="s")
    )

    @property
    def labels_only(self):
        return self.decimals is None

    @property
    def contract(self):
        if self.labels_only:
            return replace(contract("class"), labels_only=True)
        return contract()

    def predict(self, images):
        self.asked += len(images)
        told = self.tells(images)
        return np.eye(told.shape[1])[told.argmax(1)] if self.decimals is None else np.round(told, self.decimals)
