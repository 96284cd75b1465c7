"""The guided methods over a loaded pipeline, each with what suits it: one row of a table per method.

What suits latents is not what suits pixels: the decoder's gradient is small, so class scales are some ten times the papers', and masks are
widened by one cell instead of five pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from engines.conditioning import Conditioning
from engines.diffusion import Diffusion
from engines.guided.ace import AceOptions, ace
from engines.guided.breeding import EvolutionOptions
from engines.guided.chain import depth_at
from engines.guided.dvce import DvceOptions, dvce
from engines.guided.edits import Accept, Decode, GuidedEdits, Latents
from engines.guided.ensemble import EnsembleOptions, ensemble
from engines.guided.evolution import evolution
from engines.guided.fastdime import fastdime
from engines.guided.judge import Judge
from engines.guided.ldce import LdceOptions, ldce
from engines.guided.maskdime import MaskDimeOptions, maskdime
from engines.guided.options import DIME, FastDimeOptions, Passes
from engines.guided.particles import Editing, Found
from engines.guided.plan import Guided, ProposalPlan, Scored
from engines.guided.polyak import PolyakOptions, polyak

LATENT = 12.5
"""Class scales for latents, in units of those for pixels."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """Images on their way to their targets: what every guided method is told."""

    diffusion: Diffusion
    x: Latents
    target: Int[Tensor, " n"]
    cond: Conditioning
    seeds: Sequence[int]
    judge: Judge
    accept: Accept
    decode: Decode | None
    """None over pixels."""
    batch: int
    plan: ProposalPlan
    signal: float
    """sqrt(alpha_bar) where the edit starts."""
    robust: Judge | None = None
    """A classifier of the same classes whose gradients are perceptually aligned; for DVCE's cone."""
    told: Conditioning | None = None
    """What names each target to the network; for LDCE's consensus."""

    @property
    def depth(self) -> int:
        """Steps that are undone."""
        return depth_at(self.diffusion, self.plan.kept, self.signal)

    @property
    def dilation(self) -> int:
        """What masks are widened by: 5 pixels or one cell of a latent."""
        return 5 if self.decode is None else 1

    def scaled(self, scales: Sequence[float]) -> tuple[float, ...]:
        """Class scales of the papers, for what is edited here."""
        return tuple(scale * (1.0 if self.decode is None else LATENT) for scale in scales)

    def starting(self, signal: float, accept: Accept, rows: Int[np.ndarray, " m"]) -> "Case":
        """Some of the images, from another start."""
        at = torch.from_numpy(rows).to(self.x.device)
        return replace(
            self,
            x=self.x[at],
            target=self.target[at],
            cond=self.cond[at],
            told=None if self.told is None else self.told[at],
            seeds=[self.seeds[row] for row in rows.tolist()],
            accept=accept,
            signal=signal,
        )


def _edited(method: Callable[..., GuidedEdits], case: Case, options: object, **more: object) -> GuidedEdits:
    """What every method of this package is called with."""
    return method(
        case.diffusion,
        case.x,
        case.target,
        case.cond,
        case.judge,
        seeds=case.seeds,
        decode=case.decode,
        accept=case.accept,
        batch=case.batch,
        options=options,
        **more,
    )


def _dime(case: Case) -> GuidedEdits:
    """As released, but for the chain, which is the plan's, and without the perceptual distance, whose network is no part of this project."""
    scales = case.plan.scales or case.scaled(DIME.class_scales)
    return _edited(fastdime, case, replace(DIME, kept=case.plan.kept, depth=case.depth, class_scales=scales))


def _fastdime(passes: Passes) -> Callable[[Case], GuidedEdits]:
    def edit(case: Case) -> GuidedEdits:
        plan = case.plan
        options = FastDimeOptions(
            kept=plan.kept,
            depth=case.depth,
            class_scales=plan.scales or case.scaled(DIME.class_scales),
            passes=passes,
            dilation=case.dilation,
            bisections=plan.bisections,
            confidence=plan.confidence,
        )
        return _edited(fastdime, case, options)

    return edit


def _polyak(case: Case) -> GuidedEdits:
    plan = case.plan
    options = PolyakOptions(
        kept=plan.kept,
        depth=case.depth,
        goal=max(plan.goal, plan.confidence),
        bisections=plan.bisections,
        confidence=plan.confidence,
    )
    return _edited(polyak, case, options)


def _maskdime(case: Case) -> GuidedEdits:
    plan = case.plan
    options = MaskDimeOptions(
        kept=plan.kept,
        depth=case.depth,
        strengths=case.scaled(MaskDimeOptions().strengths),
        dilation=case.dilation,
        bisections=plan.bisections,
        confidence=plan.confidence,
    )
    return _edited(maskdime, case, options)


def _dvce(case: Case) -> GuidedEdits:
    plan = case.plan
    options = DvceOptions(kept=plan.kept, depth=plan.kept // 2, bisections=plan.bisections, confidence=plan.confidence)
    return _edited(dvce, case, options, robust=case.robust)


def _ace(case: Case) -> GuidedEdits:
    plan = case.plan
    dilation = 15 if case.decode is None else 3
    options = AceOptions(kept=plan.kept, iterations=plan.iterations, dilation=dilation, confidence=plan.confidence)
    return _edited(ace, case, options)


def _ldce(case: Case) -> GuidedEdits:
    plan = case.plan
    options = LdceOptions(kept=plan.kept, signal=case.signal, bisections=plan.bisections, confidence=plan.confidence)
    return _edited(ldce, case, options, told=case.told)


def of_ensemble(plan: ProposalPlan) -> EnsembleOptions:
    """What a plan means for the ensemble."""
    return EnsembleOptions(particles=plan.particles, last=2 * plan.particles)


def of_evolution(plan: ProposalPlan) -> EvolutionOptions:
    """What a plan means for evolution, which takes four individuals at least."""
    population = max(4, plan.particles)
    return EvolutionOptions(population=population, elites=population // 4)


def _ensemble(editing: Editing, plan: ProposalPlan) -> list[Found]:
    return ensemble(editing, of_ensemble(plan))


def _evolution(editing: Editing, plan: ProposalPlan) -> list[Found]:
    return evolution(editing, of_evolution(plan))


EDITS: Mapping[Guided, Callable[[Case], GuidedEdits]] = {
    "polyak": _polyak,
    "dime": _dime,
    "fastdime": _fastdime("masked"),
    "fastdime2": _fastdime("two"),
    "fastdime2plus": _fastdime("two_plus"),
    "maskdime": _maskdime,
    "dvce": _dvce,
    "ace": _ace,
    "ldce": _ldce,
}
SEARCHES: Mapping[Scored, Callable[[Editing, ProposalPlan], list[Found]]] = {"ensemble": _ensemble, "evolution": _evolution}
FROM_SIGNAL: frozenset[Guided] = frozenset({"polyak", "ldce", "fastdime", "fastdime2", "fastdime2plus", "maskdime"})
"""Those that may start deeper where they fail: DiME stays as published, DVCE starts half-way, ACE attacks from little noise."""
