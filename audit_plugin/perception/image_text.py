"""The image-text judge: which of several sentences fits a picture best, by a contrastive model (CLIP, Radford et al. 2021).

Probabilities are a softmax over 100 times the cosines, the temperature that CLIP was trained to.  Several sentences that say one thing
count as the mean of their unit vectors (prompt ensembling, section 3.1.4 there).  The judge is asked about the nodes of a tree (V1, V4),
about the classes (V3) and whether a photo is a good one (V5); the audited model has no part in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree
from audit_plugin.perception.image_text_models import ImageTextModel
from audit_plugin.perception.sessions import unit

TEMPERATURE = 100.0
SENTENCES, CLASSES, REALISM = "sentences:", "classes:", "photo:good"
"""What readings are called: of a node, before its path; of the classes of one label column, before its number; of realism.

No concept has such a name: theirs are without colons.
"""
BAD_PHOTO, GOOD_PHOTO = ("bad photo",), ("good photo",)

Sides = tuple[tuple[str, ...], ...]
"""The sentences of each level."""


@dataclass(frozen=True, eq=False)
class ImageTextJudge:
    """Reads a picture by sentences.  Implements :class:`audit_plugin.core.protocols.ConceptDetector`."""

    model: ImageTextModel
    prompts: Mapping[str, Sides]
    """Reading -> the sentences of its levels."""

    @property
    def fingerprint(self) -> str:
        """Of the model and every sentence."""
        return digest("image-text", self.model.fingerprint, repr(sorted(self.prompts.items())))

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Reading -> probabilities ``(n, levels)`` for images ``(n, 3, h, w)`` in [0, 1]."""
        vectors = self.model.images(images)
        return {name: _softmax(TEMPERATURE * vectors @ sides.T) for name, sides in self._sides.items()}

    @cached_property
    def _sides(self) -> dict[str, NDArray[np.float64]]:
        """Reading -> unit vectors ``(levels, d)``."""
        texts = list(dict.fromkeys(text for sides in self.prompts.values() for side in sides for text in side))
        if not texts:
            return {}
        vectors = dict(zip(texts, self.model.texts(texts), strict=True))
        return {
            name: unit(np.stack([np.mean([vectors[text] for text in side], axis=0) for side in sides]))
            for name, sides in self.prompts.items()
        }


def prompts_of(tree: ConceptTree, tasks: Sequence[Sequence[str]], class_text: str, names: Mapping[str, str]) -> dict[str, Sides]:
    """What is asked of every picture: the sentences of the nodes that an editor changes, the classes of each task, and realism.

    ``class_text`` holds ``{class}``; ``names`` says what to call a class there, its own name by default.
    """
    nodes = {
        SENTENCES + node.path: (node.absent, node.present)
        for node in tree.editable
        if node.operator != "deterministic" and node.present and node.absent
    }
    classes = {
        f"{CLASSES}{at}": tuple((class_text.replace("{class}", names.get(name, name.replace("_", " "))),) for name in task)
        for at, task in enumerate(tasks)
        if len(task) > 1
    }
    return {**nodes, **classes, REALISM: (BAD_PHOTO, GOOD_PHOTO)}


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
