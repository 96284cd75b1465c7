"""A simulated editor and model: edits whose effects on the log-odds of the first class are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from audit_plugin.core.edits import Direction, EditCell, EditRow, Split
from audit_plugin.core.seeds import seed as seed_of
from audit_plugin.core.tree import ConceptTree, Node, NodeKind

LABELS = ("cat", "dog", "owl")
OPERATOR = "sim/1"


def normal(*names):
    """One standard normal number, of its names."""
    return float(np.random.default_rng(seed_of("world", "\x1f".join(map(str, names)))).normal())


def row(image, nodes, before, after, *, seed=0, signs=None, placebo=False, split=Split.ESTIMATE, **fields):
    """A scored row, valid unless said otherwise."""
    nodes = (nodes,) if isinstance(nodes, str) else nodes
    signs = signs or (1,) * len(nodes)
    direction = Direction.PLACEBO if placebo else Direction.ADD if signs[0] > 0 else Direction.REMOVE
    fields = {"operator": OPERATOR} | fields
    return EditRow(
        cell=EditCell(image=image, nodes=nodes, seed=seed, placebo=placebo),
        split=split,
        direction=direction,
        signs=signs,
        before=tuple(before),
        after=tuple(after),
        **fields,
    )


def tree_of(*nodes: Node) -> ConceptTree:
    return ConceptTree(domain="toy", nodes=nodes)


def node(path, kind=NodeKind.NUISANCE, **fields) -> Node:
    return Node(path=path, name=path.rpartition("/")[2], kind=kind, **fields)


@dataclass
class World:
    """Arms whose edits move the first class's logit by what is planted; counts what it made."""

    effects: Mapping[str, float]
    """Node -> effect of its presence on the log-odds of the first class."""
    interactions: Mapping[frozenset, float] = field(default_factory=dict)
    artefact: float = 0.0
    """What any edit does, placebos too."""
    sd: float = 0.15
    """Of an edit's effect between images."""
    seed_sd: float = 0.0
    present: Callable[[str, str], bool | None] = lambda _image, _node: False
    """Whether the attribute is there already; None: nobody can tell."""
    invalid: frozenset = frozenset()
    """Nodes whose edits fail V1."""
    untestable: frozenset = frozenset()
    base: float = 1.0
    answer: Callable[[np.ndarray], Sequence[float]] = tuple
    """Logits -> what the server says."""
    made: list = field(default_factory=list)

    def rows(self, cells: Sequence[EditCell]) -> list[EditRow]:
        self.made.extend(cells)
        return [self._row(cell) for cell in cells]

    def _row(self, cell: EditCell) -> EditRow:
        there = [False if cell.placebo else self.present(cell.image, path) for path in cell.nodes]
        signs = tuple(-1 if one else 1 for one in there)
        logits = np.array([self.base + 0.3 * normal("base", cell.image), 0.0, 0.0])
        empty = row(cell.image, cell.nodes, (), (), seed=cell.seed, signs=signs, placebo=cell.placebo, split=Split.SELECT)
        empty = replace(empty, cell=cell)
        if any(path in self.untestable for path in cell.nodes):
            return replace(empty, valid=False, reasons=("untestable: no operator for it",))
        if None in there:
            return replace(empty, valid=False, reasons=("ambiguous",))
        shift = cell.strength * (self.artefact + self._planted(cell, signs))
        failed = bool(self.invalid & set(cell.nodes))
        return replace(
            empty,
            valid=not failed,
            reasons=("V1",) if failed else (),
            before=tuple(self.answer(logits)),
            after=tuple(self.answer(logits + np.array([shift, 0.0, 0.0]))),
            before_sha256=f"{cell.image}-null",
            after_sha256=f"{cell.image}-{'+'.join(cell.nodes)}",
        )

    def _planted(self, cell: EditCell, signs: Sequence[int]) -> float:
        """Effect of the nodes, on this image; the noise of a seed is the image's, and so is common to all nodes."""
        noise = self.seed_sd * normal("seed", cell.image, cell.nodes, cell.seed)
        if cell.placebo:
            return noise
        inside = set(cell.nodes)
        joint = sum(value for nodes, value in self.interactions.items() if nodes <= inside)
        alone = sum(
            sign * (self.effects.get(path, 0.0) + self.sd * normal(cell.image, path))
            for path, sign in zip(cell.nodes, signs, strict=True)
        )
        return alone + joint + noise


def images(n, name="cat"):
    return [f"{name}-{at}" for at in range(n)]
