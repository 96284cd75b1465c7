"""What is said of two drawings from the same start, one of them pulled to another class; arrays on the host."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plan import RequestError

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Images (n 3 h w) in [0, 1] -> class scores (n k)."""


def plans(text: str, *, other_condition: bool) -> tuple[str, str]:
    """Plans of the drawing before, without the pull, and after.  Raises RequestError where nothing would tell the two apart."""
    try:
        asked = dict(json.loads(text)) if text else {}
    except (TypeError, ValueError) as error:
        raise RequestError(f"the plan cannot be read: {error}") from error
    if not asked.get("classifier_guidance") and not other_condition:
        raise RequestError(
            "nothing tells before from after: set classifier_guidance in the plan, or send another condition as reference_NAME"
        )
    return json.dumps({**asked, "classifier_guidance": 0.0}), json.dumps(asked)


def compared(
    before: Mapping[str, Any], after: Mapping[str, Any], target: NDArray[np.int64] | None, scores: Scores
) -> dict[str, Any]:
    """Images as a client would store them, in 8 bits; only what is seen on those counts."""
    images = [as_stored(each["image"]) for each in (before, after)]
    told = [scores(each) for each in images]
    if target is None or target.shape != (len(images[0]),) or target.min() < 0 or target.max() >= told[0].shape[1]:
        raise RequestError(f"a comparison needs a target for each of the {len(images[0])} rows, from 0 to {told[0].shape[1] - 1}")
    answers = [each.argmax(1) for each in told]
    return {
        "image_before": images[0],
        "image": images[1],
        "scores_before": told[0].astype(np.float32),
        "scores": told[1].astype(np.float32),
        "flipped": (answers[0] != target) & (answers[1] == target),
        "l1": np.abs(images[1] - images[0]).reshape(len(images[0]), -1).mean(1),
        "trajectory": after["trajectory"],
        "evaluations": before["evaluations"] + after["evaluations"],
        "engine_key": after["engine_key"][0].decode(),
        "tier": after["tier"][0].decode(),
    }


def as_stored(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to 8 bits a channel."""
    return (np.rint(image * 255) / 255).astype(np.float32)
