"""From words that act to nodes of the concept tree, whose effect on real images can then be measured."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from audit_plugin.bank.asks import PHRASE
from audit_plugin.concepts.phrasing import CaptionForms, Phrasing
from audit_plugin.concepts.tree import sentences, slug
from audit_plugin.core.discovery_results import DiscoveredSubject, FoundWord, ProposedNode, WordPart
from audit_plugin.core.tree import ConceptTree, Node, NodeKind
from audit_plugin.methods.diffexplainer.word_bank import plain

TOP = "discovered"
"""Container of what was found."""


def proposals(
    subjects: Sequence[DiscoveredSubject], tree: ConceptTree, phrasing: Phrasing
) -> tuple[tuple[Node, ProposedNode], ...]:
    """A node for every word that acts, is not what its class is about and is not in the tree; each word once, strongest first.

    Its kind is one that must not matter: nobody has said yet that it may.
    """
    known = {plain(node.prompt_add or node.name) for node in tree.nodes}
    taken = [node.path.rpartition("/")[2] for node in tree.children(TOP)]
    acting = [
        (one, word)
        for one in subjects
        if one.kind == "class"  # what a unit responds to is told, and says nothing of what must not matter
        for word in one.words
        if word.causes and word.part is not WordPart.CORE
    ]
    found: list[tuple[Node, ProposedNode]] = []
    for subject, word in sorted(acting, key=lambda both: (-both[1].effect.low, both[1].word)):
        if plain(word.word) in known:
            continue
        known.add(plain(word.word))
        taken.append(slug(plain(word.word), taken))
        node = _node(f"{TOP}/{taken[-1]}", word, subject, tree, phrasing)
        found.append((node, _proposed(node, word, subject)))
    return tuple(found)


def with_proposals(tree: ConceptTree, nodes: Sequence[Node]) -> ConceptTree:
    """The tree with these nodes, and their container where it is not there."""
    if not nodes:
        return tree
    have = {node.path for node in tree.nodes}
    top = Node(path=TOP, name="found without data", editable=False, source="diffexplainer")
    own = [node for node in tree.nodes if node.path == TOP or node.path.startswith(f"{TOP}/")]
    rest = [node for node in tree.nodes if node not in own]
    return replace(tree, nodes=(*rest, *(own or [top]), *(node for node in nodes if node.path not in have)))


def pointed(subjects: Sequence[DiscoveredSubject], nodes: Sequence[Node]) -> tuple[DiscoveredSubject, ...]:
    """The same, each word with the node that says it now."""
    paths = {plain(node.prompt_add): node.path for node in nodes}
    return tuple(
        replace(
            subject,
            words=tuple(
                word if word.node or plain(word.word) not in paths else replace(word, node=paths[plain(word.word)])
                for word in subject.words
            ),
        )
        for subject in subjects
    )


def chosen(
    proposed: Sequence[tuple[Node, ProposedNode]], confirm: Callable[[ProposedNode], bool]
) -> list[tuple[Node, ProposedNode]]:
    """Every proposal with what ``confirm`` says of it."""
    return [(node, replace(told, accepted=confirm(told))) for node, told in proposed]


def with_probe(node: Node, concept: str, level: str) -> Node:
    """The node, seen by a detector of its own."""
    return replace(node, params={**node.params, "concept": concept, "level": level})


def _node(path: str, word: FoundWord, subject: DiscoveredSubject, tree: ConceptTree, phrasing: Phrasing) -> Node:
    forms = phrasing if isinstance(phrasing, CaptionForms) else None
    placed = forms is not None and (bool(forms.others(word.word)) or word.word in forms.optional)
    others = () if forms is None else forms.others(word.word)
    present, absent = sentences(tree.base_caption or "a photo", plain(word.word))
    node = Node(
        path=path,
        name=plain(word.word),
        kind=NodeKind.NUISANCE,
        group=f"{TOP}/{slug(min((word.word, *others)), [])}" if others else "",
        prompt_add=word.word,
        present=(present,),
        absent=(absent,),
        question=f"Does the picture show {plain(word.word)}?",
        source="diffexplainer",
        kind_reason=f"nobody has said that it may matter; {_evidence(word, subject)}",
    )
    return replace(node, scale=1.0, threshold=0.0, params={PHRASE: word.word}) if placed else node


def _proposed(node: Node, word: FoundWord, subject: DiscoveredSubject) -> ProposedNode:
    return ProposedNode(
        path=node.path, word=word.word, subject=subject.name, kind=node.kind, accepted=False, evidence=_evidence(word, subject)
    )


def _evidence(word: FoundWord, subject: DiscoveredSubject) -> str:
    effect = word.effect
    where = "" if word.part is WordPart.UNKNOWN else f"; it is {word.part.value} by {word.part_by}"
    return (
        f"saying {word.word!r} raises the share of pictures taken for {subject.name} from {word.without.value:.0%} to "
        f"{word.with_word.value:.0%} on the same {word.pairs} seeds, a difference of {effect.value:+.2f} [{effect.low:+.2f}, {effect.high:+.2f}], "
        f"q = {word.q:.2g}{where}"
    )
