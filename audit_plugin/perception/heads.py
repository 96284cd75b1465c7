"""Logistic heads on a given feature network: the better choice for photos when a suitable network is at hand."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import DetectorError
from audit_plugin.core.protocols import Images
from audit_plugin.perception.onnx_graph import Head, pooled_features, with_heads
from audit_plugin.perception.task import Task, temperature, weighted_losses


def train_heads(task: Task, features: str | Path) -> tuple[bytes, dict[str, Any]]:
    """Feature network and heads as one ONNX file, and facts about the training."""
    pooled = pooled_features(features)
    vectors = _embed(pooled, task.images)
    mean, spread = vectors[task.rows.train].mean(0), vectors[task.rows.train].std(0) + 1e-6
    heads, temperatures = {}, []
    for j, concept in enumerate(task.concepts):
        weight, bias, t = _logistic((vectors - mean) / spread, task, j)
        weight = weight / spread
        heads[concept.name] = Head(weight=weight.astype(np.float32), bias=(bias - weight @ mean).astype(np.float32))
        temperatures.append(t)
    source = hashlib.sha256(Path(features).read_bytes()).hexdigest()
    return with_heads(pooled, heads), {"features_sha256": source, "features": vectors.shape[1], "temperatures": temperatures}


def _embed(pooled: bytes, images: Images) -> NDArray[np.float64]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(pooled, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        parts = [session.run(None, {name: images[i : i + 32]})[0] for i in range(0, len(images), 32)]
    except Exception as error:  # onnxruntime's errors share no base class
        raise DetectorError(f"the feature network cannot read images of {images.shape[2:]} pixels: {error}") from error
    return np.concatenate(parts).astype(np.float64)


def _logistic(z: NDArray[np.float64], task: Task, concept: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Multinomial logistic regression on standardised features: weight ``(levels, features)``, bias; T is applied to both."""
    import torch

    x, y, w = torch.from_numpy(z), torch.from_numpy(task.values[:, [concept]]), torch.from_numpy(task.weights[:, [concept]])
    train, tune = torch.from_numpy(task.rows.train), torch.from_numpy(task.rows.tune)
    theta = torch.zeros(len(task.concepts[concept].levels), z.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser: Any = torch.optim.LBFGS([theta], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        fit = weighted_losses([x[train] @ theta[:, :-1].T + theta[:, -1]], y[train], w[train])
        loss = fit.sum() + task.options.l2 * theta[:, :-1].square().sum()
        torch.autograd.backward(loss)
        return float(loss.detach())

    optimiser.step(closure)
    fitted = theta.detach()
    t = temperature(x[tune] @ fitted[:, :-1].T + fitted[:, -1], y[tune, 0], w[tune, 0])
    scaled = (fitted / t).numpy()
    return scaled[:, :-1], scaled[:, -1], t
