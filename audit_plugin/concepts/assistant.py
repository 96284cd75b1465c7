"""A vision-language model proposes a concept tree from pictures of the domain.  Optional: without one there is the default tree.

Three stages after diffex_diffexplainer.md 3.3: A names attribute families with values, in several calls of a few pictures, and a family
counts if two calls name it; B refines each value into leaves with sentences for a verifier; C proposes what each leaf is to the task.
Ours, not the released code's: several small calls instead of one large, the vote, sentences, kinds, and never an exception for what a
model said: what cannot be used is left out and told.

Everything that comes back is untrusted text: :func:`clean` lets plain short phrases through and nothing that could be a template, markup,
a link or control text.  A model never changes what a person said.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audit_plugin.concepts import assistant_tasks as tasks
from audit_plugin.concepts.assistant_tasks import Leaf
from audit_plugin.concepts.default_tree import default_tree, grafted
from audit_plugin.concepts.operators_tone import Pixels
from audit_plugin.concepts.tree import MAX_NODES, build_tree, drafts_of, sentences, slug
from audit_plugin.concepts.vision_chat import AssistantError, ChatOptions, UnusableEndpointError, ask
from audit_plugin.core.tree import ConceptTree, Node, NodeKind

_Places = dict[str, dict[str, str]]
"""Path of a parent -> name -> path of the node below it that has that name."""
MIN_VOTES = 2
"""Calls that must name a family."""
NO_CONSENT = "protected attribute of people: ask for it with --people, or make it editable by hand"


@dataclass(frozen=True, kw_only=True)
class AssistantOptions:
    """How much is asked of the model."""

    chat: ChatOptions
    calls: int = 4
    images_per_call: int = 8
    """Small models fail on many pictures at once."""
    items_per_call: int = 6
    """Values that are refined together."""
    max_families: int = 24
    pinned: tuple[str, ...] = ()
    """Families that one call is enough for."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A tree to look through, and what happened on the way."""

    tree: ConceptTree
    fallback: bool
    """The model was of no use, and the tree is the one that was there before it."""
    notes: tuple[str, ...]
    """What was left out, and why."""


@dataclass
class _Talk:
    """One conversation: what it noted, and what it cost."""

    options: AssistantOptions
    domain: str
    notes: list[str] = field(default_factory=list)
    refused: int = 0

    def ask(self, stage: str, task: str, schema: Mapping[str, Any], images: Sequence[Pixels] = ()) -> Mapping[str, Any]:
        """An answer; an empty one where the model gave none, except that an endpoint of no use is an error."""
        try:
            return ask(self.options.chat, task, schema, images)
        except UnusableEndpointError:
            raise
        except AssistantError as error:
            self.notes.append(f"{stage}: {error}")
            return {}

    def clean(self, value: object) -> str:
        """Text that may be used; empty if it may not."""
        text = tasks.clean(value)
        self.refused += not text
        return text


def propose(
    images: Sequence[Pixels],
    domain: str,
    options: AssistantOptions,
    *,
    classes: Sequence[str] = (),
    people: bool = False,
    onto: ConceptTree | None = None,
) -> Proposal:
    """A tree of what the model sees in pictures ``(h, w, 3)``, with the default tree below ``default``.

    ``onto``: a person's tree that it adds to; no node of it changes.  ``people``: consent to test attributes that the model takes for
    protected; without it they stay in the tree, not editable.  A model that cannot be reached or says nothing of use leaves the default
    tree (or ``onto`` with it).  Raises ConfigError for options that cannot work.
    """
    talk = _Talk(options, domain)
    try:
        nodes = _seen(talk, images, classes, people, onto)
    except UnusableEndpointError as error:
        talk.notes.append(str(error))
        nodes = []
    if talk.refused:
        talk.notes.append(
            f"{talk.refused} texts of the model were empty, longer than {tasks.MAX_TEXT} characters or not plain words; left out"
        )
    if not nodes:
        talk.notes.append("the model proposed nothing that can be used; this is the default tree")
        fallback = grafted(onto, classes, people=people) if onto else default_tree(domain, classes, people=people)
        return Proposal(tree=fallback, fallback=True, notes=tuple(talk.notes))
    before = onto.nodes if onto else ()
    room = MAX_NODES - len(before) - len(default_tree(domain, classes, people=people).nodes) - 1
    if len(nodes) > room:
        talk.notes.append(f"{len(nodes) - room} of {len(nodes)} nodes left out: a tree has at most {MAX_NODES}")
        nodes = nodes[: max(room, 0)]
    caption = onto.base_caption if onto else _caption(domain)
    tree = build_tree(onto.domain if onto else domain, drafts_of((*before, *nodes)), base_caption=caption)
    return Proposal(tree=grafted(tree, classes, people=people), fallback=False, notes=tuple(talk.notes))


def _caption(domain: str) -> str:
    return f"a photo of {domain}"


