"""Which class every image is to be given: the runner-up, one that the user names, or every class of interest.

With two classes it is the other one, whatever the policy says.  No image has its own class as a target.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

TargetPolicy = Literal["runner_up", "all"] | Mapping[str, str | Sequence[str]] | Sequence[str]
"""``runner_up``; ``all`` other classes; a mapping from the class that the server says to one target or several, where images of other
classes get the runner-up; or the classes of interest, all of which are targets of every image."""

NAMED = 10
"""Classes that an error lists."""


@dataclass(frozen=True)
class Aim:
    """One image and one target, by index."""

    row: int
    original: int
    """The class that the server gives."""
    target: int


def runner_up(scores: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "n"]:
    """The second likeliest class of every image; of equal scores the first class is the likelier one.

    >>> runner_up(np.array([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]])).tolist()
    [2, 1]
    """
    if scores.ndim != 2 or scores.shape[1] < 2 or not np.isfinite(scores).all():
        raise ValueError(f"need finite scores of two or more classes, got shape {scores.shape}")
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, 1])


def targets(scores: Float[np.ndarray, "n k"], classes: Sequence[str], policy: TargetPolicy = "runner_up") -> tuple[Aim, ...]:
    """Every image with its targets, in the order of the images, then of the classes.

    Raises ValueError where the policy names a class that the model does not have, or none but an image's own.

    >>> targets(np.array([[0.7, 0.2, 0.1]]), ("cat", "dog", "fox"), {"cat": "fox"})
    (Aim(row=0, original=0, target=2),)
    """
    second = runner_up(scores)
    if scores.shape[1] != len(classes):
        raise ValueError(f"need one score per class, got {scores.shape[1]} scores of {len(classes)} classes")
    own = scores.argmax(1)
    wanted = _wanted(classes, policy)
    aims = []
    for row, (original, runner) in enumerate(zip(own.tolist(), second.tolist(), strict=True)):
        chosen = wanted[original] or (runner,)
        aims += [Aim(row, original, target) for target in chosen if target != original]
    return tuple(aims)


def _wanted(classes: Sequence[str], policy: TargetPolicy) -> tuple[tuple[int, ...], ...]:
    """Targets by original class; empty for the runner-up."""
    runners: tuple[tuple[int, ...], ...] = ((),) * len(classes)
    wanted = runners
    if isinstance(policy, Mapping):
        pairs = {_index(one, classes): _several(others, classes) for one, others in policy.items()}
        if same := [classes[one] for one, others in pairs.items() if one in others]:
            raise ValueError(f"a class cannot be its own target: {', '.join(same)}")
        wanted = tuple(pairs.get(at, ()) for at in range(len(classes)))
    elif isinstance(policy, str):
        if policy not in {"runner_up", "all"}:
            raise ValueError(
                f"targets are `runner_up`, `all`, a mapping from class to classes, or a list of classes; got {policy!r}"
            )
        return runners if policy == "runner_up" else (tuple(range(len(classes))),) * len(classes)
    else:
        interest = tuple(sorted({_index(name, classes) for name in policy}))
        if not interest:
            raise ValueError("name at least one class of interest as a target")
        wanted = (interest,) * len(classes)
    return runners if len(classes) == 2 else wanted


def _several(names: str | Sequence[str], classes: Sequence[str]) -> tuple[int, ...]:
    found = tuple(sorted({_index(name, classes) for name in ([names] if isinstance(names, str) else names)}))
    if not found:
        raise ValueError("name at least one target of every class, or leave the class out")
    return found


def _index(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        close = difflib.get_close_matches(name, classes, n=1)
        listed = ", ".join([*classes[:NAMED], *(["..."] if len(classes) > NAMED else [])])
        near = f"did you mean {close[0]!r}?" if close else f"it has {listed}"
        raise ValueError(f"the model has no class {name!r}; {near}")
    return classes.index(name)
