"""Join plan, pictures and readings into the table that methods get."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audit_plugin.bank.plan import MAX_LEVELS, Plan, prevalence, sampled_factor
from audit_plugin.bank.real import RealImages
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.table import BankTable, Shas
from audit_plugin.core.values import Arm, DrawnImage, Probe


def load_table(bank: ProbeBank, *, detector: str = "", real: RealImages | None = None) -> BankTable:
    """The bank's plan with its pictures; ``detector`` is the fingerprint whose readings to take, ``''`` for none."""
    plan = bank.plan()
    joint = _Joint(plan=plan, drawn=bank.images())
    shown = {image.sha256 for image in joint.pictured.values()} | set(real.paths if real else ())
    return BankTable(
        concepts=plan.concept_set.concepts,
        rows=plan.rows,
        baseline=joint.arm(Arm.BASELINE),
        flips={concept.name: joint.flips(j) for j, concept in enumerate(plan.concept_set.concepts)},
        factors={c.name: joint.factor(j) for j, c in enumerate(plan.concept_set.concepts) if len(c.levels) > MAX_LEVELS},
        placebo=joint.arm(Arm.PLACEBO) if joint.of(Arm.PLACEBO) else None,
        replicates=joint.replicates() if joint.of(Arm.REPLICATE) else None,
        groups={name: joint.arm(Arm.GROUP, name) for name in joint.group_names},
        changed={name: joint.changed(name) for name in joint.group_names},
        real=np.array([real.by_row.get(row.id, "") for row in plan.rows], "<U64") if real else None,
        readings={sha: reading for sha, reading in bank.readings(detector).items() if sha in shown} if detector else {},
        rejected={image.sha256: image.rejected for image in joint.pictured.values() if image.rejected},
        captions={image.sha256: plan.recipes[recipe].caption for recipe, image in joint.pictured.items()},
        digest=bank.digest,
        generator=plan.generator,
        detector=detector,
    )


@dataclass(frozen=True, kw_only=True)
class _Joint:
    """Plan and pictures, looked at arm by arm."""

    plan: Plan
    drawn: Mapping[str, DrawnImage]

    @cached_property
    def pictured(self) -> Mapping[str, DrawnImage]:
        return {recipe: self.drawn[recipe] for recipe in self.plan.recipes if recipe in self.drawn}

    @cached_property
    def places(self) -> Mapping[str, int]:
        return {row.id: at for at, row in enumerate(self.plan.rows)}

    @cached_property
    def cells(self) -> Mapping[tuple[Arm, str], list[Probe]]:
        """(arm, concept) -> its probes."""
        found: dict[tuple[Arm, str], list[Probe]] = {}
        for probe in self.plan.probes:
            found.setdefault((probe.arm, probe.concept), []).append(probe)
        return found

    @property
    def group_names(self) -> list[str]:
        return [concept for arm, concept in self.cells if arm is Arm.GROUP]

    def of(self, arm: Arm, concept: str = "") -> list[Probe]:
        return self.cells.get((arm, concept), [])

    def arm(self, arm: Arm, concept: str = "") -> Shas:
        """``(n,)`` of an arm with at most one probe per row."""
        return self._placed((len(self.plan.rows),), ((probe, ()) for probe in self.of(arm, concept)))

    def replicates(self) -> Shas:
        probes = self.of(Arm.REPLICATE)
        count = max(probe.replicate for probe in probes)
        return self._placed((count, len(self.plan.rows)), ((probe, (probe.replicate - 1,)) for probe in probes))

    def flips(self, j: int) -> Shas:
        concept = self.plan.concept_set.concepts[j]
        own = [(probe, (probe.values[j],)) for probe in self.of(Arm.BASELINE)]
        flipped = [(probe, (probe.level,)) for probe in self.of(Arm.FLIP, concept.name)]
        return self._placed((len(concept.levels), len(self.plan.rows)), own + flipped)

    def factor(self, j: int) -> NDArray[np.float64]:
        concept = self.plan.concept_set.concepts[j]
        share = prevalence(self.plan.rows, j, len(concept.levels))
        taken: list[list[int]] = [[] for _ in self.plan.rows]
        for probe in self.of(Arm.FLIP, concept.name):
            taken[self.places[probe.row]].append(probe.level)
        return np.stack(
            [sampled_factor(share, row.values[j], levels) for row, levels in zip(self.plan.rows, taken, strict=True)], 1
        )

    def changed(self, group: str) -> NDArray[np.bool_]:
        differs = np.ones(len(self.plan.rows), np.bool_)  # a row that the plan left out is not one that its donor left as it was
        for probe in self.of(Arm.GROUP, group):
            at = self.places[probe.row]
            differs[at] = probe.values != self.plan.rows[at].values
        return differs

    def _placed(self, shape: tuple[int, ...], probes: Iterable[tuple[Probe, tuple[int, ...]]]) -> Shas:
        shas = np.full(shape, "", "<U64")
        for probe, lead in probes:
            image = self.drawn.get(probe.recipe.id)
            if image is not None:
                shas[*lead, self.places[probe.row]] = image.sha256
        return shas
