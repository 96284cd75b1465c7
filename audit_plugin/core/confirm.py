"""Accepted edits that a person is asked to look at, and what that says of the judges that accepted them.

One edit of twenty is drawn by the digest of picture and node, so that the same edits are drawn again in every run and by everybody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from audit_plugin.core.edits import Direction, EditRow
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.seeds import digest

SHARE = 0.05


@dataclass(frozen=True, kw_only=True, order=True)
class ToConfirm:
    """One accepted edit, and the question whose answer the judges gave."""

    picture: str
    """sha256 of the edited picture."""
    node: str
    question: str
    expected: bool
    """What the judges say: yes for an attribute that was added, no for one that was removed."""
    before: str = ""
    """sha256 of the null edit."""


@dataclass(frozen=True, kw_only=True)
class VerifierPrecision:
    """How often a person agreed with the judges about edits that they had accepted."""

    asked: int
    """Edits that were drawn."""
    answered: int
    right: int
    precision: Estimate | None
    """Share of the answered that are right, Wilson interval; None before anybody answered."""


def drawn(row: EditRow) -> bool:
    """Whether a row is one of those to confirm: a valid edit of one node that a judge accepted, of 5 % by digest."""
    judged = row.valid and not row.cell.placebo and len(row.cell.nodes) == 1 and row.verifier_after is not None
    return judged and int(digest("confirm", row.after_sha256, *row.cell.nodes)[:8], 16) < SHARE * 2**32


def to_confirm(rows: Iterable[EditRow], questions: Mapping[str, str]) -> tuple[ToConfirm, ...]:
    """The drawn ones among rows, each once; ``questions``: path of a node -> its question."""
    found = {
        ToConfirm(
            picture=row.after_sha256,
            node=row.cell.nodes[0],
            question=questions[row.cell.nodes[0]],
            expected=row.direction is Direction.ADD,
            before=row.before_sha256,
        )
        for row in rows
        if drawn(row)
    }
    return tuple(sorted(found))
