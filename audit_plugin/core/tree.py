"""A tree of concepts, coarse to fine: what may be changed in an image, and what it means if a model cares.

Nodes are named by their path, parents first, joined by "/".  The tree is checked when it is read (:mod:`audit_plugin.concepts.tree`);
these are the values that every other layer speaks.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

from audit_plugin.core.seeds import digest


class NodeKind(StrEnum):
    """What a node is to the task; decides what a large effect means."""

    CORE = "core"
    """A large effect is healthy."""
    CONTEXT = "context"
    NUISANCE = "nuisance"
    PROTECTED = "protected"
    QUALITY = "quality"
    ARTEFACT = "artefact"

    @property
    def alerts(self) -> bool:
        """Whether a policy may make an effect of a node of this kind a finding."""
        return self is not NodeKind.CORE

    @property
    def must_not(self) -> bool:
        """Whether a model must not respond to it; how much picture quality and surroundings may matter is for the policy to say."""
        return self in {NodeKind.NUISANCE, NodeKind.PROTECTED, NodeKind.ARTEFACT}


OperatorName = Literal["diffusion", "attribute", "deterministic"]
Source = Literal["person", "vlm", "diffexplainer", "import", "default"]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One concept of the tree."""

    path: str
    """Ids of the ancestors and its own, joined by "/"; unique."""
    name: str
    """As people read it."""
    kind: NodeKind = NodeKind.NUISANCE
    group: str = ""
    """Two nodes of one group never combine; empty: the parent's path."""
    applies_to: tuple[str, ...] = ("*",)
    """Class names, or "*"."""
    editable: bool = True
    """False: a container, or a node that could not be edited: see ``reason``."""
    reason: str = ""
    """Why it is not editable, where it should have been."""
    operator: OperatorName = "diffusion"
    prompt_add: str = ""
    prompt_remove: str = ""
    """Empty: reverse guidance on ``prompt_add``."""
    present: tuple[str, ...] = ()
    """Texts that are true where the attribute is there."""
    absent: tuple[str, ...] = ()
    question: str = ""
    """Yes/no question for a vision model."""
    region: str = ""
    """Text for the optional region mask."""
    scale: float = 7.5
    threshold: float = 0.75
    """Share of positions that an edit leaves alone, in [0, 1)."""
    params: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Of attribute and deterministic operators."""
    source: Source = "person"
    kind_reason: str = ""
    """Why it has this kind, where a vision model proposed it."""

    @property
    def parent(self) -> str:
        """Path of the parent; empty at the top."""
        return self.path.rpartition("/")[0]

    @property
    def exclusive(self) -> str:
        """The group that it really belongs to."""
        return self.group or self.parent or self.path

    @property
    def depth(self) -> int:
        """1 at the top."""
        return self.path.count("/") + 1


@dataclass(frozen=True, kw_only=True)
class ConceptTree:
    """Nodes in reading order: parents before their children."""

    domain: str
    nodes: tuple[Node, ...]
    language: str = "en"
    base_caption: str = ""
    """Source prompt of the editor; empty: none."""

    @cached_property
    def _by_path(self) -> Mapping[str, Node]:
        return {node.path: node for node in self.nodes}

    @cached_property
    def digest(self) -> str:
        """Identity of the content: changes whenever any node does."""
        return digest("concept tree", json.dumps(asdict(self), sort_keys=True))

    @property
    def editable(self) -> tuple[Node, ...]:
        """Nodes that an audit can test, on every level."""
        return tuple(node for node in self.nodes if node.editable)

    def node(self, path: str) -> Node:
        """The node of that path.  Raises KeyError."""
        return self._by_path[path]

    def children(self, path: str) -> tuple[Node, ...]:
        """Its nodes one level down; of "" those at the top."""
        return tuple(node for node in self.nodes if node.parent == path)

    def for_class(self, name: str) -> tuple[Node, ...]:
        """Editable nodes that apply to a class."""
        return tuple(node for node in self.editable if "*" in node.applies_to or name in node.applies_to)

    def compatible(self, first: str, second: str) -> bool:
        """Whether two nodes can be edited together: of different groups, and neither below the other."""
        related = f"{first}/".startswith(f"{second}/") or f"{second}/".startswith(f"{first}/")
        return not related and self.node(first).exclusive != self.node(second).exclusive
