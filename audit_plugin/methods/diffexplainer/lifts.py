"""Which words are said oftener of pictures that a subject answers to (specification 6.7, 4): descriptions, beside the test that decides.

By prompts alone this costs nothing.  It tells of prompts, not of pictures: what a prompt says may not have been drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool

from audit_plugin.concepts.keywords import DENIALS, affirmed
from audit_plugin.core.seeds import digest
from audit_plugin.methods.diffexplainer.word_bank import plain
from audit_plugin.statistics.words import PhraseLift, phrase_lifts, presence

MOST = 50
"""Pictures of a subject that are looked at closely."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Said:
    """What texts, one a picture, say."""

    words: tuple[str, ...]
    """As :func:`plain` writes them."""
    by: Bool[np.ndarray, "n J"]

    @classmethod
    def of(cls, texts: Sequence[str], words: Sequence[str]) -> Self:
        """Words that are the same but for small ones count as one; a text that says "without a ruler" says no ruler."""
        distinct = tuple(dict.fromkeys(key for word in words if (key := plain(word))))
        by, denials = presence(texts, distinct), np.array([bool(DENIALS & set(word.split())) for word in distinct], np.bool_)
        rows = [row for row, text in enumerate(texts) if DENIALS & set(text.casefold().split())]
        by[rows] &= presence([affirmed(texts[row]) for row in rows], distinct) | denials
        return cls(words=distinct, by=by)

    def lifts(self, target: Bool[np.ndarray, "n"]) -> dict[str, PhraseLift]:
        """Plain word -> how much oftener it is said of the target than of all others; empty where there are no others, or no target."""
        if not self.words or target.all() or not target.any():
            return {}
        return {one.phrase: one for one in phrase_lifts(self.words, self.by[target], self.by[~target])}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn picture, and the seed that others are drawn under to compare."""

    sha256: str
    seed: int


def gathered(groups: Sequence[Sequence[Picture]], most: int = MOST) -> list[Picture]:
    """As many of each group as there is place for, each picture once; within a group by hash, so that nothing chooses them."""
    ordered = [sorted(group, key=lambda one: digest("gathered", one.sha256)) for group in groups]
    longest = max(map(len, ordered), default=0)
    inturn = [group[at] for at in range(longest) for group in ordered if at < len(group)]
    found: dict[str, Picture] = {}
    for one in inturn:
        found.setdefault(one.sha256, one)
    return list(found.values())[:most]
