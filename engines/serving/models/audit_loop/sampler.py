"""The model ``audit_sampler``: draws images by calling the served networks of one pipeline, step by step."""

from typing import Any

import numpy as np

from .calls import Models, Request, answer_each, arrays_for, refuse_each, settings_of, version_directory
from .drawing import Drawing


class TritonPythonModel:
    """One instance; a request is one batch with one plan."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read what the exporter knew of the pipeline."""
        self.settings = settings_of(args, "sampler.json")
        if self.settings is None:
            return
        self.null = dict(np.load(version_directory(args) / "null.npz", allow_pickle=False))
        self.arrays = arrays_for(self.settings["arrays"])
        self.models = Models(self.arrays, self.settings["rows"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return refuse_each(requests) if self.settings is None else answer_each(requests, self._draw, self.arrays)

    def _draw(self, request: Any) -> dict[str, Any]:
        return Drawing(self.settings, self.null, self.models, Request(request, self.arrays)).outputs()
