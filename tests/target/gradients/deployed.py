"""What a server would have said of the colour networks."""

from audit_plugin.target.contract import Contract, TensorSpec
from audit_plugin.target.options import Activation, PreprocessOptions


def contract(output="probabilities", activation=Activation.NONE, datatype="FP32", **preprocess):
    given = {"size": (16, 16), "dtype": datatype} | preprocess
    return Contract(
        info=None, request_version="1", input=TensorSpec(name="image", datatype=datatype, shape=(-1, 3, 16, 16)),
        output=TensorSpec(name=output, datatype="FP32", shape=(-1, 3)), preprocess=PreprocessOptions(**given),
        activation=activation, batch_axis=True, max_batch=8, priority=0, labels_only=False,
    )  # fmt: skip
