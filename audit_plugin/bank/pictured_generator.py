"""Pictures that exist already in place of drawn ones: for data whose rows cover the combinations of concepts.

Product renderings, studio photographs or drawings are often made for every combination of attributes.  Then nothing needs to be drawn: the
counterfactual of a picture is another picture of the table, exact in every pixel.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.plan import Captioner, Plan
from audit_plugin.concepts.captions import caption as write_caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import DetectorError, GeneratorError
from audit_plugin.core.pictured import LOOKED_UP
from audit_plugin.core.protocols import Images
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.values import Arm, Probe, Row
from audit_plugin.perception.detectors import DetectorCard
from audit_plugin.sources.images import Pixels, read_images, square, to_uint8
from audit_plugin.sources.table import Where


@dataclass(frozen=True, kw_only=True)
class PicturesOptions:
    """Pictures of the table in place of drawn ones: nothing is generated, every combination of concepts is looked up."""

    where: Where = field(default_factory=dict)
    """Column -> cell or cells of the rows whose pictures are looked up, in place of ``source.where`` for the same columns; the audited rows
    must be among them."""
    size: int = 224
    """Side in pixels; other pictures are cut to their centre square and resized."""
    same_unit: bool = False
    """Whether the pictures of a row all come from its own unit (``source.unit_column``): the same product, person or drawing.  Else a flip shows
    another one, and so does the placebo: what that alone changes is taken off."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is a side in pixels, got {self.size}")


@dataclass(frozen=True, eq=False)
class PicturedGenerator:
    """Implements :class:`audit_plugin.core.protocols.Generator`: a caption is answered by a picture whose row has the caption's values.

    A row's baseline picture is its own; of several others the seed picks one.  A placebo is another picture of the same values, so that it differs
    from the baseline in everything by which a flip does but the concept; within a unit that has no other, a flip differs in nothing else, and
    the placebo is the row's own picture.
    """

    pools: Mapping[str, Sequence[Row]]
    """Caption, with and without placebo words -> the rows that show it."""
    placebos: frozenset[str]
    """Captions with a placebo word."""
    asking: Mapping[int, Row]
    """Seed of a baseline, its flips and its placebo -> the audited row that it belongs to."""
    again: Mapping[int, Row]
    """The same of replicates, which another picture of the same values answers, where there is one."""
    size: int
    same_unit: bool
    fingerprint: str
    """Of the table, the pictures and the options."""
    evaluations_per_image: int = 0
    workers: int = 1
    synthetic: bool = False
    """Nothing was generated, so that no picture is marked as such."""
    backend: tuple[str, str] = (LOOKED_UP, "pictures of the table were looked up, nothing was generated")
    savings: tuple[str, ...] = ()
    engines: tuple[Any, ...] = ()

    @staticmethod
    def reference() -> None:
        """There is nothing to compare with: the pictures are what they are."""

    @staticmethod
    def lend() -> AbstractContextManager[Any]:
        """Raises GeneratorError: what looks pictures up cannot edit them."""
        raise GeneratorError(
            "`generator.pictures` looks pictures up and edits none; name a diffusers directory as `generator.path`"
        )

    def generate(self, captions: Sequence[str], seeds: Sequence[int]) -> Images:
        """Images ``(n, 3, size, size)``.  Raises GeneratorError for a caption that no picture shows."""
        return read_images([self._pick(text, number).image or "" for text, number in zip(captions, seeds, strict=True)], self.size)

    def shows(self, row: Row, text: str) -> bool:
        """Whether there is a picture of this caption for the row; of a placebo, another one than its own."""
        return bool(self._pool(text, row))

    def check(self, plan: Plan) -> None:
        """Raise GeneratorError, before anything is stored, unless there is a picture for every probe, and placebos tell what another picture does."""
        rows = {row.id: row for row in plan.rows}
        missing = [probe for probe in plan.probes if not self.shows(rows[probe.row], probe.recipe.caption)]
        if missing:
            raise GeneratorError(
                f"{_asked(missing[0], plan.concept_set)} is shown by no picture of the table"
                f"{' and unit' if self.same_unit else ''}, but row {missing[0].row!r} asks for it ({len(missing)} of {len(plan.probes)} probes are without a "
                "picture); add pictures, widen `generator.pictures.where`, or leave out rows or levels"
            )
        if not self.same_unit:
            self._check_placebos(plan)

    def _check_placebos(self, plan: Plan) -> None:
        bases = [probe for probe in plan.probes if probe.arm is Arm.BASELINE]
        rows = {row.id: row for row in plan.rows}
        lone = sum(not _others(self.pools[base.recipe.caption], rows[base.row]) for base in bases)
        unknown = "so that what another picture alone changes cannot be told from what the concept changes"
        if 2 * lone > len(bases):
            raise GeneratorError(
                f"{lone} of {len(bases)} rows are the only picture of their combination, {unknown}; add pictures, widen `generator.pictures.where`, "
                "or set `generator.pictures.same_unit: true` where the pictures of a `source.unit_column` are of the same thing"
            )
        if not plan.cells.get(Arm.PLACEBO):
            raise GeneratorError(f"no row has a placebo, {unknown}; raise `bank.plan.placebo_rows`")

    def _pool(self, text: str, row: Row | None) -> Sequence[Row]:
        pool = self.pools.get(text, ())
        if row is None:
            return pool
        if self.same_unit:
            pool = [one for one in pool if one.unit == row.unit]
        if text not in self.placebos:
            return pool
        return _others(pool, row) or (pool if self.same_unit else ())

    def _pick(self, text: str, number: int) -> Row:
        row = self.asking.get(number) or self.again.get(number)
        pool = self._pool(text, row)
        if not pool:
            raise GeneratorError(f"no picture of the table shows {text!r}; add one, or leave out the rows that ask for it")
        own = [one for one in pool if row is not None and one.id == row.id]
        if own and number in self.asking:
            return own[0]
        others = [one for one in pool if one not in own] or pool
        return others[number % len(others)]


