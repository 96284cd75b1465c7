"""First estimates that pictures share: where a plan starts from nothing but noise, one evaluation serves all pictures of a caption.

At zero signal-to-noise the best estimate of the picture is the mean of all that the caption may show, whatever the noise is.  It is taken
from noise that follows from the caption, so that it depends neither on which pictures are drawn nor in which order.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

Asked = str | int | None
"""A caption, a class, or nothing in particular."""

BLIND_SIGMA = 100.0
"""From here on a diffusion's state tells nothing of the picture: its share is below one in a hundred."""
MOST = 4096
"""Captions that are remembered; the one that was not asked for longest goes first."""


class FirstEstimates:
    """Those of one plan, for any number of threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[Asked, Tensor] = OrderedDict()
        self._lock = Lock()

    def of(self, asked: Sequence[Asked], make: Callable[[Sequence[Asked]], Float[Tensor, "m c h w"]]) -> Float[Tensor, "n c h w"]:
        """One estimate per row; ``make`` evaluates those that are not known, each once."""
        with self._lock:
            found = {each: self._known[each] for each in asked if each in self._known}
        missing = [each for each in dict.fromkeys(asked) if each not in found]
        if missing:
            found |= zip(missing, make(missing).unbind(), strict=True)
        with self._lock:
            for each in dict.fromkeys(asked):
                self._known[each] = found[each]
                self._known.move_to_end(each)
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return torch.stack([found[each] for each in asked])


def seed_of(asked: Asked) -> int:
    """The noise from which a caption's first estimate is made.

    >>> seed_of("a dog") == seed_of("a dog") != seed_of("a cat")
    True
    """
    return int.from_bytes(hashlib.sha256(repr(asked).encode()).digest()[:8], "big")
