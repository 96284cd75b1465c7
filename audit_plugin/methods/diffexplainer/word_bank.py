"""Words that are tried on a model: of the concept tree, of captions, of the user's file, of the generator's own vocabulary (specification 7.2)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from audit_plugin.concepts.phrasing import Phrasing
from audit_plugin.core.tree import ConceptTree


@dataclass(frozen=True, kw_only=True)
class BankWord:
    """A word, or a phrase of a few."""

    word: str
    source: str
    """``tree``, ``captions``, ``file``, ``vocabulary``, ``prompt`` or ``pictures``."""
    node: str = ""
    """Path of the node that says the same."""


def word_bank(
    phrasing: Phrasing,
    *,
    tree: ConceptTree | None = None,
    own: Iterable[str] = (),
    vocabulary: Iterable[str] = (),
    names: Sequence[str] = (),
    most: int = 3000,
) -> tuple[BankWord, ...]:
    """Every word once, those of the tree first, then the captions', the user's and the vocabulary's, in their orders.

    ``names`` are words that may not be said, each with all phrases that hold it: the classes' own, when the question is whether a class
    needs its object.  The vocabulary fills up to ``most`` words and is not asked at all where captions say which phrases there are.
    """
    nodes = [] if tree is None else [node for node in tree.editable if node.prompt_add.strip()]
    paths = {plain(node.prompt_add): node.path for node in nodes}
    sources = {
        "tree": (node.prompt_add for node in nodes),
        "captions": phrasing.phrases,
        "file": own,
        "vocabulary": () if phrasing.phrases else vocabulary,
    }
    banned = [plain(name) for name in names]
    kept: dict[str, BankWord] = {}
    for source, words in sources.items():
        for word in map(str.strip, words):
            if source == "vocabulary" and len(kept) >= most:
                break
            key = plain(word)
            if key and key not in kept and not any(holds(key, name) for name in banned):
                kept[key] = BankWord(word=word, source=source, node=paths.get(key, ""))
    return tuple(kept.values())


def plain(word: str) -> str:
    """What two ways of writing the same have in common.

    >>> plain("with a Ruler"), plain("rulers"), plain("in dim light")
    ('ruler', 'rulers', 'dim light')
    """
    words = re.findall(r"[^\W_]+", word.casefold())
    while len(words) > 1 and words[0] in _SMALL:
        words = words[1:]
    return " ".join(words)


_SMALL = {"a", "an", "the", "with", "on", "in", "at", "of", "and", "beside", "near", "by", "under", "some"}


def holds(word: str, name: str) -> bool:
    """Whether the name stands in the word, both as :func:`plain` writes them."""
    return bool(name) and f" {name} " in f" {word} "
