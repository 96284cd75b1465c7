"""The JSON of the released DiffEx code: ``domain`` and ``categories``, category -> item -> list of leaf keywords.

A category is a container and is never edited; the keyword of an item or a leaf is the edit's prompt.  What the format cannot say
(kinds, verifier sentences, exact operators) is made up on the way in and lost on the way out.  diffex_diffexplainer.md 3.1.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audit_plugin.concepts.schema import closest
from audit_plugin.concepts.tree import build_tree, sentences, slug, tidy
from audit_plugin.concepts.tree_parents import Draft
from audit_plugin.concepts.tree_text import Lines
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node

_DOCUMENT = ("domain", "categories")


def is_diffex(document: Mapping[str, Any]) -> bool:
    """Whether a document is of this format."""
    return "categories" in document and "nodes" not in document


def tree_from_diffex(document: Mapping[str, Any], *, lines: Lines, domain: str = "", base_caption: str = "") -> ConceptTree:
    """The tree of a DiffEx document; ``lines("categories", category, item, position)`` is where a value stands.  Raises ConfigError.

    A category may also be a plain list of items without leaves.  Keywords are lower-cased and kept once.
    """
    for key in document:
        if key not in _DOCUMENT:
            raise ConfigError(f"DiffEx tree: unknown key {key!r}{closest(str(key), _DOCUMENT)}")
    said = document.get("domain")
    domain = domain or (said if isinstance(said, str) else "")
    categories = document["categories"]
    if not isinstance(categories, Mapping):
        raise ConfigError(f"{_line(lines('categories'))}`categories` must be an object: category -> item -> list of keywords")
    growing = _Growing(base_caption or f"a photo of {domain}")
    for category, items in categories.items():
        top = growing.add("", category, lines("categories", category), container=True)
        if isinstance(items, Mapping):
            for item, leaves in items.items():
                middle = growing.add(top, item, lines("categories", category, item), own_group=True)
                growing.add_list(middle, leaves, lines, category, item)
        else:
            growing.add_list(top, items, lines, category)
    return build_tree(domain, growing.drafts, base_caption=growing.base_caption)


class _Growing:
    """Drafts so far."""

    def __init__(self, base_caption: str) -> None:
        self.base_caption = base_caption
        self.drafts: list[Draft] = []
        self._paths: dict[str, dict[str, str]] = {}

    def add(self, parent: str, keyword: object, line: int, *, container: bool = False, own_group: bool = False) -> str:
        """Path of a new node, or of the one that has this keyword."""
        if not isinstance(keyword, str) or not keyword.strip():
            raise ConfigError(f"{_line(line)}{reprlib.repr(keyword)} is no keyword; write a word or a few in quotes")
        siblings, name = self._paths.setdefault(parent, {}), tidy(keyword)
        if name not in siblings:
            own = slug(name, [path.rpartition("/")[2] for path in siblings.values()])
            path = f"{parent}/{own}" if parent else own
            node = Node(path=own, name=name, editable=not container, source="import")
            if not container:
                present, absent = sentences(self.base_caption, name)
                node = replace(node, prompt_add=name, present=(present,), absent=(absent,), group=path if own_group else "")
            self.drafts.append(Draft(node=node, parent=parent, line=line))
            siblings[name] = path
        return siblings[name]

    def add_list(self, parent: str, keywords: object, lines: Lines, *keys: str) -> None:
        """Every keyword of a list."""
        if not isinstance(keywords, list):
            raise ConfigError(
                f"{_line(lines('categories', *keys))}{'/'.join(keys)} must be a list of keywords, got {reprlib.repr(keywords)}"
            )
        for at, keyword in enumerate(keywords):
            self.add(parent, keyword, lines("categories", *keys, at))


def _line(line: int) -> str:
    return f"line {line}: " if line else ""


def tree_to_diffex(tree: ConceptTree) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The DiffEx document, and the paths of the editable nodes that it cannot hold: those that no prompt edits.

    An editable node at the top is its own category and item; deeper levels than DiffEx has become leaves of their item.
    """
    categories: dict[str, Any] = {}
    left_out = tuple(node.path for node in tree.editable if not node.prompt_add)
    for top in tree.children(""):
        items = [top] if top.prompt_add and top.editable else tree.children(top.path)
        found: dict[str, list[str]] = {}
        for item in items:
            below = [node for node in tree.nodes if node.path.startswith(f"{item.path}/") and node.editable and node.prompt_add]
            if below or (item.editable and item.prompt_add):
                leaves = found.setdefault(item.prompt_add or item.name, [])  # which another item may have as well
                leaves += [node.prompt_add for node in below]
        if found:
            categories[top.name] = found
    return {"domain": tree.domain, "categories": categories}, left_out
