"""Building and checking a concept tree: what cannot be audited, or cannot be told apart, is refused before anything is drawn.

Every reader (YAML, JSON, CSV, the released DiffEx format), the default tree and the assistant hand over drafts, nodes that know their
parent by id or path; :func:`build_tree` places them, merges those that mean the same, and checks the whole.
Rules after diffex_diffexplainer.md 3.2.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit_plugin.concepts.operators import OPERATORS, parameter_refusal
from audit_plugin.concepts.tree_parents import Draft, placed
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node, NodeKind

MAX_DEPTH = 4
MAX_NODES = 1000
MAX_TEXT = 500
"""Characters of a name, prompt or sentence."""
MAX_ID = 60
DETECTED = {"concept", "level"}
PLACED = {"phrase"}
"""Parameters of a node that a prompt edits: the configured concept and its level by which a detector sees the attribute."""
Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to vectors ``(n, d)``, of any length but zero."""
_ID = re.compile(rf"[a-z0-9_]{{1,{MAX_ID}}}")


def build_tree(domain: str, drafts: Sequence[Draft], *, language: str = "en", base_caption: str = "") -> ConceptTree:
    """A checked tree; nodes keep the order of the drafts as far as parents come first.  Raises ConfigError that names line and node."""
    if not domain.strip() or len(domain) > MAX_TEXT or not _whole(domain):
        raise ConfigError(f"a concept tree needs a `domain` of at most {MAX_TEXT} characters, such as faces or street scenes")
    if len(drafts) > MAX_NODES:
        raise ConfigError(f"the tree has {len(drafts)} nodes, more than {MAX_NODES}; leave out branches that you need not test")
    for draft in drafts:
        if not _ID.fullmatch(draft.node.path):
            raise ConfigError(
                f"{draft.where}: an id has up to {MAX_ID} characters of a-z, 0-9 and _; write for example {slug(draft.node.path)!r}"
            )
    tidied = [replace(draft, node=_tidied(draft.node)) for draft in placed(drafts)]
    for draft in tidied:
        if draft.node.depth > MAX_DEPTH:
            raise ConfigError(f"{draft.where}: it is {draft.node.depth} levels deep, more than {MAX_DEPTH}; move it up")
    merged = _merged(tidied, _same_name)
    for draft in merged:
        _check(draft)
    return ConceptTree(
        domain=domain, nodes=tuple(_in_order([draft.node for draft in merged])), language=language, base_caption=base_caption
    )


def checked(tree: ConceptTree) -> ConceptTree:
    """A tree made by a program, tidied and checked like one that was read."""
    return build_tree(tree.domain, drafts_of(tree.nodes), language=tree.language, base_caption=tree.base_caption)


def drafts_of(nodes: Iterable[Node], *, below: str = "") -> list[Draft]:
    """Nodes of a tree as drafts again, under the path ``below``."""
    return [
        Draft(node=replace(node, path=node.path.rpartition("/")[2]), parent="/".join(part for part in (below, node.parent) if part))
        for node in nodes
    ]


def merge_alike(tree: ConceptTree, embed: Embed, *, cosine: float = 0.95) -> ConceptTree:
    """The tree with siblings merged whose names mean the same to a text encoder; exact operators are told apart by their parameters."""
    names = sorted({node.name for node in tree.nodes})
    vectors = np.asarray(embed(names), dtype=np.float64)
    units = dict(zip(names, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))

    def alike(first: Node, second: Node) -> bool:
        exact = "deterministic" in {first.operator, second.operator}
        return not exact and bool(units[first.name] @ units[second.name] >= cosine)

    drafts = [Draft(node=node, parent=node.parent) for node in tree.nodes]
    return replace(tree, nodes=tuple(_in_order([draft.node for draft in _merged(drafts, alike)])))


