"""Before/after grids: pairs drawn by seed, which show what is usual, apart from extremes, which do not."""

from collections.abc import Sequence
from dataclasses import dataclass

from audit_plugin.core.results import AuditResult, Pair, Verdict
from audit_plugin.core.values import Role
from audit_plugin.report.pictures import Album, Triptych
from audit_plugin.report.ranking import find, order, suppressed
from audit_plugin.report.words import short_name, thousands


@dataclass(frozen=True, kw_only=True)
class Card:
    """One pair of pictures, shown once, with the answer of every model that was asked."""

    pair: Pair
    pictures: Triptych
    answers: tuple[tuple[str, Pair], ...]
    """(Model, its scores and decisions); empty where the answers must not be read."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All pictures of one concept."""

    concept: str
    role: Role | None
    open: bool
    """Shown at once; the others are folded."""
    drawn: tuple[Card, ...]
    denominator: str
    extremes: tuple[tuple[str, tuple[Card, ...]], ...]
    """Per model."""

    @property
    def size(self) -> int:
        """How many pairs are shown in all."""
        return len(self.drawn) + sum(len(cards) for _, cards in self.extremes)


def grids(results: Sequence[AuditResult], album: Album) -> tuple[Grid, ...]:
    """One grid per concept that has pictures: those of concern or relied on first."""
    pictured = {pair.concept for result in results for pair in result.pairs}
    known = order(results).all
    names = [*(name for name in known if name in pictured), *sorted(pictured.difference(known))]
    important = [name for name in names if any(_important(result, name) for result in results)] or names[:1]
    first_important = sorted(names, key=lambda name: name not in important)
    return tuple(_grid(name, results, album, open_=name in important) for name in first_important)


def _grid(name: str, results: Sequence[AuditResult], album: Album, *, open_: bool) -> Grid:
    found = [concept for result in results if (concept := find(result, name)) is not None]
    drawn = _cards([(result, pair) for result in results for pair in _pairs(result, name, "random")], results, album)
    extremes = (
        (short_name(result, results), _cards([(result, pair) for pair in _pairs(result, name, "extreme")], results, album))
        for result in results
        if not suppressed(result)
    )
    return Grid(
        concept=name,
        role=found[0].role if found else None,
        open=open_,
        drawn=drawn,
        denominator=_denominator(len(drawn), name, results),
        extremes=tuple((model, cards) for model, cards in extremes if cards),
    )


def _pairs(result: AuditResult, concept: str, choice: str) -> list[Pair]:
    return [pair for pair in result.pairs if pair.concept == concept and pair.choice == choice]


def _cards(asked: Sequence[tuple[AuditResult, Pair]], results: Sequence[AuditResult], album: Album) -> tuple[Card, ...]:
    same: dict[tuple[str, str, str], list[tuple[AuditResult, Pair]]] = {}
    for result, pair in asked:
        same.setdefault((pair.row, pair.before_sha256, pair.after_sha256), []).append((result, pair))
    cards = (
        Card(
            pair=group[0][1],
            pictures=album.triptych(group[0][1].before_sha256, group[0][1].after_sha256),
            answers=tuple((short_name(result, results), pair) for result, pair in group if not suppressed(result)),
        )
        for group in same.values()
    )
    return tuple(cards)


def _important(result: AuditResult, name: str) -> bool:
    if any(finding.concept == name for finding in result.findings):
        return True
    concept = None if suppressed(result) else find(result, name)
    return concept is not None and concept.verdict in {Verdict.RELIES, Verdict.HURTS}


def _denominator(shown: int, name: str, results: Sequence[AuditResult]) -> str:
    concept = next((found for result in results if (found := find(result, name)) is not None), None)
    if concept is None:
        return f"{shown} pairs, drawn by seed"
    if len(concept.levels) == 2:
        return f"{shown} of {thousands(concept.n_rows)} pairs, drawn by seed"
    return f"{shown} pairs, drawn by seed from {thousands(concept.n_rows)} rows × {len(concept.levels)} levels"
