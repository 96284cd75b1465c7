"""The concept tree as the report shows it: effects branch by branch, the strongest first, and what could not be tested."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from audit_plugin.core.confirm import ToConfirm
from audit_plugin.core.diffex_results import (
    ClassEffects,
    DiffexResult,
    DriftResult,
    EditQuality,
    EffectState,
    Exemplar,
    NodeDrift,
    NodeEffect,
    Untestable,
)
from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.semantic import untrustworthy
from audit_plugin.report.pictures import Album, Triptych
from audit_plugin.report.words import NOTHING, signed

STATES: Final = {
    EffectState.EFFECT: ("●", "effect"),
    EffectState.NO_EFFECT: ("○", "no effect"),
    EffectState.INCONCLUSIVE: ("□", "inconclusive"),
}
"""Mark and words of what may be said of a node's effect."""

FLAGS: Final = {
    "low_n": "fewer than 32 images: never an alert",
    "saturated": "more than 5 % of the scores are as good as 0 or 1",
    "no_placebo": "no placebo to take off",
    "incomplete": "not measured to the end",
}

CHECKS: Final = {
    "V1": "the attribute did not change as asked",
    "V2": "too much else changed",
    "V3": "the class changed too",
    "V4": "a protected attribute changed too",
    "V5": "no usable picture",
    "V6": "the safety filter refused it",
    "ambiguous": "nobody can tell whether the attribute is there",
    "undescribed": "the table does not say what the image shows, so that no caption could be written",
}
"""What a failed check of an edit means."""

CHECK_NAMES: Final = {
    "V1": "the attribute changed",
    "V2": "little else did",
    "V3": "the class was kept",
    "V4": "protected attributes were kept",
    "V5": "still a picture",
    "V6": "safe",
}
"""What each check is for."""


SHOWN_TO_CONFIRM: Final = 12
"""Edits for a person to confirm that the page shows; `audit-plugin concepts confirm` lists all."""


SHOWN_DRIFTS: Final = 10
"""Nodes whose change since another version the page shows, and all those whose change is significant."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One exemplar, ready to be shown."""

    exemplar: Exemplar
    pictures: Triptych


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A node with what is below it."""

    name: str
    path: str
    effect: NodeEffect | None
    reason: str
    """Why it could not be tested; empty otherwise."""
    exemplars: tuple[Shown, ...]
    children: tuple["Branch", ...]

    @property
    def strongest(self) -> float:
        """Largest surely non-zero effect here or below."""
        own = 0.0 if self.effect is None else self.effect.bound
        return max([own, *(child.strongest for child in self.children)])

    @property
    def tested(self) -> int:
        """Nodes here and below that were estimated."""
        return (self.effect is not None) + sum(child.tested for child in self.children)

    @property
    def found(self) -> int:
        """Those of them with an effect."""
        own = self.effect is not None and self.effect.state is EffectState.EFFECT
        return own + sum(child.found for child in self.children)

    @property
    def alerts(self) -> int:
        """Those of them that must not have one."""
        own = self.effect is not None and self.effect.state is EffectState.EFFECT and self.effect.kind.must_not
        return own + sum(child.alerts for child in self.children)


@dataclass(frozen=True, kw_only=True)
class TreeView:
    """The tree of one model and one class."""

    result: DiffexResult
    effects: ClassEffects
    branches: tuple[Branch, ...]
    scale: float
    """Largest effect or interval limit, to draw bars by."""
    to_confirm: tuple[tuple[ToConfirm, Triptych], ...]
    """Accepted edits for a person to look at, the first of them; with the first class of a model alone."""
    drift: DriftResult | None
    """Change since another version, where one was shown the same edits."""
    doubts: tuple[str, ...]
    """Why the effects of the whole tree cannot be relied on; empty when they can."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is said of nodes, by path."""

    nodes: Mapping[str, NodeEffect]
    reasons: Mapping[str, str]
    names: Mapping[str, str]
    album: Album


