"""Classifiers of drawn people for the case study: published features, averaged over space, with a logistic head; as one ONNX file each."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.optimize import minimize
from scipy.special import expit

FEATURES = "squeezenet-v1.1-features/squeezenet_v1.1_features.onnx"
TAP = "tap6"
PENALTY = 1e-2
"""Ridge on the head's weights, for features of unit spread."""


def features_of(data: Path, images: np.ndarray, *, batch: int = 16) -> np.ndarray:
    """Features (n, 512) of images (n, 3, h, w) in [0, 1]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(data / FEATURES), options, providers=["CPUExecutionProvider"])
    parts = [session.run([TAP], {"input": images[at : at + batch]})[0].mean((2, 3)) for at in range(0, len(images), batch)]
    return np.concatenate(parts)


def fitted(features: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights (512,) and bias of a logistic regression on standardised features, told for the features as they are."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    x, y = (features - mean) / spread, positive.astype(np.float64)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ w[:-1] + w[-1]
        gap = (expit(logits) - y) / len(y)
        value = float((np.logaddexp(0, logits) - y * logits).mean() + PENALTY / 2 * (w[:-1] ** 2).sum())
        return value, np.append(x.T @ gap + PENALTY * w[:-1], gap.sum())

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ mean)


def write_classifier(data: Path, path: Path, weights: np.ndarray, bias: float) -> Path:
    """The features with the head: input (n, 3, h, w) in [0, 1], output ``probabilities`` (n, 2)."""
    model = onnx.load(data / FEATURES)
    graph = model.graph
    columns = np.stack([np.zeros_like(weights), weights], 1).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(columns, "head_weights"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, bias], np.float32), "head_bias"))
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [TAP], ["pooled"], axes=[2, 3], keepdims=0),
            helper.make_node("Gemm", ["pooled", "head_weights", "head_bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ]
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2]))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
