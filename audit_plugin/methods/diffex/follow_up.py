"""What is asked once a class's effects are known: dependence on strength, images with the cue alone, agreement of operators.

Each takes a few edits of the strongest nodes, together no more than search and estimates took.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audit_plugin.core.diffex_results import ClassEffects, EffectState, OperatorAgreement, SpuriousHits
from audit_plugin.core.edits import EditCell, EditRow, Split
from audit_plugin.core.tree import ConceptTree
from audit_plugin.methods.diffex.agreement import FEWEST, agreement, twin_cells, twins
from audit_plugin.methods.diffex.dose import dose_cells, dose_response
from audit_plugin.methods.diffex.estimate import ClassPlan
from audit_plugin.methods.diffex.figures import rng_of
from audit_plugin.methods.diffex.ledger import Ledger
from audit_plugin.methods.diffex.options import DiffexOptions
from audit_plugin.methods.diffex.spurious import cue_cells, cues, feature_only, real_answers, spurious_hits


@dataclass(frozen=True, kw_only=True)
class FollowUp:
    """One class, its effects, and where more edits come from."""

    ledger: Ledger
    tree: ConceptTree
    options: DiffexOptions
    plan: ClassPlan
    others: tuple[str, ...]
    """Images of other classes that served no search."""
    refused: Mapping[str, str]
    """Nodes that cannot be tested."""
    spent: int
    """Edits that search and estimates took, placebos with them."""
    seed: int

    def told(self, found: ClassEffects) -> ClassEffects:
        """The effects with all that follows from more edits."""
        budget = self.spent
        found, budget = self._doses(found, budget)
        hits, missing, budget = self._hits(found, budget)
        agrees, why = self._agreement(budget)
        return replace(found, hits=hits, hits_missing=missing, agreement=agrees, agreement_missing=why)

    @property
    def _rows(self) -> tuple[EditRow, ...]:
        return self.ledger.of(Split.ESTIMATE)

    def _paid(self, cells: Sequence[EditCell], budget: int, what: str) -> int | None:
        """What is left of the budget once the cells are there; None where they would exceed it."""
        new = [cell for cell in dict.fromkeys(cells) if cell not in self.ledger.known]
        if len(new) > budget:
            return None
        self.ledger.complete(new, what)
        return budget - len(new)

    def _doses(self, found: ClassEffects, budget: int) -> tuple[ClassEffects, int]:
        images = self.plan.images[: self.options.dose_images]
        placebo = self.options.placebos[0] if self.options.placebos else ""
        strongest = [node for node in found.nodes if node.state is EffectState.EFFECT]
        for node in sorted(strongest, key=lambda node: -node.bound)[: self.options.dose_nodes]:
            cells = dose_cells(self.tree, node.node, images, placebo)
            left = self._paid(cells, budget, f"strengths of {node.node}") if cells else None
            if left is None:
                continue
            budget = left
            inside = set(cells)
            dose = dose_response(
                [row for row in self._rows if row.cell in inside],
                self.tree,
                node.node,
                column=self.plan.column,
                kind=self.options.score,
                placebo=placebo,
                rng=rng_of(self.seed, self.plan.class_name, node.node, "dose"),
            )
            found = replace(found, nodes=tuple(replace(one, dose=dose) if one.node == node.node else one for one in found.nodes))
        return found, budget

    def _hits(self, found: ClassEffects, budget: int) -> tuple[tuple[SpuriousHits, ...], str, int]:
        object_node = self._object()
        others, own = self.others[: self.options.hit_images], self.plan.images[: self.options.hit_images]
        most = len(others) + (len(own) if object_node else 0)
        if most < self.options.hit_enough:
            return (), f"{most} images could have the cue alone, {self.options.hit_enough} are needed", budget
        chosen, hits = cues(found.nodes, self.options.hit_nodes), list[SpuriousHits]()
        if not chosen:
            return (), "no node that should not matter pushes towards the class", budget
        for cue in chosen:
            left = self._paid(cue_cells(cue, others, own, object_node), budget, f"{cue} without the object")
            if left is None:
                continue
            budget = left
            rows = self._rows
            only, real = feature_only(rows, cue, others, own, object_node), real_answers(rows, own, cue)
            if only.scores and real:
                hits.append(
                    spurious_hits(
                        np.array(real),
                        np.array(only.scores),
                        class_name=self.plan.class_name,
                        column=self.plan.column,
                        kind=self.options.score,
                        node=cue,
                        made_of=only.made_of,
                        enough=self.options.hit_enough,
                    )
                )
        return tuple(hits), "" if hits else "no image with the cue alone could be made within the edits of the search", budget

    def _object(self) -> str:
        """The node that removes the object, where it can be made."""
        path = self.options.estimate.object_node
        known = {node.path for node in self.tree.editable}
        return path if path in known and path not in self.refused else ""

    def _agreement(self, budget: int) -> tuple[OperatorAgreement | None, str]:
        pairs = twins(self.tree, self.plan.class_name, self.refused)
        images = self.plan.images[: self.options.agreement_images]
        cells = twin_cells(pairs, images, self.options.placebos)
        if len(pairs) >= FEWEST and self._paid(cells, budget, "nodes by two operators") is None:
            return None, "its edits would exceed those of the search"
        inside = set(cells)
        rows = [row for row in self._rows if row.cell in inside]
        return agreement(rows, pairs, images, column=self.plan.column, kind=self.options.score)