def pictured_generator(
    rows: Sequence[Row],
    concept_set: ConceptSet,
    audited: Sequence[Row],
    *,
    audit: str,
    options: PicturesOptions,
    replicates: int,
    identity: str,
    caption: Captioner = write_caption,
) -> PicturedGenerator:
    """From the rows to look up and the audited ones, with so many replicates each; ``identity`` changes whenever the table or its pictures do."""
    pools: dict[str, list[Row]] = {}
    placebos = set[str]()
    for row in sorted(rows, key=lambda row: row.id):
        for word in ("", *concept_set.placebo_words):
            text = caption(concept_set, row.values, row.rest, word)
            pools.setdefault(text, []).append(row)
            placebos.update([text] if word else ())
    return PicturedGenerator(
        pools=pools,
        placebos=frozenset(placebos),
        asking={seed(audit, row.id): row for row in audited},
        again={seed(audit, row.id, number): row for row in audited for number in range(1, replicates + 1)},
        size=options.size,
        same_unit=options.same_unit,
        fingerprint=digest("pictures, placebos of others", identity, concept_set.digest, str(options.size), str(options.same_unit)),
    )


def _others(pool: Sequence[Row], row: Row) -> list[Row]:
    """Without the row's own picture, which may be listed again: another file where there is one, else another unit's."""
    others = [one for one in pool if one.id != row.id]
    return [one for one in others if one.image != row.image] or [one for one in others if one.unit != row.unit]


def _asked(probe: Probe, concept_set: ConceptSet) -> str:
    """A combination in words: ``shape = cat, texture = dog``."""
    named = zip(concept_set.concepts, probe.values, strict=True)
    return ", ".join(f"{concept.name} = {concept.levels[value]}" for concept, value in named) + f" ({probe.recipe.caption!r})"


@dataclass(frozen=True, eq=False)
class TableDetector:
    """Implements :class:`audit_plugin.core.protocols.ConceptDetector`: what the table says of the very pictures that it lists.

    It is no independent judge: gates that rest on it hold the table against itself.
    """

    concept_set: ConceptSet
    told: Mapping[str, NDArray[np.int64]]
    """SHA-256 of a picture's pixels -> ``(k, concepts)`` values of the rows that show it."""
    size: int

    @cached_property
    def card(self) -> DetectorCard:
        """As of a trained detector; nothing was held out, so no AUROC is told."""
        lines = (f"{name}={values.tolist()}" for name, values in sorted(self.told.items()))
        concepts = {concept.name: concept.levels for concept in self.concept_set.concepts}
        return DetectorCard(kind="table", concepts=concepts, size=self.size, sha256=digest("table", *lines))

    @property
    def fingerprint(self) -> str:
        """Changes with the table, the pictures and the concepts."""
        return digest("table detector", self.card.sha256, str(self.size), self.concept_set.digest)

    def read(self, images: Images) -> Mapping[str, NDArray[np.float64]]:
        """Concept -> ``(n, levels)``: 1 for what the table says; shared out where equal pictures are listed with several values."""
        values = [self._values(one) for one in to_uint8(images)]
        return {
            concept.name: np.array([(each[:, [at]] == np.arange(len(concept.levels))).mean(0) for each in values], np.float64)
            for at, concept in enumerate(self.concept_set.concepts)
        }

    def _values(self, picture: Pixels) -> NDArray[np.int64]:
        found = self.told.get(_key(picture, self.size))
        if found is None:
            raise DetectorError("`detector.table` reads pictures of the table only, and this one is none; train a detector instead")
        return found


def table_detector(rows: Sequence[Row], concept_set: ConceptSet, *, size: int) -> TableDetector:
    """Of these rows' pictures.  Raises ImageError."""
    told: dict[str, list[tuple[int, ...]]] = {}
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        for row, picture in zip(some, to_uint8(read_images([row.image or "" for row in some], size)), strict=True):
            told.setdefault(_key(picture, size), []).append(row.values)
    return TableDetector(concept_set, {key: np.array(values, np.int64) for key, values in told.items()}, size)


_AT_ONCE = 64


def _key(picture: Pixels, size: int) -> str:
    return hashlib.sha256(np.ascontiguousarray(square(picture, size)).tobytes()).hexdigest()