def trees(results: Sequence[AuditResult], album: Album) -> tuple[tuple[TreeView, ...], ...]:
    """Per model its trees, one per audited class; empty where no tree was asked about."""
    return tuple(
        ()
        if result.diffex is None
        else tuple(_view(result.diffex, effects, album, first=at == 0) for at, effects in enumerate(result.diffex.classes))
        for result in results
    )


def failures(quality: EditQuality) -> list[tuple[str, float]]:
    """Why edits did not count, in words, the commonest first."""
    named = [(CHECKS.get(check, check), share) for check, share in quality.failures.items()]
    return sorted(named, key=lambda one: -one[1])


def bar(effect: NodeEffect, scale: float) -> tuple[float, float, float, float] | None:
    """(left, width, dot, zero) of the interval, in per cent of a bar that reaches from -scale to scale."""
    if effect.effect is None or scale <= 0:
        return None
    low, value, high = (
        50 + 50 * max(-1.0, min(1.0, x / scale)) for x in (effect.effect.low, effect.effect.value, effect.effect.high)
    )
    return low, max(high - low, 0.6), value, 50.0


def effect_words(estimate: Estimate | None) -> str:
    """A change of log-odds with its interval.

    >>> effect_words(Estimate(value=0.5, low=0.25, high=0.75))
    '+0.50 [+0.25, +0.75]'
    """
    if estimate is None:
        return NOTHING
    return f"{signed(estimate.value, 2)} [{signed(estimate.low, 2)}, {signed(estimate.high, 2)}]"


def untestable(results: Sequence[AuditResult]) -> list[tuple[Untestable, tuple[int, ...]]]:
    """Every node that could not be tested, once, with the models it holds for."""
    found: dict[Untestable, list[int]] = {}
    for at, result in enumerate(results):
        for one in () if result.diffex is None else result.diffex.untestable:
            found.setdefault(one, []).append(at)
    return [(one, tuple(where)) for one, where in found.items()]


def drifts(drift: DriftResult) -> list[NodeDrift]:
    """The changes to show, largest first."""
    known = [one for one in drift.nodes if one.drift is not None]
    return [one for at, one in enumerate(known) if at < SHOWN_DRIFTS or one.significant]


def _view(result: DiffexResult, effects: ClassEffects, album: Album, *, first: bool) -> TreeView:
    nodes = {node.node: node for node in effects.nodes}
    reasons = {one.node: one.reason for one in result.untestable}
    limits = [abs(limit) for node in effects.nodes if node.effect is not None for limit in (node.effect.low, node.effect.high)]
    known = _Known(nodes=nodes, reasons=reasons, names=result.names, album=album)
    branches = tuple(_branches("", _paths([*nodes, *reasons]), known))
    scale = max(limits, default=1.0)
    drawn = result.to_confirm[:SHOWN_TO_CONFIRM] if first else ()
    return TreeView(
        result=result,
        effects=effects,
        branches=branches,
        scale=scale,
        to_confirm=tuple((one, album.triptych(one.before, one.picture)) for one in drawn),
        drift=next((one for one in result.drift.classes if one.class_name == effects.class_name), None) if result.drift else None,
        doubts=untrustworthy(result),
    )


def _paths(leaves: Sequence[str]) -> list[str]:
    """The paths with all their ancestors."""
    return sorted({"/".join(path.split("/")[:depth]) for path in leaves for depth in range(1, path.count("/") + 2)})


def _branches(parent: str, paths: Sequence[str], known: _Known) -> Iterator[Branch]:
    own = [path for path in paths if path.rpartition("/")[0] == parent]
    made = [_branch(path, paths, known) for path in own]
    yield from sorted(made, key=lambda branch: (-branch.strongest, -branch.tested, branch.name))


def _branch(path: str, paths: Sequence[str], known: _Known) -> Branch:
    effect = known.nodes.get(path)
    exemplars = () if effect is None else effect.exemplars
    return Branch(
        name=known.names.get(path) or path.rpartition("/")[2].replace("_", " "),
        path=path,
        effect=effect,
        reason=known.reasons.get(path, ""),
        exemplars=tuple(
            Shown(exemplar=one, pictures=known.album.triptych(one.before_sha256, one.after_sha256)) for one in exemplars
        ),
        children=tuple(_branches(path, paths, known)),
    )
