"""Gradients over the network: a vector-Jacobian product that the same server offers beside the classifier.

The graph takes pictures and a cotangent and answers logits and the gradient of their product in the pictures
(``audit-plugin engines export-vjp`` writes it).  The classifier itself is never touched.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import tritonclient.grpc as triton
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from audit_plugin.core.errors import GradientError, TargetError, TargetUnreachableError
from audit_plugin.target.wire import Wire

Images = Float[Tensor, "n 3 h w"]
Logits = Float[Tensor, "n k"]
Pull = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""(pictures, cotangents) -> (logits, gradients)."""

SUFFIX = "_vjp"
"""Of the name of a classifier's gradient model."""


class ServedGradients:
    """Pictures (n 3 h w) in [0, 1] -> logits (n k), differentiable: each backward pass is one more request per batch."""

    def __init__(self, wire: Wire, model: str, *, classes: int, image: tuple[int, int], max_batch: int) -> None:
        self.wire, self.model, self.classes, self.image, self.max_batch = wire, model, classes, image, max_batch
        self.queries = 0

    @classmethod
    def connect(cls, wire: Wire, model: str, *, classes: int) -> "ServedGradients":
        """Reads what the server says of the model.  Raises GradientError for one that is not a gradient of such a classifier."""
        try:
            told = wire.call("get_model_metadata", model, as_json=True)
        except TargetUnreachableError:  # says nothing about the model, and no other rung would do
            raise
        except TargetError as error:
            raise GradientError(
                f"the server has no gradient model {model!r} ({error}); write it with `audit-plugin engines export-vjp`, or choose "
                "another rung"
            ) from error
        inputs = {each["name"]: [int(side) for side in each.get("shape", [])] for each in told.get("inputs", [])}
        outputs = {each["name"] for each in told.get("outputs", [])}
        if not {"image", "cotangent"} <= set(inputs) or not {"scores", "gradient"} <= outputs:
            raise GradientError(f"model {model!r} is no vector-Jacobian product: it has {sorted(inputs)} and {sorted(outputs)}")
        height, width = inputs["image"][-2:]
        if inputs["cotangent"][-1] != classes:
            raise GradientError(
                f"model {model!r} is the gradient of a classifier of {inputs['cotangent'][-1]} classes, the audited one has {classes}"
            )
        return cls(wire, model, classes=classes, image=(height, width), max_batch=_largest_batch(wire, model))

    def __call__(self, images: Images) -> Logits:
        """Logits of pictures of the size that the gradient was exported for."""
        if tuple(images.shape[2:]) != self.image:
            raise GradientError(
                f"model {self.model!r} takes pictures of {self.image}, not {tuple(images.shape[2:])}; export it again"
            )
        found: Tensor = _Remote.apply(images, self._pull, self.classes)  # type: ignore[no-untyped-call]
        return found

    def _pull(
        self, images: NDArray[np.float32], cotangents: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        parts = range(0, len(images), self.max_batch)
        found = [self._ask(images[at : at + self.max_batch], cotangents[at : at + self.max_batch]) for at in parts]
        scores, gradients = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(gradients)

    def _ask(self, images: NDArray[np.float32], cotangents: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.queries += len(images)
        inputs = []
        for name, value in (("image", images), ("cotangent", cotangents)):
            tensor = triton.InferInput(name, list(value.shape), "FP32")
            inputs.append(tensor.set_data_from_numpy(np.ascontiguousarray(value, np.float32)))
        outputs = [triton.InferRequestedOutput(name) for name in ("scores", "gradient")]
        result = self.wire.call("infer", self.model, inputs, outputs=outputs)
        return result.as_numpy("scores"), result.as_numpy("gradient")


def _largest_batch(wire: Wire, model: str) -> int:
    """Rows of one request: the model's own limit, or a modest number where the server shows no configuration."""
    try:
        told = wire.call("get_model_config", model, as_json=True)
    except TargetError:
        return 1
    return max(1, int(told.get("config", told).get("max_batch_size", 1)))


class _Remote(torch.autograd.Function):
    """Logits that were asked for, and their pull-back that is asked for when it is needed."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, pull: Pull, classes: int) -> Tensor:
        sent = images.detach().cpu().numpy().astype(np.float32)
        scores, _ = pull(sent, np.zeros((len(sent), classes), np.float32))
        ctx.sent, ctx.pull = sent, pull
        return torch.from_numpy(np.array(scores)).to(images)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        (cotangent,) = cotangents
        _, gradient = ctx.pull(ctx.sent, cotangent.detach().cpu().numpy())
        return torch.from_numpy(np.array(gradient)).to(cotangent), None, None
