"""The model ``audit_counterfactual``: images as drawn, the same pulled to another class, and what the classifier says of both."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calls import Models, Request, answer_each, arrays_for, refuse_each, run, settings_of
from .comparison import compared, plans

STARTS = ("latents", "image", "seeds")
DRAWN = ("image", "trajectory", "evaluations", "engine_key", "tier")


class TritonPythonModel:
    """One instance; a request is one batch with one plan.  All it does itself is arithmetic on finished images, on the host."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read which models draw and which one is audited."""
        self.settings = settings_of(args, "counterfactual.json")
        if self.settings is None:
            return
        self.arrays = arrays_for("cpu")
        self.models = Models(self.arrays, self.settings["rows"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return refuse_each(requests) if self.settings is None else answer_each(requests, self._compare, self.arrays)

    def _compare(self, request: Any) -> dict[str, Any]:
        inputs = Request(request, self.arrays)
        told = {name: inputs.host(name) for name in self.settings["told"]}
        other = {name: inputs.host(f"reference_{name}") for name in told}
        asked = any(value is not None for value in other.values())
        plain, pulled = plans(inputs.text("plan"), other_condition=asked)
        before = self._draw(inputs, plain, {name: told[name] if other[name] is None else other[name] for name in told})
        after = self._draw(inputs, pulled, told)
        return compared(before, after, inputs.host("target"), self._scores)

    def _draw(self, inputs: Request, plan: str, told: dict[str, Any]) -> dict[str, Any]:
        sent = {name: inputs.host(name) for name in (*STARTS, "target")} | told | {"plan": plan}
        return run(self.settings["sampler"], {name: value for name, value in sent.items() if value is not None}, DRAWN, self.arrays)

    def _scores(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        audited = self.settings["audited"]
        feeds = {audited["input"]: images}
        if audited["cotangent"] is not None:  # a VJP model asked for its scores only
            feeds["cotangent"] = np.zeros((len(images), audited["cotangent"]), np.float32)
        found: NDArray[np.float32] = self.models.call(audited["model"], feeds, audited["output"])
        return found
