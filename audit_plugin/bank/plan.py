"""Which pictures an audit needs: the flip table of DEPICT with its control arms, decided before anything is drawn.

After DEPICT (Jabbour et al., ECCV 2024), in the flip-table form: one picture per row and concept value instead of one per permutation.
Everything here is a pure function of rows, concepts and names; every random choice is a hash of (audit, row, purpose), so a plan made
twice is the same plan and adding a row moves no other row's pictures (only donors and sampled levels look at the other rows).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit_plugin.concepts.captions import caption as write_caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import CaptionError, TableError
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.values import Arm, Probe, Recipe, Row

MAX_LEVELS = 5
"""A concept with more levels is not flipped to all of them."""
SAMPLED_LEVELS = 2
"""Draws per row from such a concept's other levels, by prevalence, with replacement."""
Captioner = Callable[[ConceptSet, Sequence[int], str, str], str]
"""(concept set, values, rest, placebo word) -> caption."""
Drawable = Callable[[Row, str], bool]
"""(row, caption) -> whether such a picture can be had."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Sizes of the control arms."""

    placebo_rows: int = 200
    """Most rows that also get a picture whose caption differs by a word without meaning to the task."""
    replicates: int = 1
    """Extra seeds of the baseline caption, to measure what the seed alone does."""
    replicate_rows: int = 50
    """Most rows that get them."""
    groups: bool = True
    """Whether the concept set's groups are flipped together as well."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The design of an audit: every cell, and what it needs to be drawn from."""

    audit: str
    concept_set: ConceptSet
    generator: str
    rows: tuple[Row, ...]
    probes: tuple[Probe, ...]
    """Row by row: the baseline first, then its flips, placebo, replicates and groups."""

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        """Recipe id -> recipe, each once, in the order of the probes."""
        return {probe.recipe.id: probe.recipe for probe in self.probes}

    @property
    def cells(self) -> Mapping[Arm, int]:
        """Probes per arm."""
        return Counter(probe.arm for probe in self.probes)

    @cached_property
    def digest(self) -> str:
        """Identity of the design."""
        return digest("plan", self.audit, self.concept_set.digest, *sorted(probe.id for probe in self.probes))

    def by_row(self) -> Iterator[list[Recipe]]:
        """The different recipes of one row after the other; one that an earlier row already has is left out."""
        last, bunch = "", dict[str, Recipe]()
        seen = set[str]()
        for probe in self.probes:
            if probe.row != last and bunch:
                yield list(bunch.values())
                bunch = {}
            last = probe.row
            if probe.recipe.id not in seen:
                seen.add(probe.recipe.id)
                bunch[probe.recipe.id] = probe.recipe
        if bunch:
            yield list(bunch.values())


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What building a plan would take."""

    draw: int
    """Images that are not in the bank yet."""
    reuse: int
    """Images that are."""
    evaluations: int
    """Denoiser network evaluations."""
    seconds: float
    bytes: int
    """Growth on disk."""


def plan(
    rows: Sequence[Row],
    concept_set: ConceptSet,
    *,
    generator: str,
    audit: str,
    options: PlanOptions | None = None,
    caption: Captioner = write_caption,
    drawable: Drawable | None = None,
) -> Plan:
    """Every cell of the audit's design.  ``generator`` is the fingerprint of what will draw.

    What is not ``drawable`` is left out where other cells can stand in: levels that are sampled are drawn from those that can be had, and a row
    takes no part in a group whose donor's values cannot, nor in the placebo arm without a placebo.  All other cells are planned regardless.

    Raises TableError for rows that do not fit the concept set, CaptionError where a change would not change the caption.
    """
    _check(rows, concept_set)
    options = options or PlanOptions()
    desk = _Desk(rows=rows, concept_set=concept_set, generator=generator, audit=audit, caption=caption, drawable=drawable)
    with_placebo = _chosen(rows, audit, "placebo", options.placebo_rows)
    with_replicates = _chosen(rows, audit, "replicate", options.replicate_rows)
    probes: list[Probe] = []
    for at, row in enumerate(rows):
        base = desk.baseline(row)
        probes += [base, *desk.flips(row, base)]
        probes += desk.placebo(row, base) if row.id in with_placebo else ()
        probes += desk.replicates(row, base, options.replicates) if row.id in with_replicates else ()
        probes += desk.groups(at, base) if options.groups else ()
    return Plan(audit=audit, concept_set=concept_set, generator=generator, rows=tuple(rows), probes=tuple(probes))


def cost(plan: Plan, drawn: Collection[str], *, evaluations_per_image: int, images_per_second: float, bytes_per_image: int) -> Cost:
    """Price of a plan when the recipes ``drawn`` (ids) lie in the bank already."""
    draw = len(plan.recipes.keys() - set(drawn))
    return Cost(
        draw=draw,
        reuse=len(plan.recipes) - draw,
        evaluations=draw * evaluations_per_image,
        seconds=draw / images_per_second,
        bytes=draw * bytes_per_image,
    )


def prevalence(rows: Sequence[Row], concept: int, levels: int) -> NDArray[np.float64]:
    """``(K,)`` share of rows per level."""
    return np.bincount([row.values[concept] for row in rows], minlength=levels) / max(1, len(rows))


def proposal(share: NDArray[np.float64], own: int) -> NDArray[np.float64]:
    """``(K,)`` probabilities with which a sampled flip takes each level: by prevalence among the levels that are not the row's own.

    >>> proposal(np.array([0.5, 0.3, 0.2]), 0).round(2).tolist()
    [0.0, 0.6, 0.4]
    """
    others = share.copy()
    others[own] = 0
    if others.sum() == 0:  # every row has the same level: nothing to go by
        others = np.ones(len(share))
        others[own] = 0
    return np.asarray(others / others.sum(), np.float64)


def sampled_factor(share: NDArray[np.float64], own: int, taken: Collection[int]) -> NDArray[np.float64]:
    """``(K,)`` factors that make ``sum(share * factor * f)`` over the levels unbiased when only ``taken`` were drawn.

    Two draws with replacement took one level twice or two levels once; the row's own level counts in full.
    """
    factor = np.zeros(len(share))
    chance = proposal(share, own)
    for level in taken:
        factor[level] = 1 / (len(taken) * chance[level])
    factor[own] = 1
    return factor


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """Writes the probes of one row at a time."""

    rows: Sequence[Row]
    concept_set: ConceptSet
    generator: str
    audit: str
    caption: Captioner
    drawable: Drawable | None

    @cached_property
    def shares(self) -> list[NDArray[np.float64]]:
        return [prevalence(self.rows, j, len(concept.levels)) for j, concept in enumerate(self.concept_set.concepts)]

    def baseline(self, row: Row) -> Probe:
        text = self.caption(self.concept_set, row.values, row.rest, "")
        recipe = Recipe(generator=self.generator, caption=text, seed=seed(self.audit, row.id))
        return Probe(row=row.id, arm=Arm.BASELINE, values=row.values, recipe=recipe)

    def flips(self, row: Row, base: Probe) -> Iterator[Probe]:
        for j, concept in enumerate(self.concept_set.concepts):
            for level in self._targets(row, j):
                values = (*row.values[:j], level, *row.values[j + 1 :])
                flip = self._changed(row, base, values)
                if flip.recipe == base.recipe:
                    raise CaptionError(
                        f"row {row.id!r}: setting {concept.name!r} to {concept.levels[level]!r} leaves the caption as it is "
                        f"({base.recipe.caption!r}); give each level a phrase of its own that the template uses"
                    )
                yield replace(flip, arm=Arm.FLIP, concept=concept.name, level=level)

    def placebo(self, row: Row, base: Probe) -> Iterator[Probe]:
        text = self.caption(self.concept_set, row.values, row.rest, self.concept_set.placebo_word(row.id))
        if text == base.recipe.caption:
            raise CaptionError(f"row {row.id!r}: the placebo word does not reach the caption {text!r}; let the template use it")
        if self.drawable is None or self.drawable(row, text):
            yield replace(base, arm=Arm.PLACEBO, recipe=replace(base.recipe, caption=text))

    def replicates(self, row: Row, base: Probe, count: int) -> Iterator[Probe]:
        for number in range(1, count + 1):
            again = replace(base.recipe, seed=seed(self.audit, row.id, number))
            yield replace(base, arm=Arm.REPLICATE, recipe=again, replicate=number)

    def groups(self, at: int, base: Probe) -> Iterator[Probe]:
        row, donor = self.rows[at], self._donor(at)
        for group in self.concept_set.groups:
            members = {self.concept_set.index(name) for name in group}
            values = tuple(donor.values[j] if j in members else value for j, value in enumerate(row.values))
            changed = self._changed(row, base, values)
            if self.drawable is None or self.drawable(row, changed.recipe.caption):
                yield replace(changed, arm=Arm.GROUP, concept="+".join(group))

    def _changed(self, row: Row, base: Probe, values: tuple[int, ...]) -> Probe:
        text = self.caption(self.concept_set, values, row.rest, "")
        assert values != row.values or text == base.recipe.caption, f"equal values gave two captions: {text!r}"
        return replace(base, values=values, recipe=replace(base.recipe, caption=text))

    def _targets(self, row: Row, j: int) -> list[int]:
        share, own = self.shares[j], row.values[j]
        if len(share) <= MAX_LEVELS:
            return [level for level in range(len(share)) if level != own]
        name = self.concept_set.concepts[j].name
        chance = proposal(share, own)
        if self.drawable is not None:
            chance *= [self.drawable(row, self._caption_with(row, j, level)) for level in range(len(share))]
        if not chance.any():
            return []
        ends = chance.cumsum()
        draws = [_uniform(self.audit, row.id, "level", name, str(k)) for k in range(SAMPLED_LEVELS)]
        return sorted({int(np.searchsorted(ends, draw * ends[-1], side="right")) for draw in draws})

    def _caption_with(self, row: Row, j: int, level: int) -> str:
        return self.caption(self.concept_set, (*row.values[:j], level, *row.values[j + 1 :]), row.rest, "")

    def _donor(self, at: int) -> Row:
        """Another row, drawn once; the same one for every group."""
        others = len(self.rows) - 1
        if others == 0:
            return self.rows[at]
        pick = int(_uniform(self.audit, self.rows[at].id, "donor") * others)
        return self.rows[pick + (pick >= at)]


def _uniform(*names: str) -> float:
    """A number in [0, 1) from the names."""
    return int(digest(*names)[:13], 16) / 16**13


def _chosen(rows: Sequence[Row], audit: str, purpose: str, count: int) -> set[str]:
    """``count`` rows at random, by seed."""
    return set(sorted((row.id for row in rows), key=lambda name: digest(audit, purpose, name))[:count])


def _check(rows: Sequence[Row], concept_set: ConceptSet) -> None:
    if not rows:
        raise TableError("there are no rows to audit; check the label table and its filters")
    for name, times in Counter(row.id for row in rows).items():
        if times > 1:
            raise TableError(f"row {name!r} is listed {times} times; give every image a row id of its own")
    for row in rows:
        try:
            concept_set.check(row.values)
        except ValueError as error:
            raise TableError(f"row {row.id!r}: {error}; make the table again with this concept set") from error
