"""Which pictures a report shows: pairs drawn by seed, not the most striking ones; the most striking ones apart and labelled so."""

from collections.abc import Sequence

import numpy as np

from audit_plugin.bank.table import BankTable
from audit_plugin.core.results import Pair
from audit_plugin.methods.depict.assemble import FlipArrays
from audit_plugin.methods.depict.study import Study


def choose_pairs(study: Study, table: BankTable, *, random: int = 12, extreme: int = 6) -> tuple[Pair, ...]:
    """Per concept ``random`` pairs drawn by seed and the ``extreme`` ones whose score changes most; fewer where there are fewer."""
    return tuple(pair for name in study.arrays.names for pair in _of_concept(study, table, name, random, extreme))


def _of_concept(study: Study, table: BankTable, name: str, random: int, extreme: int) -> Sequence[Pair]:
    flip = study.arrays.flips[name]
    cells = np.argwhere(flip.drawn & flip.usable[:, None])
    if not len(cells):
        return []
    moved = np.abs(study.favourable(flip.scores) - study.favourable(study.arrays.baseline)[:, None])[cells[:, 0], cells[:, 1]]
    drawn = study.rng(f"pairs {name}").permutation(len(cells))[:random]
    striking = np.lexsort((np.arange(len(cells)), -moved))[:extreme]
    return [
        _pair(study, table, flip, (int(row), int(level)), choice)
        for places, choice in ((drawn, "random"), (striking, "extreme"))
        for row, level in cells[places]
    ]


def _pair(study: Study, table: BankTable, flip: FlipArrays, cell: tuple[int, int], choice: str) -> Pair:
    row, level = cell
    before, after = study.arrays.baseline[row], flip.scores[row, level]
    shas = str(table.baseline[row]), str(table.flips[flip.concept.name][level, row])
    favourable = study.favourable(np.stack([before, after])[None], np.arange(len(study.arrays.labels)) == row)[0]
    return Pair(
        row=study.arrays.rows[row],
        concept=flip.concept.name,
        level_from=flip.concept.levels[int(flip.own[row])],
        level_to=flip.concept.levels[level],
        before_sha256=shas[0],
        after_sha256=shas[1],
        before_caption=table.captions.get(shas[0], ""),
        after_caption=table.captions.get(shas[1], ""),
        score_before=float(favourable[0]),
        score_after=float(favourable[1]),
        decision_before=study.arrays.classes[int(study.decide(before))],
        decision_after=study.arrays.classes[int(study.decide(after))],
        choice=choice,
    )
