"""Which edits count: the checks of an edit that was made, as one row without scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from audit_plugin.bank.asks import Asking
from audit_plugin.bank.drafts import Draft, exact
from audit_plugin.bank.edit_store import Reading, StoredEdit
from audit_plugin.core.edits import Direction, EditRow, Split
from audit_plugin.core.tree import NodeKind
from audit_plugin.perception.edit_checks import (
    Validity,
    attribute_failed,
    changed_too_much,
    class_kept,
    protected_changed,
)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Holds edits against their checks, by the readings of an independent judge."""

    asking: Asking
    kinds: Mapping[str, NodeKind] = field(default_factory=dict)
    """Concept of the detector -> what it is to the task."""
    limits: Validity = field(default_factory=Validity)

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
        """Core nodes are meant to change the class."""
        core = any(ask.node is not None and ask.node.kind is NodeKind.CORE for ask in draft.asks)
        return core or class_kept(self.kinds, before, after)

    def _failures(self, draft: Draft, edits: tuple[StoredEdit, StoredEdit], before: Reading, after: Reading) -> Iterator[str]:
        """Names of the checks that failed; exact operators do what they say, and are asked nothing."""
        null, edit = edits
        pairs = [(ask.node, sign) for ask, sign in zip(draft.asks, draft.signs, strict=False) if ask.node is not None]
        judged = [(node, sign) for node, sign in pairs if not exact(node)]
        nodes = [node for node, _ in judged]
        if any(
            attribute_failed(self.asking.probability(node, before), self.asking.probability(node, after), sign, self.limits)
            for node, sign in judged
        ):
            yield "V1"
        if nodes and not draft.operated and changed_too_much(nodes, edit.distance, edit.outside_psnr, self.limits):
            yield "V2"
        if nodes and protected_changed(self.kinds, self._edited(draft), before, after, self.limits):
            yield "V4"
        if draft.generated and (null.quality or edit.quality):
            yield "V5"

    def _edited(self, draft: Draft) -> Sequence[str]:
        return [str(ask.node.params.get("concept", "")) for ask in draft.asks if ask.node is not None]
