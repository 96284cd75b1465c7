"""The tree that every audit can start from, whatever the domain: picture quality, geometry, occlusion, artefacts, light, surroundings.

Its deterministic nodes need no diffusion model and no GPU, and serve as positive controls.  diffex_diffexplainer.md 3.4.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from audit_plugin.concepts.default_exact import KINDS, exact_lighting, exact_node, exact_rows
from audit_plugin.concepts.default_texts import FAMILIES, PEOPLE, Family
from audit_plugin.concepts.tree import build_tree, drafts_of, slug
from audit_plugin.concepts.tree_parents import Draft
from audit_plugin.core.tree import ConceptTree, Node, NodeKind

GRAFT = "default"
"""Where the default tree stands in a tree of somebody's own."""
ANY_CLASS = "main subject"
"""Said in place of a class where none is given."""


def default_tree(domain: str, classes: Sequence[str] = (), *, people: bool = False, base_caption: str = "") -> ConceptTree:
    """The whole default tree.

    ``classes``: names for the nodes that speak of the subject; with one of them these nodes name it, with several each has a child per
    class, which applies to that class alone.  ``people``: also perceived attributes of people, all protected.  Raises ConfigError for
    an empty domain and for so many classes that the tree is too large.
    """
    base = base_caption or f"a photo of {domain}"
    nodes = [*_exact(), *(node for name in FAMILIES for node in _family(name, FAMILIES[name], domain, base, classes))]
    if people:
        nodes += _family("people", PEOPLE, domain, base, ())
    return build_tree(domain, drafts_of(_with_containers(nodes)), base_caption=base)


def grafted(tree: ConceptTree, classes: Sequence[str] = (), *, people: bool = False) -> ConceptTree:
    """A tree with the default tree below ``default``, so that light, background and artefacts are never forgotten.

    A tree that already has nodes of the default tree is handed back as it is.
    """
    if any(node.source == "default" for node in tree.nodes):
        return tree
    default = default_tree(tree.domain, classes, people=people, base_caption=tree.base_caption)
    own = slug(GRAFT, [node.path for node in tree.children("")])
    top = Draft(node=Node(path=own, name=own.replace("_", " "), editable=False, source="default"))
    below = [_moved(draft, own) for draft in drafts_of(default.nodes, below=own)]
    return build_tree(tree.domain, [*drafts_of(tree.nodes), top, *below], language=tree.language, base_caption=tree.base_caption)


def _moved(draft: Draft, below: str) -> Draft:
    """Its group too is a path, and moves along."""
    return replace(draft, node=replace(draft.node, group=f"{below}/{draft.node.group}")) if draft.node.group else draft


def _exact() -> Iterator[Node]:
    for rows in (exact_rows(), exact_lighting()):
        yield from (exact_node(*row) for row in rows)


def _family(name: str, family: Family, domain: str, base: str, classes: Sequence[str]) -> Iterator[Node]:
    """Nodes of one family."""
    for own, row in family.rows.items():
        what, other = row if isinstance(row, tuple) else (row, family.other)
        path = f"{name}/{own}"
        group = path if family.combinable else f"{name}/{family.groups[own]}" if family.groups else name
        node = Node(path=path, name=own.replace("_", " "), kind=family.kind, group=group, source="default")
        words = {"base": base, "domain": domain, "what": what, "other": other}
        if not family.per_class or len(classes) < 2:
            one = classes[0] if classes else ANY_CLASS
            scope = (one,) if family.per_class and classes else ("*",)
            yield replace(_worded(node, family, {**words, "class": said(one)}), applies_to=scope)
            continue
        yield replace(node, editable=False, group="")
        taken: list[str] = []
        for one in classes:
            taken.append(slug(said(one), taken))
            child = replace(node, path=f"{path}/{taken[-1]}", name=f"{node.name} {one}", applies_to=(one,))
            yield _worded(child, family, {**words, "class": said(one)})


def said(name: str) -> str:
    """A class name as a sentence says it: the first of its synonyms, without underscores.

    >>> said("tabby_cat, Felis catus")
    'tabby cat'
    """
    return " ".join(name.partition(",")[0].replace("_", " ").split())


def _worded(node: Node, family: Family, words: Mapping[str, str]) -> Node:
    absent = family.absent if words["other"] or "{other}" not in family.absent else "{base}"
    return replace(
        node,
        prompt_add=_filled(family.prompt, words),
        present=(_filled(family.present, words),),
        absent=(_filled(absent, words),),
        question=_filled(family.question, words),
    )


def _filled(template: str, words: Mapping[str, str]) -> str:
    """Our own template with its words.  Names that users gave are put in last and never looked at again."""
    own = {key: template_word for key, template_word in words.items() if key in {"what", "other"}}
    text = template
    for key, value in own.items():
        text = text.replace(f"{{a {key}}}", _with_article(value)).replace(f"{{{key}}}", value)
    pieces: list[str] = []
    while "{" in text:
        before, _, rest = text.partition("{")
        key, _, text = rest.partition("}")
        word = words[key.removeprefix("a ")]
        pieces += [before, _with_article(word) if key.startswith("a ") else word]
    return "".join([*pieces, text])


def _with_article(words: str) -> str:
    return f"an {words}" if words[:1].lower() in set("aeiou") else f"a {words}"


def _with_containers(nodes: Sequence[Node]) -> list[Node]:
    """Nodes with all that is above them; a container is of the kind of its family."""
    out: dict[str, Node] = {}
    for node in nodes:
        parts = node.path.split("/")
        for depth in range(1, len(parts)):
            path = "/".join(parts[:depth])
            kind = KINDS.get(path) or KINDS.get(parts[0]) or node.kind
            name = parts[depth - 1].replace("_", " ")
            out.setdefault(path, Node(path=path, name=name, kind=NodeKind(kind), editable=False, source="default"))
        out[node.path] = node
    return list(out.values())
