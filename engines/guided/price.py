"""What a counterfactual of one image costs at most, known before anything is loaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from engines.guided.ace import AceOptions
from engines.guided.dvce import DvceOptions
from engines.guided.ldce import LdceOptions
from engines.guided.maskdime import MaskDimeOptions
from engines.guided.methods import FROM_SIGNAL, of_ensemble, of_evolution
from engines.guided.options import DIME, FastDimeOptions
from engines.guided.plan import SCORED, Guided, Method, ProposalPlan
from engines.guided.polyak import PolyakOptions

_FREE_STARTS = 2
"""Starts that unguided variations are drawn from."""
_CHANNELS = 4
"""Of what is edited: three of pixels, four of most latents."""
_TRIES = 2
"""Questions about one try: the picture, and a JPEG of it."""


@dataclass(frozen=True)
class Most:
    """Of one image and one target; nearly all cost a small part of it."""

    queries: int
    """Pictures that the deployed model is asked about."""
    network_rows: int
    """Rows of the denoising network, forward."""

    def __add__(self, other: "Most") -> "Most":
        return Most(self.queries + other.queries, self.network_rows + other.network_rows)


def most(plan: ProposalPlan, method: Method, free: int) -> Most:
    """By a method of :meth:`engines.guided.proposing.Proposer.propose`, if nothing flips before the last attempt.

    Starts are taken to lie as deep as the chain goes, as where they lie depends on the editor.
    """
    variations = Most(_FREE_STARTS * free, _FREE_STARTS * free * plan.free_steps)
    trims = Most(_TRIES * len(plan.trims), 0)
    if method in SCORED:
        particles = _individuals(plan) if method == "evolution" else _particles(plan)
        return variations + particles + trims
    rungs, rows = _attempts(plan, cast(Guided, method))
    starts = len(plan.starts()) if method in FROM_SIGNAL else 1
    tries = starts * (rungs + plan.bisections)
    return variations + Most(_TRIES * tries, tries * rows) + trims


def _particles(plan: ProposalPlan) -> Most:
    """Asked about at every step, and coarse moves now and then."""
    options = of_ensemble(plan)
    asked = sum(rung.particles for rung in options.ladder) * plan.steps
    times = math.ceil(plan.steps / options.probe_every) * sum(rung.probes > 0 for rung in options.ladder)
    return Most(asked + times * 2 * _CHANNELS * options.probes**2, asked)


def _individuals(plan: ProposalPlan) -> Most:
    """Asked about once they are drawn."""
    options = of_evolution(plan)
    drawn = len(options.signals) * options.generations * options.population
    return Most(drawn, drawn * plan.steps)


def _attempts(plan: ProposalPlan, method: Guided) -> tuple[int, int]:
    """Strengths that are tried, and network rows of one attempt."""
    depth = plan.kept - 1
    dime = len(plan.scales or DIME.class_scales)
    fast = replace(FastDimeOptions(), kept=plan.kept, depth=depth).network_calls
    known: Mapping[Guided, tuple[int, int]] = {
        "polyak": (1 + len(PolyakOptions().strengths), depth + 1),
        "dime": (dime, replace(DIME, kept=plan.kept, depth=depth).network_calls),
        "fastdime": (dime, fast),
        "fastdime2": (dime, 2 * fast),
        "fastdime2plus": (dime, 2 * fast),
        "maskdime": (len(MaskDimeOptions().strengths), depth + 1),
        "dvce": (len(DvceOptions().weights), plan.kept // 2),
        "ldce": (len(LdceOptions().weights), 2 * (depth + 1)),
        "ace": (len(AceOptions().distances), (plan.iterations + 1) * AceOptions().depth),
    }
    return known[method]
