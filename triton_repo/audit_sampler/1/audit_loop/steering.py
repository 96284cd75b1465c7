"""Which way a clean estimate must move for the audited class: gradients through classifier and decoder, each a served VJP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = Any
FLOOR = 1e-30
"""Probabilities below it count as it."""


class Calls(Protocol):
    """Models called by name."""

    def call(self, model: str, feeds: Mapping[str, Array], output: str) -> Array:
        """One output for all rows of the feeds."""
        ...

    def host(self, value: Array) -> NDArray[np.float32]:
        """An array on the host."""
        ...

    def place(self, value: NDArray[Any]) -> Array:
        """An array of the host where the others are."""
        ...

    def join(self, parts: list[Array]) -> Array:
        """Rows of all parts."""
        ...


@dataclass(eq=False)
class Steering:
    """Gradient of the target's log-probability in the latents; remembers the last log-probabilities."""

    calls: Calls
    models: Mapping[str, str]
    target: NDArray[np.int64]
    """Wanted class of every row."""
    classes: int
    kind: str
    """What the classifier answers: probabilities or logits."""
    log_probability: NDArray[np.float32] | None = field(default=None)

    def gradient(self, latents: Array) -> Array:
        """D log p(target | decoded latents) / d latents; the classifier sees the image unclipped, so that no gradient is cut off."""
        image = decoded(self.calls, self.models, latents)
        scores = self._vjp(image, np.zeros((len(self.target), self.classes), np.float32), "scores")
        p, cotangent = cotangents(self.calls.host(scores), self.target, self.kind)
        self.log_probability = np.log(p)
        pull = self._vjp(image, cotangent, "gradient")
        if "vae_decoder" not in self.models:
            return pull
        return self.calls.call(self.models["vae_decoder_vjp"], {"latents": latents, "cotangent": pull}, "gradient")

    def _vjp(self, image: Array, cotangent: NDArray[np.float32], output: str) -> Array:
        return self.calls.call(self.models["classifier_vjp"], {"image": image, "cotangent": self.calls.place(cotangent)}, output)


def decoded(calls: Calls, models: Mapping[str, str], latents: Array) -> Array:
    """Images around [0, 1]; a pipeline without a decoder draws in pixels."""
    images = calls.call(models["vae_decoder"], {"latents": latents}, "images") if "vae_decoder" in models else latents
    return images / 2 + 0.5


def cotangents(
    scores: NDArray[np.float32], target: NDArray[np.int64], kind: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability of each target, and d log p / d scores up to a positive factor per row, which guidance divides out again."""
    wanted = np.eye(scores.shape[1], dtype=np.float32)[target]
    if kind == "probabilities":
        return np.maximum((scores * wanted).sum(1), FLOOR), wanted
    powers = np.exp(scores - scores.max(1, keepdims=True))
    p = powers / powers.sum(1, keepdims=True)
    return np.maximum((p * wanted).sum(1), FLOOR), wanted - p
