"""Finding the parents of nodes that name them by id or by path, in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audit_plugin.concepts.schema import closest
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import Node


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A node on its way into a tree."""

    node: Node
    """Its ``path`` is its id alone."""
    parent: str = ""
    """Id of its parent if only one node has that id, else the path; empty: at the top."""
    line: int = 0
    """Where it stands in the file it was read from; 0: in none."""

    @property
    def where(self) -> str:
        """What begins an error about it."""
        return f"line {self.line}: node {self.node.path!r}" if self.line else f"node {self.node.path!r}"


def placed(drafts: Sequence[Draft]) -> list[Draft]:
    """Drafts whose nodes have their full paths, in the same order."""
    by_id: dict[str, list[int]] = {}
    for at, draft in enumerate(drafts):
        by_id.setdefault(draft.node.path, []).append(at)
    paths = {at: draft.node.path for at, draft in enumerate(drafts) if not draft.parent}
    waiting = [at for at, draft in enumerate(drafts) if draft.parent]
    while waiting:
        known = set(paths.values())
        ready = {at: found for at in waiting if (found := _parent(drafts[at].parent, at, by_id, paths, known)) is not None}
        if not ready:
            raise ConfigError(_unplaced(drafts, waiting, by_id, known))
        paths |= {at: f"{found}/{drafts[at].node.path}" for at, found in ready.items()}
        waiting = [at for at in waiting if at not in ready]
    return [
        replace(draft, node=replace(draft.node, path=paths[at]), parent=paths[at].rpartition("/")[0])
        for at, draft in enumerate(drafts)
    ]


def _parent(parent: str, own: int, by_id: Mapping[str, Sequence[int]], paths: Mapping[int, str], known: set[str]) -> str | None:
    """Path of the parent that is meant; None as long as it is not known."""
    if parent in known:
        return parent
    others = by_id.get(parent, ())
    return paths.get(others[0]) if len(others) == 1 and others[0] != own else None


def _unplaced(drafts: Sequence[Draft], waiting: Sequence[int], by_id: Mapping[str, Sequence[int]], known: set[str]) -> str:
    """Why these nodes cannot be placed: a parent that is not there, one that could be several, or a circle."""
    for at in waiting:
        draft, last = drafts[at], drafts[at].parent.rpartition("/")[2]
        found = by_id.get(last, ())
        if not found:
            return f"{draft.where}: parent {draft.parent!r} is no node{closest(draft.parent, {*by_id, *known})}"
        if len(found) > 1 and "/" not in draft.parent:
            return f"{draft.where}: several nodes have the id {draft.parent!r}; write the parent's path, ids joined by '/'"
    chain = [waiting[0]]
    while True:
        above = by_id[drafts[chain[-1]].parent.rpartition("/")[2]]
        if above[0] not in waiting or len(above) > 1:
            draft = drafts[chain[-1]]
            return f"{draft.where}: parent {draft.parent!r} is no node{closest(draft.parent, known)}"
        if above[0] in chain:
            circle = " -> ".join(drafts[at].node.path for at in [*chain[chain.index(above[0]) :], above[0]])
            return f"{drafts[above[0]].where}: it is its own ancestor ({circle}); give one of them another parent"
        chain.append(above[0])
