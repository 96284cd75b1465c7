"""The seam between a bank of edits and what makes them.  Images are float32 ``(n, 3, h, w)``, RGB, in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import Node


@dataclass(frozen=True, kw_only=True)
class EditAsk:
    """One change of one image."""

    node: Node | None
    """None: a placebo."""
    target: str
    """Caption, or bare prompt, of what it should become."""
    source: str = ""
    """Caption of what it is, which the change starts from; empty: from nothing in particular."""
    sign: int = 1
    """-1 turns the change round: away from the target."""
    scale: float = 7.5
    threshold: float = 0.75

    @property
    def id(self) -> str:
        """All that decides the change, as text."""
        operator = (
            "" if self.node is None or self.node.operator != "deterministic" else f"{self.node.path} {dict(self.node.params)}"
        )
        return digest("edit", operator, self.target, self.source, str(self.sign), repr(self.scale), repr(self.threshold))


@dataclass(frozen=True, kw_only=True)
class Original:
    """An image that is to be edited, keyed for its noise by (image, seed)."""

    image: str
    sha256: str
    """Of the file's bytes."""
    seed: int
    """63-bit noise seed, from the image and the number of the replicate."""
    caption: str = ""
    """What it shows, for editors that are told."""


@dataclass(frozen=True, eq=False)
class EditedImages:
    """What an editor made."""

    images: Images
    masks: NDArray[np.float32] | None = None
    """``(n, h, w)`` in [0, 1], where it acted; None: anywhere."""


class Editor(Protocol):
    """Changes attributes of given images.  Equal inputs give equal images, whatever the batch."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever weights, steps or settings change."""
        ...

    @property
    def name(self) -> str:
        """As reports show it."""
        ...

    def refusal(self, node: Node) -> str:
        """Why it cannot edit a node; empty when it can."""
        ...

    def null(self, originals: Sequence[Original], images: Images) -> Images:
        """The same images through the editor, with nothing asked for: what edits are compared with."""
        ...

    def edit(self, originals: Sequence[Original], images: Images, asks: Sequence[Sequence[EditAsk]]) -> EditedImages:
        """Every image with its own changes, several at once where several are asked for; equally many for all images."""
        ...

    def rows_spent(self) -> int:
        """Network rows evaluated so far."""
        ...
