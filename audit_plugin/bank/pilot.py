"""How strongly each node must be edited, and which cannot be edited at all: found once per tree on a few images, then frozen.

No audited model is asked, so that none can bend the edits its own audit is made of.  The smallest strength counts that makes four edits
of five valid; a node that no strength makes valid in half of the images is reported as untestable, with the check that failed most.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from audit_plugin.bank.asks import Asking
from audit_plugin.bank.drafts import AMBIGUOUS, UNDESCRIBED, Strength, exact
from audit_plugin.bank.studio import Studio
from audit_plugin.core.edits import EditCell, EditRow
from audit_plugin.core.errors import BankError
from audit_plugin.core.protocols import Progress
from audit_plugin.core.seeds import digest
from audit_plugin.core.tree import ConceptTree, Node

IMAGES = 8
SCALES = (3.0, 5.0, 7.5, 10.0, 12.5, 15.0)
CAPTION_SCALES = (1.0, 1.5, 2.0, 3.0)
"""Of changes from one whole caption to another."""
GOOD, ENOUGH = 0.8, 0.5
"""Shares of valid edits: what is taken at once, and what is taken when nothing is better."""
THRESHOLD_STEP = 0.15
Limit = Callable[[int], str]
"""Which limit does not pay for so many edits; empty where all do."""


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What a pilot found; kept as the tree's lock file."""

    key: str
    """Of tree, captions, editor and scales: another one is another pilot."""
    strengths: Mapping[str, Strength] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Path -> why the node cannot be tested."""
    stopped: str = ""
    """Which limit ended it before its end; such a one is not kept, but what it made is."""

    def applied(self, tree: ConceptTree) -> ConceptTree:
        """The tree without the nodes that cannot be tested; they stay in it, with the reason."""
        nodes = tuple(
            replace(node, editable=False, reason=self.refused[node.path]) if node.path in self.refused else node
            for node in tree.nodes
        )
        return replace(tree, nodes=nodes)


def pilot_key(studio: Studio, scales: Sequence[float]) -> str:
    """Identity of a pilot."""
    editor = "" if studio.editor is None else studio.editor.fingerprint
    judge = "" if studio.detector is None else studio.detector.fingerprint
    return digest(
        "pilot",
        studio.tree.digest,
        studio.drafting.asking.digest,
        editor,
        judge,
        studio.panel.fingerprint,
        repr(studio.judging.limits),
        repr((*scales, *CAPTION_SCALES)),
        studio.drafting.audit,
    )


def run_pilot(
    studio: Studio,
    images: Sequence[str],
    *,
    scales: Sequence[float] = SCALES,
    progress: Progress = lambda *_: None,
    limit: Limit = lambda _: "",
) -> Pilot:
    """Try every node that an editor makes on the given images; deterministic ones need no trial.

    ``limit`` is asked before every trial, and ends the pilot where it names a limit.
    """
    strengths, refused = dict[str, Strength](), dict[str, str]()
    nodes = studio.tree.editable
    for done, node in enumerate(nodes, 1):
        if why := studio.drafting.refusal(node):
            refused[node.path] = why
        elif not exact(node):
            some = CAPTION_SCALES if studio.drafting.asking.captioned(node) else scales
            try:
                found = _tried(studio, node, images, some, limit)
            except _LimitError as reached:
                return Pilot(key=pilot_key(studio, scales), strengths=strengths, refused=refused, stopped=str(reached))
            if isinstance(found, str):
                refused[node.path] = found
            else:
                strengths[node.path] = found
        progress(done, len(nodes), "pilot of the concept tree")
    return Pilot(key=pilot_key(studio, scales), strengths=strengths, refused=refused)


def known_pilot(path: Path, key: str) -> Pilot | None:
    """The lock file, if it is of this key."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["key"] != key:
            return None
        strengths = {str(name): _strength(**entry) for name, entry in note["strengths"].items()}
        return Pilot(key=key, strengths=strengths, refused={str(name): str(why) for name, why in note["refused"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _strength(*, scale: float, threshold: float, valid_rate: float, weak: bool) -> Strength:
    """Of a lock file, which anybody may have edited."""
    return Strength(scale=float(scale), threshold=float(threshold), valid_rate=float(valid_rate), weak=bool(weak))


def trials(node: Node, scales: Sequence[float], asking: Asking) -> list[Strength]:
    """Strengths that a node is tried at when none is good enough; none for exact operators."""
    if exact(node):
        return []
    some = CAPTION_SCALES if asking.captioned(node) else scales
    return [Strength(scale=scale, threshold=threshold) for threshold in _thresholds(node) for scale in some]


def _thresholds(node: Node) -> list[float]:
    """The node's own, then less and more of the image."""
    near = (node.threshold, node.threshold - THRESHOLD_STEP, node.threshold + THRESHOLD_STEP)
    return [round(threshold, 3) for threshold in near if 0 <= threshold < 1]


def keep_pilot(path: Path, pilot: Pilot) -> None:
    """Write the lock file, whole or not at all.  Raises BankError."""
    temp, note = path.with_name(f"{path.name}.tmp"), asdict(pilot)
    del note["stopped"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temp.write_text(json.dumps(note, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temp.replace(path)
    except OSError as error:
        raise BankError(f"lock file {path} cannot be written: {error}; free space, or choose another `bank.path`") from error


class _LimitError(Exception):
    """Ends a pilot; its text is the limit."""


def _tried(studio: Studio, node: Node, images: Sequence[str], scales: Sequence[float], limit: Limit) -> Strength | str:
    """The strength for a node, or why there is none."""
    cells = [EditCell(image=image, nodes=(node.path,)) for image in images]
    best: Strength | None = None
    rows: list[EditRow] = []
    for threshold in _thresholds(node):
        for scale in scales:
            if stopped := limit(len(cells)):
                raise _LimitError(stopped)
            strength = Strength(scale=scale, threshold=threshold)
            made = studio.settled(studio.tree, {node.path: strength}).rows(cells)
            described = [row for row in made if UNDESCRIBED not in row.reasons]
            if not described:
                return f"the table says of none of {len(images)} images what it shows, so that no caption could be written"
            rows = [row for row in described if AMBIGUOUS not in row.reasons]
            if not rows:
                return f"on none of {len(images)} images could a judge say whether it is there"
            rate = sum(row.valid for row in rows) / len(rows)
            if rate >= GOOD:
                return replace(strength, valid_rate=round(rate, 3))
            if rate >= ENOUGH and (best is None or rate > best.valid_rate):
                best = replace(strength, valid_rate=round(rate, 3), weak=True)
        if best is not None:
            return best
    failed = Counter(reason for row in rows for reason in row.reasons).most_common(1)
    return f"fewer than {ENOUGH:.0%} of the edits were valid at any strength; most failed {failed[0][0] if failed else 'V1'}"
