"""Which edits count: the checks of an edit that was made, as one row without scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from audit_plugin.bank.asks import Asking
from audit_plugin.bank.drafts import Draft, exact
from audit_plugin.bank.edit_store import Reading, StoredEdit
from audit_plugin.core.edits import Direction, EditRow, Split
from audit_plugin.core.tree import Node, NodeKind
from audit_plugin.perception.edit_checks import (
    Validity,
    attribute_failed,
    changed_too_much,
    class_kept,
    moved,
    protected_changed,
    same_first,
)
from audit_plugin.perception.image_text import CLASSES, REALISM, SENTENCES
from audit_plugin.perception.safety import SAFETY


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Holds edits against their checks, by the readings of an independent judge."""

    asking: Asking
    kinds: Mapping[str, NodeKind] = field(default_factory=dict)
    """Concept of the detector -> what it is to the task."""
    limits: Validity = field(default_factory=Validity)
    protected: tuple[Node, ...] = ()
    """Nodes with sentences that must not change when another is edited."""
    perceptual: bool = False
    """Whether distances are a network's."""

    def row(
        self, draft: Draft, operator: str, edits: tuple[StoredEdit, StoredEdit | None], readings: Mapping[str, Reading]
    ) -> EditRow:
        """The draft as a row: of its null edit, and of its edit where one was made."""
        cell, (null, edit) = draft.cell, edits
        row = EditRow(
            cell=cell,
            split=Split.SELECT,
            direction=Direction.PLACEBO if cell.placebo else Direction.ADD if draft.signs[0] > 0 else Direction.REMOVE,
            signs=draft.signs,
            operator=operator,
            valid=not draft.reasons,
            reasons=draft.reasons,
            before_sha256=null.sha256,
        )
        if edit is None:
            return row
        before, after = readings.get(null.sha256, {}), readings.get(edit.sha256, {})
        reasons = tuple(self._failures(draft, (null, edit), before, after))
        first = draft.asks[0].node
        return replace(
            row,
            scale=draft.generated[0].scale if draft.generated else 0.0,
            valid=not reasons,
            reasons=reasons,
            class_kept=self._class_kept(draft, before, after),
            verifier_before=self.asking.probability(first, before),
            verifier_after=self.asking.probability(first, after),
            distance=edit.distance,
            outside_psnr=edit.outside_psnr,
            mask_area=edit.mask_area,
            after_sha256=edit.sha256,
        )

    def _class_kept(self, draft: Draft, before: Reading, after: Reading) -> bool:
        """Core nodes are meant to change the class.  A detector that was trained on it knows the class better than sentences do."""
        if any(ask.node is not None and ask.node.kind is NodeKind.CORE for ask in draft.asks):
            return True
        if any(kind is NodeKind.CORE and name in before for name, kind in self.kinds.items()):
            return class_kept(self.kinds, before, after)
        return same_first([name for name in before if name.startswith(CLASSES)], before, after)

    def _failures(self, draft: Draft, edits: tuple[StoredEdit, StoredEdit], before: Reading, after: Reading) -> Iterator[str]:
        """Names of the checks that failed; exact operators do what they say, and are asked nothing."""
        null, edit = edits
        pairs = [(ask.node, sign) for ask, sign in zip(draft.asks, draft.signs, strict=False) if ask.node is not None]
        judged = [(node, sign) for node, sign in pairs if not exact(node)]
        nodes = [node for node, _ in judged]
        if not all(self._done(node, sign, before, after) for node, sign in judged):
            yield "V1"
        if (
            nodes
            and not draft.operated
            and changed_too_much(nodes, edit.distance, edit.outside_psnr, self.limits, perceptual=self.perceptual)
        ):
            yield "V2"
        seen = protected_changed(self.kinds, self._edited(draft), before, after, self.limits)
        if nodes and (seen or self._others_changed(nodes, before, after)):
            yield "V4"
        if draft.generated and (null.quality or edit.quality or _lost_realism(before, after, self.limits)):
            yield "V5"
        if draft.generated and SAFETY in after and after[SAFETY][1] >= self.limits.unsafe:
            yield "V6"

    def _done(self, node: Node, sign: int, before: Reading, after: Reading) -> bool:
        """V1 of one node: one judge's word is enough, of a protected attribute all must say so; the detector and the vision model are one."""
        was, now = self.asking.opinions(node, before), self.asking.opinions(node, after)
        pairs = [(was.detector, now.detector), (was.question, now.question), (was.sentences, now.sentences)]
        said = [None if b is None or a is None else not attribute_failed(b, a, sign, self.limits) for b, a in pairs]
        classified = [done for done in said[:2] if done is not None]
        opinions = [any(classified)] if classified else []
        opinions += [said[2]] if said[2] is not None else []
        return bool(opinions) and (all(opinions) if node.kind is NodeKind.PROTECTED else any(opinions))

    def _others_changed(self, edited: Sequence[Node], before: Reading, after: Reading) -> bool:
        """V4 by an image-text model: of protected nodes that exclude no edited one, lie neither above nor below, and no detector reads."""
        others = [
            SENTENCES + node.path
            for node in self.protected
            if self.asking.opinions(node, before).detector is None and not any(_related(node, one) for one in edited)
        ]
        return any(moved(name, before, after) >= self.limits.other for name in others if name in before and name in after)

    def _edited(self, draft: Draft) -> Sequence[str]:
        return [str(ask.node.params.get("concept", "")) for ask in draft.asks if ask.node is not None]


def _lost_realism(before: Reading, after: Reading, limits: Validity) -> bool:
    """V5 by an image-text model; nothing is lost where there is none."""
    return REALISM in before and REALISM in after and before[REALISM][1] - after[REALISM][1] >= limits.realism


def _related(node: Node, edited: Node) -> bool:
    """Whether changing one may rightly change the other."""
    nested = f"{node.path}/".startswith(f"{edited.path}/") or f"{edited.path}/".startswith(f"{node.path}/")
    return nested or node.exclusive == edited.exclusive
