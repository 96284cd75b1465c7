"""The released procedure, exactly, for comparison (specification 5.1): one image, one seed after another, no interval, no test.

    score(w) = mean_{i<S} f(edit(x, keyword = w, seed = seed + i)) - f(x)

Items first; the leaves of the ``beam`` items with the largest |delta| next.  The reference is the unedited image, and f is the softmax
probability of the target label.  A tree's top level is categories, which are never edited, below them items and leaves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from audit_plugin.core.diffex_results import PaperEntry, PaperResult
from audit_plugin.core.tree import ConceptTree, Node

Picture = TypeVar("Picture")


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Defaults of the release."""

    beam: int = 8
    top_k: int = 25
    samples: int = 4
    min_delta: float = 0.0
    """Keywords that move the score by less are left out."""


def paper_search(
    image: Picture,
    tree: ConceptTree,
    *,
    edit: Callable[[Picture, str, int], Picture],
    score: Callable[[Picture], Sequence[float]],
    labels: Sequence[str],
    target: int,
    options: PaperOptions = PaperOptions(),
    seed: int = 0,
) -> PaperResult:
    """Rank keywords for one image.  ``edit(image, keyword, seed)``; ``score``: softmax probabilities, one per label."""
    if not 0 <= target < len(labels):
        raise ValueError(f"target {target} is not one of {len(labels)} labels")
    base = float(score(image)[target])

    def entry(node: Node) -> PaperEntry:
        keyword = keyword_of(node)
        seeds = range(seed, seed + options.samples)
        mean = float(np.mean([score(edit(image, keyword, one))[target] for one in seeds]))
        return PaperEntry(path=_names(tree, node), keyword=keyword, mean_score=mean, base_score=base, delta=mean - base)

    def ranked(nodes: Sequence[Node]) -> list[tuple[Node, PaperEntry]]:
        scored = [(node, entry(node)) for node in nodes]
        kept = [pair for pair in scored if abs(pair[1].delta) >= options.min_delta]
        return sorted(kept, key=lambda pair: -abs(pair[1].delta))

    items = [node for category in tree.children("") for node in tree.children(category.path)]
    level1 = ranked(items)
    beam = level1[: options.beam]
    leaves = [leaf for item, _ in beam for leaf in tree.children(item.path)]
    level2 = ranked(leaves)
    return PaperResult(
        base_score=base,
        labels=tuple(labels),
        target=target,
        level1_top=tuple(found for _, found in beam),
        top_influential=tuple(found for _, found in level2[: options.top_k]),
        counts={"level1": len(level1), "level2": len(level2), "edits": options.samples * (len(items) + len(leaves))},
    )


def keyword_of(node: Node) -> str:
    """The bare keyword, which is the whole edit prompt."""
    return node.prompt_add or node.name


def _names(tree: ConceptTree, node: Node) -> tuple[str, ...]:
    parts = node.path.split("/")
    return tuple(tree.node("/".join(parts[: depth + 1])).name for depth in range(len(parts)))
