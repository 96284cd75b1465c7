"""What an edit is asked for, decided from the tree and the independent judge's reading, before anything is made.

An attribute that is there is removed, one that is not is added, in between nothing is done.  Recipes hold all that decides the pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import median_low

from audit_plugin.bank.asks import Asking
from audit_plugin.bank.edit_store import Reading
from audit_plugin.concepts.operators import VERSION
from audit_plugin.concepts.operators import refusal as operator_refusal
from audit_plugin.core.editing import EditAsk, Editor
from audit_plugin.core.edits import EditCell
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.tree import ConceptTree, Node
from audit_plugin.perception.edit_checks import ABSENT, PRESENT
from audit_plugin.sources.images import Pixels

AMBIGUOUS, UNTESTABLE, IDENTITY, UNDESCRIBED = "ambiguous", "untestable", "identity", "undescribed"
"""Why nothing is asked: nobody can tell whether the attribute is there; the node cannot be tested at all; it would change nothing; it
needs a caption, and the table does not say what the image shows."""


@dataclass(frozen=True, kw_only=True)
class EditSource:
    """One real image, as a studio is given it."""

    image: str
    """Id of its row."""
    sha256: str
    load: Callable[[], Pixels]
    values: tuple[int, ...] | None = None
    """Level of each configured concept, where there are any."""
    rest: str = ""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How strongly one node is edited: found once per tree, frozen for all models."""

    scale: float
    threshold: float
    valid_rate: float = 1.0
    """On the pilot images."""
    weak: bool = False
    """Fewer than 80 % of the pilot edits were valid."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Draft:
    """A cell on its way: what it asks for, or why nothing is asked."""

    cell: EditCell
    null: str
    """Recipe of the null edit."""
    signs: tuple[int, ...] = ()
    asks: tuple[EditAsk, ...] = ()
    recipe: str = ""
    """Of the edit; empty where there is none."""
    reasons: tuple[str, ...] = ()

    @property
    def generated(self) -> tuple[EditAsk, ...]:
        """Terms that an editor makes; a placebo is one of them."""
        return tuple(ask for ask in self.asks if not exact(ask.node))

    @property
    def operated(self) -> tuple[Node, ...]:
        """Nodes whose operators are exact."""
        return tuple(ask.node for ask in self.asks if ask.node is not None and exact(ask.node))


def exact(node: Node | None) -> bool:
    """Whether a node is edited by a deterministic operator, whose null edit is the image itself."""
    return node is not None and node.operator == "deterministic"


@dataclass(frozen=True, kw_only=True)
class Drafting:
    """Knows the tree, the images and who would edit; makes nothing."""

    audit: str
    tree: ConceptTree
    sources: Mapping[str, EditSource]
    editor: Editor | None
    """None: deterministic operators only."""
    size: int | None
    """Side of the square images that the editor works on."""
    asking: Asking
    judged: bool
    """Whether there is a detector to ask."""
    strengths: Mapping[str, Strength] = field(default_factory=dict)

    def refusal(self, node: Node) -> str:
        """Why a node cannot be tested here; empty when it can."""
        if not node.editable:
            return node.reason or "it only holds other nodes"
        if exact(node):
            return operator_refusal(node, mask=False) or ""
        if self.editor is None:
            return "needs a generator to edit with, and none is configured"
        if (self.asking.judged(node) is None or not self.judged) and not self.asking.told_otherwise(node):
            return (
                "no independent judge can tell whether the edit worked: give its params a concept and a level that the detector reads, "
                "or configure `diffex.judge` for its sentences or `diffex.vision` for its question"
            )
        return self.editor.refusal(node)

    def generative(self, cell: EditCell) -> bool:
        """Whether the editor has a part in it; without one, placebos ask for nothing and prompts cannot be tested."""
        if self.editor is None:
            return False
        return cell.placebo or any(not exact(self.tree.node(path)) for path in cell.nodes)

    def seed(self, cell: EditCell) -> int:
        """Of (audit, image, replicate): never of the node, so that all edits of an image share their noise."""
        return seed(self.audit, cell.image, cell.seed)

    def operator(self, cell: EditCell) -> str:
        """Name and version of what makes it."""
        return self.editor_name if self.generative(cell) else f"deterministic/{VERSION}"

    @property
    def editor_name(self) -> str:
        """Name and version of who edits by generating; empty where nobody does."""
        return "" if self.editor is None else f"{self.editor.name}/{self.editor.fingerprint[:12]}"

    def draft(self, cell: EditCell) -> Draft:
        """With the recipe of its null edit."""
        source = self.sources[cell.image]
        if not self.generative(cell) or self.editor is None:
            return Draft(cell=cell, null=digest("null", "original", source.sha256))
        parts = (self.editor.fingerprint, source.sha256, str(self.seed(cell)), self.asking.caption(source), str(self.size))
        return Draft(cell=cell, null=digest("null", *parts))

    def decided(self, draft: Draft, reading: Reading) -> Draft:
        """With its terms, and the recipe that they make; or with the reason why there are none."""
        cell, source = draft.cell, self.sources[draft.cell.image]
        if cell.placebo:
            if self.editor is None or self.asking.undescribed(source, [None]):
                return replace(draft, reasons=(IDENTITY if self.editor is None else UNDESCRIBED,), signs=(1,))
            placebos = (self._placebo(source, name) for name in cell.nodes)
            return self._recipe(replace(draft, asks=tuple(_stronger(ask, cell.strength) for ask in placebos), signs=(1,)))
        nodes = [self.tree.node(path) for path in cell.nodes]
        refused = next((why for node in nodes if (why := self.refusal(node))), "")
        if refused or self.asking.undescribed(source, nodes):
            return replace(draft, reasons=(f"{UNTESTABLE}: {refused}" if refused else UNDESCRIBED,), signs=(1,) * len(nodes))
        there = [None if exact(node) else self.asking.probability(node, reading) for node in nodes]
        if any(p is not None and ABSENT < p < PRESENT for p in there):
            return replace(draft, reasons=(AMBIGUOUS,), signs=(1,) * len(nodes))
        signs = tuple(-1 if p is not None and p >= PRESENT else 1 for p in there)
        asks = tuple(_stronger(self._ask(node, sign, source), cell.strength) for node, sign in zip(nodes, signs, strict=True))
        return self._recipe(replace(draft, signs=signs, asks=asks))

    def possible(self, draft: Draft) -> list[Draft]:
        """All that :meth:`decided` may come to, whatever is read; without those that ask for nothing."""
        first, cell = self.decided(draft, {}), draft.cell
        if not first.recipe or cell.placebo:
            return [first] if first.recipe else []
        nodes, source = [self.tree.node(path) for path in cell.nodes], self.sources[cell.image]
        ways = product(*((1,) if exact(node) else (1, -1) for node in nodes))
        return [
            self._recipe(
                replace(
                    draft,
                    signs=signs,
                    asks=tuple(
                        _stronger(self._ask(node, sign, source), cell.strength) for node, sign in zip(nodes, signs, strict=True)
                    ),
                )
            )
            for signs in ways
        ]

    def _recipe(self, draft: Draft) -> Draft:
        """The null edit of exact operators is the image itself, so what decides their pixels must be said here."""
        drawn = (str(VERSION), str(self.seed(draft.cell))) if draft.operated else ()
        return replace(draft, recipe=digest(draft.null, *drawn, *sorted(ask.id for ask in draft.asks)))

    def _placebo(self, source: EditSource, word: str) -> EditAsk:
        """As strong as the nodes that are asked for in the same form are in the middle: a placebo that changes less controls for nothing."""
        ask, captioned = self.asking.placebo(source, word), self.asking.captioned_placebo(source)
        alike = [found for path, found in self.strengths.items() if self.asking.captioned(self.tree.node(path)) == captioned]
        if not alike:
            return ask
        return replace(ask, scale=median_low(one.scale for one in alike), threshold=median_low(one.threshold for one in alike))

    def _ask(self, node: Node, sign: int, source: EditSource) -> EditAsk:
        found = self.strengths.get(node.path)
        scale, threshold = (found.scale, found.threshold) if found else (node.scale, node.threshold)
        return replace(self.asking.ask(node, sign, source), scale=scale, threshold=threshold)


def _stronger(ask: EditAsk, times: float) -> EditAsk:
    """Exact operators have no strength beside their parameters."""
    return ask if times == 1 or exact(ask.node) else replace(ask, scale=ask.scale * times)


def batches_of(drafts: Sequence[Draft], size: int) -> list[list[Draft]]:
    """Drafts that one call can make: with terms of equal signs and strengths, images in order."""
    groups: dict[tuple[tuple[int, float, float], ...], list[Draft]] = {}
    for draft in sorted(drafts, key=lambda one: one.cell):
        groups.setdefault(tuple((ask.sign, ask.scale, ask.threshold) for ask in draft.generated), []).append(draft)
    return [group[start : start + size] for _, group in sorted(groups.items()) for start in range(0, len(group), size)]
