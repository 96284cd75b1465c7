"""A small noise network in ONNX: one convolution of the image, plus a line of the time; and what it computes, in plain torch."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from engines.pipelines.importing import import_denoiser

SIZE = 8
WEIGHT = np.random.default_rng(1).normal(size=(1, 1, 3, 3)).astype(np.float32) / 30
WEIGHT[0, 0, 1, 1] += 1.0
"""Nearly the identity: of almost pure noise it finds the noise."""
SLOPE = 0.03


def write(path, *, names=("x", "t", "eps"), column=False, whole=False, batch="N", weight=WEIGHT, slope=SLOPE):
    """Image and time to noise; ``column`` takes times (n, 1), ``whole`` int64 ones."""
    image, time, output = names
    kind = TensorProto.INT64 if whole else TensorProto.FLOAT
    ports = [
        helper.make_tensor_value_info(image, TensorProto.FLOAT, [batch, 1, SIZE, SIZE]),
        helper.make_tensor_value_info(time, kind, [batch, 1] if column else [batch]),
    ]
    nodes = [
        helper.make_node("Conv", [image, "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", [time], ["ft"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["ft", "axes"], ["rows"]),
        helper.make_node("Mul", ["rows", "slope"], ["line"]),
        helper.make_node("Add", ["c", "line"], [output]),
    ]
    axes = np.array([2, 3] if column else [1, 2, 3])
    weights = [
        numpy_helper.from_array(value, name)
        for name, value in (("w", weight), ("axes", axes), ("slope", np.array(slope, np.float32)))
    ]
    out = helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 1, SIZE, SIZE])
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, "noise", ports, [out], weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ),
        path,
    )
    return path


def save(folder):
    """As a pipeline directory below the folder: images from 0 to 0.5, fifty times from 0 to 0.98."""
    rule = {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.1, "num_train_timesteps": 50}
    return import_denoiser(write(folder / "n.onnx"), folder / "made", schedule=rule, range=(0.0, 0.5), time_scale=0.02).directory


def predicted(x, time):
    """What the network says, in its own units."""
    return torch.nn.functional.conv2d(x, torch.from_numpy(WEIGHT), padding=1) + SLOPE * time.view(-1, 1, 1, 1)
