"""The model ``audit_counterfactual``: images as drawn, the same pulled to another class, and what the classifier says of both."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import Models, Request, answer_each, arrays_for, run, settings_of
from .comparison import compared, plans

STARTS = ("latents", "image", "seeds")
DRAWN = ("image", "trajectory", "evaluations", "engine_key", "tier")


class TritonPythonModel:
    """One instance; a request is one batch with one plan.  All it does itself is arithmetic on finished images, on the host."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read which models draw and which one is audited."""
        self.settings = settings_of(args, "counterfactual.json")
        self.arrays = arrays_for("cpu")
        self.models = Models(self.arrays, self.settings["rows"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return answer_each(requests, self._compare, self.arrays)

    def _compare(self, request: Any) -> dict[str, Any]:
        inputs = Request(request, self.arrays)
        other = inputs.host("reference_context")
        plain, pulled = plans(inputs.text("plan"), other_context=other is not None)
        before = self._draw(inputs, plain, "context" if other is None else "reference_context")
        after = self._draw(inputs, pulled, "context")
        return compared(before, after, inputs.host("target"), self._scores)

    def _draw(self, inputs: Request, plan: str, context: str) -> dict[str, Any]:
        sent = {name: inputs.host(name) for name in (*STARTS, "target")} | {"context": inputs.host(context), "plan": plan}
        return run(self.settings["sampler"], {name: value for name, value in sent.items() if value is not None}, DRAWN, self.arrays)

    def _scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        audited = self.settings["audited"]
        feeds = {audited["input"]: images}
        if audited["cotangent"] is not None:  # a VJP model asked for its scores only
            feeds["cotangent"] = np.zeros((len(images), audited["cotangent"]), np.float32)
        found: NDArray[np.float32] = self.models.call(audited["model"], feeds, audited["output"])
        return found