def slug(text: str, taken: Iterable[str] = ()) -> str:
    """An id from words, different from those ``taken``.

    >>> slug("Café, wooden table"), slug("T-shirt", ["t_shirt"])
    ('cafe_wooden_table', 't_shirt_2')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[: MAX_ID - 4].rstrip("_") or f"n_{digest('id', text)[:8]}"
    used, found, number = set(taken), base, 1
    while found in used:
        number += 1
        found = f"{base}_{number}"
    return found


def sentences(base_caption: str, prompt: str) -> tuple[str, str]:
    """What a picture with the attribute and one without are called, for a verifier that was given no sentences."""
    return f"{base_caption}, {prompt}", base_caption


def tidy(text: str) -> str:
    """Lower-cased, with single spaces."""
    return " ".join(text.split()).lower()


def _tidied(node: Node) -> Node:
    blank: dict[str, Any] = {key: "" for key in ("prompt_add", "prompt_remove", "question") if not getattr(node, key).strip()}
    return replace(
        node,
        name=tidy(node.name),
        present=_once(node.present),
        absent=_once(node.absent),
        applies_to=_once(node.applies_to),
        **blank,
    )


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(" ".join(text.split()) for text in texts))


def _same_name(first: Node, second: Node) -> bool:
    return first.name == second.name


def _merged(drafts: Sequence[Draft], same: Callable[[Node, Node], bool]) -> list[Draft]:
    """Siblings that are the same become the first of them; the children of all of them become its own."""
    by_parent: dict[str, list[Draft]] = {}
    for draft in drafts:
        by_parent.setdefault(draft.parent, []).append(draft)
    out: list[Draft] = []

    def walk(parent: str, siblings: Sequence[Draft]) -> None:
        kept: list[tuple[Draft, list[Draft]]] = []
        for draft in siblings:
            below = by_parent.get(draft.node.path, [])
            twin = next((at for at, (other, _) in enumerate(kept) if same(other.node, draft.node)), None)
            if twin is None:
                kept.append((draft, list(below)))
            else:
                first, children = kept[twin]
                more = [] if first.node.path == draft.node.path else below
                kept[twin] = (replace(first, node=_union(first, draft)), children + more)
        paths: set[str] = set()
        for draft, children in kept:
            path = f"{parent}/{draft.node.path.rpartition('/')[2]}" if parent else draft.node.path.rpartition("/")[2]
            if path in paths:
                raise ConfigError(f"{draft.where}: another node has this path and another name; give each an id of its own")
            paths.add(path)
            out.append(replace(draft, node=replace(draft.node, path=path), parent=parent))
            walk(path, children)

    walk("", by_parent.get("", []))
    return out


def _union(first: Draft, second: Draft) -> Node:
    """One node that says what both do; where they differ the first is right, except that nothing makes a protected one another kind."""
    one, two = first.node, second.node
    if one.editable and two.editable and (one.operator, dict(one.params)) != (two.operator, dict(two.params)):
        raise ConfigError(
            f"{second.where}: {one.name!r} is there already with another operator or other parameters; give it another name"
        )
    texts = {key: getattr(one, key) or getattr(two, key) for key in ("group", "prompt_add", "prompt_remove", "question", "region")}
    if two.editable and not one.editable and not one.reason:
        texts |= {"editable": True, "operator": two.operator, "params": two.params}
    return replace(
        one,
        **texts,
        kind=NodeKind.PROTECTED if NodeKind.PROTECTED in {one.kind, two.kind} else one.kind,
        present=_once((*one.present, *two.present)),
        absent=_once((*one.absent, *two.absent)),
    )


def _in_order(nodes: Sequence[Node]) -> list[Node]:
    """Every parent directly before its children; siblings keep their order."""
    children: dict[str, list[Node]] = {}
    for node in nodes:
        children.setdefault(node.parent, []).append(node)

    def below(path: str) -> Iterable[Node]:
        for node in children.get(path, ()):
            yield node
            yield from below(node.path)

    return list(below(""))


def _check(draft: Draft) -> None:
    """One node on its own.  Raises ConfigError."""
    refused = node_refusal(draft.node)
    if refused:
        raise ConfigError(f"{draft.where}: {refused}")


def node_refusal(node: Node) -> str | None:
    """Why a node cannot stand in a tree; None if it can."""
    texts = (node.name, node.prompt_add, node.prompt_remove, node.question, node.region, *node.present, *node.absent)
    if not node.name:
        return "it has no name"
    words = (*texts, node.group, node.reason, *node.applies_to, *(str(value) for value in node.params.values()))
    if not all(map(_whole, words)):
        return "it has half of a character (a lone surrogate); write the file as UTF-8"
    if any(len(text) > MAX_TEXT for text in texts) or any(not text for text in (*node.present, *node.absent, *node.applies_to)):
        return f"texts have 1 to {MAX_TEXT} characters"
    if not node.applies_to:
        return '`applies_to` is empty; write ["*"] for every class'
    if not (math.isfinite(node.scale) and node.scale > 0 and 0 <= node.threshold < 1):
        return f"`strength` needs a scale above 0 and a threshold from 0 to below 1, got {node.scale:g} and {node.threshold:g}"
    return _edit_refusal(node) if node.editable else None


def _whole(text: str) -> bool:
    """Whether a file can hold the text: no half of a character."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def _edit_refusal(node: Node) -> str | None:
    """Why an editable node could not be edited or not be checked."""
    if node.operator == "deterministic":
        return parameter_refusal(node.params)
    detected = node.operator == "diffusion" and node.params.keys() - PLACED == DETECTED
    if not (node.question or (node.present and node.absent) or detected):
        return "no verifier could tell whether an edit worked; give `present` and `absent` sentences or a `vlm_question`"
    if node.operator == "attribute":
        attribute, value = node.params.get("attr"), node.params.get("value")
        fits = isinstance(attribute, int) and not isinstance(attribute, bool) and attribute >= 0 and value in {0, 1}
        return None if fits else "an attribute node needs `params: {attr: <entry of the condition, from 0>, value: <0 or 1>}`"
    if node.params.keys() - PLACED and not detected:
        name = next((key for key in node.params if key not in DETECTED | PLACED), next(iter(node.params)))
        meant = " (it names a deterministic operator: set `operator: deterministic`)" if node.params.get("op") in OPERATORS else ""
        return f"a node that a prompt edits takes the parameters `concept` and `level` together, or none, not {name!r}{meant}"
    return None if node.prompt_add or node.prompt_remove else "it has neither `prompt_add` nor `editable: false`"