def _seen(talk: _Talk, images: Sequence[Pixels], classes: Sequence[str], people: bool, onto: ConceptTree | None) -> list[Node]:
    """All nodes that the model proposes, parents first."""
    nodes: list[Node] = []
    places: _Places = {}
    for old in onto.nodes if onto else ():
        places.setdefault(old.parent, {})[old.name] = old.path
    for family, values in _families(talk, images).items():
        top = _place(places, "", family)
        nodes.append(_container(top, family))
        leaves = _leaves(talk, family, values)
        kinds = _kinds(
            talk, family, [name for value in values for name in (value, *(leaf.name for leaf in leaves[value]))], classes
        )
        for value in values:
            middle = _place(places, top, value)
            nodes.append(_node(middle, Leaf(value), _caption(talk.domain), _kind_of(value, leaves[value], kinds)))
            nodes += [
                _node(_place(places, middle, leaf.name), leaf, _caption(talk.domain), kinds.get(leaf.name))
                for leaf in leaves[value]
            ]
    persons = {old.path for old in onto.nodes} if onto else set()
    return [_guarded(node, people, onto) for node in nodes if node.path not in persons]


def _place(places: _Places, parent: str, name: str) -> str:
    """Path of a name below a parent: the one that it has already, else a new one."""
    siblings = places.setdefault(parent, {})
    if name not in siblings:
        own = slug(name, [path.rpartition("/")[2] for path in siblings.values()])
        siblings[name] = f"{parent}/{own}" if parent else own
    return siblings[name]


def _families(talk: _Talk, images: Sequence[Pixels]) -> dict[str, list[str]]:
    """Stage A: families by name with their values, both by how many calls named them, then as they came."""
    votes: Counter[str] = Counter()
    values: dict[str, Counter[str]] = {}
    size, options = talk.options.images_per_call, talk.options
    for call in range(options.calls):
        batch = [images[at % len(images)] for at in range(call * size, (call + 1) * size)] if images else []
        answer = talk.ask(f"families, call {call + 1}", tasks.families_task(talk.domain), tasks.FAMILIES_SCHEMA, batch)
        for family, found in tasks.families_of(answer, talk.clean).items():
            votes[family] += 1
            values.setdefault(family, Counter()).update(found)
    pinned = {tasks.clean(name) for name in options.pinned}
    kept = [family for family, count in votes.most_common() if count >= min(MIN_VOTES, options.calls) or family in pinned]
    if votes and len(kept) < len(votes):
        talk.notes.append(f"{len(votes) - len(kept)} families left out: only one call named them")
    return {family: [value for value, _ in values[family].most_common(tasks.MAX_VALUES)] for family in kept[: options.max_families]}


def _leaves(talk: _Talk, family: str, values: Sequence[str]) -> dict[str, list[Leaf]]:
    """Stage B: leaves of each value, each named once in the family."""
    out: dict[str, list[Leaf]] = {value: [] for value in values}
    step = talk.options.items_per_call
    for start in range(0, len(values), step):
        part = values[start : start + step]
        answer = talk.ask(f"leaves of {family}", tasks.leaves_task(talk.domain, family, part), tasks.LEAVES_SCHEMA)
        out |= tasks.leaves_of(answer, part, talk.clean)
    return out


def _kinds(talk: _Talk, family: str, names: Sequence[str], classes: Sequence[str]) -> dict[str, tuple[NodeKind, str]]:
    """Stage C: what each value and leaf of a family is to the task, with a reason.

    What is personal by its own name or that of its family is protected whatever the model says: a person may say otherwise.
    """
    answer = talk.ask(f"kinds of {family}", tasks.kinds_task(talk.domain, classes, names), tasks.KINDS_SCHEMA)
    return {**tasks.kinds_of(answer, names), **tasks.personal(family, names)}


def _kind_of(value: str, leaves: Sequence[Leaf], kinds: Mapping[str, tuple[NodeKind, str]]) -> tuple[NodeKind, str] | None:
    """The kind of a value: protected if any of its leaves is, else its own."""
    found = [kinds[name] for name in (value, *(leaf.name for leaf in leaves)) if name in kinds]
    return next((each for each in found if each[0] is NodeKind.PROTECTED), kinds.get(value))


def _container(path: str, name: str) -> Node:
    return Node(path=path, name=name, editable=False, source="vlm")


def _node(path: str, leaf: Leaf, caption: str, kind: tuple[NodeKind, str] | None) -> Node:
    present, absent = sentences(caption, leaf.name)
    return Node(
        path=path,
        name=leaf.name,
        prompt_add=leaf.name,
        present=(leaf.present or present,),
        absent=(leaf.absent or absent,),
        question=leaf.question,
        kind=kind[0] if kind else NodeKind.NUISANCE,
        kind_reason=kind[1] if kind else "",
        source="vlm",
    )


def _guarded(node: Node, people: bool, onto: ConceptTree | None) -> Node:
    """Below a node that a person calls protected everything is; and protected attributes need consent."""
    above = ["/".join(node.path.split("/")[:depth]) for depth in range(1, node.depth)]
    if onto is not None and any(old.path in above and old.kind is NodeKind.PROTECTED for old in onto.nodes):
        node = replace(node, kind=NodeKind.PROTECTED, kind_reason="below a protected node")
    if node.kind is NodeKind.PROTECTED and node.editable and not people:
        return replace(node, editable=False, reason=NO_CONSENT)
    return node
