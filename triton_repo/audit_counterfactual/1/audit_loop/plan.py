"""What a request asks for, read from its JSON: noise levels, sampler, guidance."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SAMPLERS = ("ddim", "dpmpp_2m", "euler")
PATH = ("steps", "schedule", "sigmas")
KEYS = (*PATH, "skip", "sampler", "guidance", "guidance_interval", "classifier_guidance", "classifier_interval")


class RequestError(ValueError):
    """A request asks for what cannot be drawn."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a request is drawn."""

    sigmas: tuple[float, ...]
    """Noise levels to visit, descending."""
    sampler: str
    timesteps: tuple[float, ...] = ()
    """What the network is told at each level but the last; empty where the table of levels decides."""
    start: float = 0.0
    """Standard deviation of x at the first level."""
    end: float = 1.0
    """What the last x is multiplied by to be latents."""
    guidance: float = 1.0
    """Strength of classifier-free guidance; 1 is none."""
    guidance_interval: tuple[float, float] = (0.0, math.inf)
    classifier_guidance: float = 0.0
    """Strength of the pull towards the target class; 0 is none."""
    classifier_interval: tuple[float, float] = (0.0, math.inf)

    def guided(self, sigma: float) -> bool:
        """Whether a step at sigma also evaluates the empty condition."""
        return self.guidance != 1.0 and self.guidance_interval[0] <= sigma <= self.guidance_interval[1]

    def steered(self, sigma: float) -> bool:
        """Whether a step at sigma asks the classifier for a gradient."""
        return self.classifier_guidance != 0.0 and self.classifier_interval[0] <= sigma <= self.classifier_interval[1]


def read_plan(text: str, reference: Mapping[str, Any], levels: Sequence[float]) -> Plan:
    """A request's JSON over the reference plan; levels are the sigmas of all timesteps, ascending.  Raises RequestError."""
    try:
        asked = {key: value for key, value in (json.loads(text) if text else {}).items() if value is not None}
        _refuse_unknown(asked)
        return _checked(_plan({**reference, **_path(asked, reference, levels), **asked}))
    except RequestError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise RequestError(f"the plan cannot be read: {error}") from error


def _refuse_unknown(asked: Mapping[str, Any]) -> None:
    if unknown := set(asked) - set(KEYS):
        raise RequestError(f"the plan holds unknown {', '.join(sorted(unknown))}; known are {', '.join(KEYS)}")


def _path(asked: Mapping[str, Any], reference: Mapping[str, Any], levels: Sequence[float]) -> dict[str, Any]:
    """Levels of the request's own, where it names any; what is left out of ``skip`` is left out of both."""
    path: dict[str, Any] = {key: reference[key] for key in ("sigmas", "timesteps", "start", "end")}
    if set(asked) & set(PATH):
        if "sigmas" in asked and len(set(asked) & set(PATH)) > 1:
            raise RequestError("a plan has either sigmas, or steps and a schedule")
        steps = int(asked.get("steps", len(path["sigmas"]) - 1))
        sigmas = asked.get("sigmas") or _schedule(asked.get("schedule", "trailing"), levels, steps)
        path = {"sigmas": sigmas, "timesteps": [], "start": 0.0, "end": 1.0}
    skip = int(asked.get("skip", 0))
    if not 0 <= skip < len(path["sigmas"]) - 1:
        raise RequestError(f"a plan of {len(path['sigmas']) - 1} steps skips 0 to {len(path['sigmas']) - 2} of them, got {skip}")
    if skip:
        path |= {"sigmas": path["sigmas"][skip:], "timesteps": path["timesteps"][skip:], "start": 0.0}
    return {**path, "path": path["sigmas"]}


def _plan(values: Mapping[str, Any]) -> Plan:
    sigmas = tuple(float(each) for each in values["path"])
    intervals = {
        key: (float(values[key][0]), float(values[key][1]))
        for key in ("guidance_interval", "classifier_interval")
        if values.get(key) is not None
    }
    return Plan(
        sigmas=sigmas,
        sampler=str(values["sampler"]),
        timesteps=tuple(float(each) for each in values["timesteps"]),
        start=float(values["start"]) or (1 + sigmas[0] ** 2) ** 0.5,  # data of unit variance with its noise
        end=float(values["end"]),
        guidance=float(values["guidance"]),
        classifier_guidance=float(values.get("classifier_guidance", 0.0)),
        **intervals,
    )


def _checked(plan: Plan) -> Plan:
    if len(plan.sigmas) < 2 or plan.sigmas[-1] < 0 or any(not high > low for high, low in pairwise(plan.sigmas)):
        raise RequestError(f"a plan needs two or more noise levels, descending; got {list(plan.sigmas)}")
    if plan.sampler not in SAMPLERS:
        raise RequestError(f"sampler {plan.sampler!r} is unknown; use {' or '.join(SAMPLERS)}")
    return plan


def _schedule(name: str, levels: Sequence[float], steps: int) -> list[float]:
    count = len(levels)
    if not 1 <= steps <= count:
        raise RequestError(f"a plan has 1 to {count} steps, got {steps}")
    if name == "trailing":
        return [levels[round(count - i * count / steps) - 1] for i in range(steps)] + [0.0]
    if name == "karras":  # Karras et al. 2022, eq. 5, rho = 7
        high, low = levels[-1] ** (1 / 7), levels[0] ** (1 / 7)
        return [(high + i / max(steps - 1, 1) * (low - high)) ** 7 for i in range(steps)] + [0.0]
    raise RequestError(f"schedule {name!r} is unknown; use trailing or karras, or send sigmas")
