"""One request of the sampler, from its inputs to its outputs; knows arrays and callable models, nothing of the server."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .noise import start_noise
from .plan import Plan, RequestError, read_plan
from .sampling import SAMPLERS, Array, Denoise, Told, bounded, denoiser, guided, rms, steered
from .steering import Calls, Steering, decoded

STATISTICS = ("sigma", "rms", "change", "log_probability")
"""Columns of ``trajectory``: noise level; root mean square of the clean estimate and of its change since the step before;
log-probability of the target before the step was steered, NaN where it was not."""


class Inputs(Protocol):
    """Inputs of a request; every one may be absent."""

    def array(self, name: str) -> Array | None:
        """Numbers where the loop's arrays are."""
        ...

    def host(self, name: str) -> NDArray[Any] | None:
        """Numbers on the host."""
        ...

    def text(self, name: str) -> str:
        """A string; empty when absent."""
        ...


class Drawing:
    """A batch with one plan while it is drawn."""

    def __init__(self, settings: Mapping[str, Any], null: Mapping[str, NDArray[Any]], calls: Calls, inputs: Inputs) -> None:
        self.settings, self.null, self.calls, self.inputs = settings, null, calls, inputs
        self.models: Mapping[str, str] = settings["models"]
        self.plan = read_plan(inputs.text("plan"), settings["reference"], settings["levels"])
        self.evaluations = 0
        self.rows: list[NDArray[np.float32]] = []

    def outputs(self) -> dict[str, Array | str]:
        """By name: image (n 3 h w) in [0, 1], latents, trajectory (n steps 4), evaluations (1), engine_key, tier."""
        start = self._start()
        steering = self._steering(len(start))
        sample = SAMPLERS[self.plan.sampler]
        latents = self.plan.end * sample(self._denoiser(len(start), steering), start, self.plan.sigmas, self._recorder(steering))
        return {
            "image": decoded(self.calls, self.models, latents).clip(0, 1),
            "latents": latents,
            "trajectory": np.stack(self.rows, 1),
            "evaluations": np.array([self.evaluations], np.int64),
            "engine_key": str(self.settings["engine_key"]),
            "tier": tier(self.plan, read_plan("", self.settings["reference"], self.settings["levels"])),
        }

    def _start(self) -> Array:
        """X at the first noise level: as sent; or an image's latents and noise; or noise of data with unit variance."""
        latents, image, seeds = self.inputs.array("latents"), self.inputs.array("image"), self.inputs.host("seeds")
        if latents is not None and image is not None:
            raise RequestError("a request starts from latents or from an image, not from both")
        if latents is not None:
            return latents
        if seeds is None or (image is not None and len(image) != seeds.size):
            raise RequestError("a request needs latents to start from, or one seed per row, with or without an image per row")
        sigma, noise = self.plan.sigmas[0], self.calls.place(start_noise(seeds, self.settings["latent"]))
        if image is None:
            return self.plan.start * noise
        latents = image * 2 - 1
        if "vae_encoder" in self.models:
            latents = self.calls.call(self.models["vae_encoder"], {"images": latents}, "latents")
        return latents + sigma * noise

    def _denoiser(self, rows: int, steering: Steering | None) -> Denoise:
        denoise = denoiser(self._predict, self.plan, self.settings["log_levels"], self.settings["prediction"])
        null = {name: self.calls.place(np.repeat(value, rows, 0)) for name, value in self.null.items()}
        if self.plan.guidance != 1 and not null:
            raise RequestError("this pipeline knows no empty condition to guide away from; set guidance to 1")
        estimate = bounded(guided(denoise, self._told(rows), null, self.plan, self.calls.join), self.settings["clip"])
        return estimate if steering is None else steered(estimate, steering.gradient, self.plan)

    def _told(self, rows: int) -> Told:
        told: dict[str, Array] = {}
        for name in self.settings["told"]:
            value = self.inputs.array(name)
            if value is None or len(value) != rows:
                raise RequestError(f"a request needs {name!r} for each of its {rows} rows")
            told[name] = value
        return told

    def _steering(self, rows: int) -> Steering | None:
        if self.plan.classifier_guidance == 0:
            return None
        if "classifier_vjp" not in self.models:
            raise RequestError("the plan asks for a classifier's pull, but this repository was written without a classifier")
        target, classes = self.inputs.host("target"), int(self.settings["classes"])
        if target is None or target.shape != (rows,) or target.min() < 0 or target.max() >= classes:
            raise RequestError(f"a classifier's pull needs a target for each of the {rows} rows, from 0 to {classes - 1}")
        return Steering(self.calls, self.models, target, classes, self.settings["scores"])

    def _predict(self, x: Array, t: float, told: Told) -> Array:
        self.evaluations += len(x)
        times = self.calls.place(np.full(len(x), t, np.float32))
        return self.calls.call(self.models["denoiser"], {"sample": x, "t": times, **told}, "prediction")

    def _recorder(self, steering: Steering | None) -> Callable[[float, Array], None]:
        """Adds a row of statistics per step."""
        before: list[Array] = []

        def record(sigma: float, clean: Array) -> None:
            change = clean - before.pop() if before else clean
            before.append(clean)
            steered_here = steering is not None and self.plan.steered(sigma)
            told = steering.log_probability if steering is not None and steered_here else np.full(len(clean), np.nan)
            columns = [np.full(len(clean), sigma), self.calls.host(rms(clean)), self.calls.host(rms(change)), told]
            self.rows.append(np.stack([np.asarray(each, np.float32) for each in columns], 1))

        return record


def tier(plan: Plan, reference: Plan) -> str:
    """Exact unless it saves: fewer steps than the reference takes from the same level on, or a smaller share of them guided.

    A classifier's pull is what the user asks for and saves nothing, so it changes no tier.
    """
    full = [sigma for sigma in reference.sigmas if sigma <= plan.sigmas[0] * (1 + 1e-6)]
    guided, fully = (sum(map(one.guided, at[:-1])) for one, at in ((plan, plan.sigmas), (reference, full)))
    saves = len(plan.sigmas) < len(full) or guided * (len(full) - 1) < fully * (len(plan.sigmas) - 1)
    return "approximate" if saves else "exact"
