"""Audits in concept space with known truth: pictures are vectors of shown concepts and a noise value; no image is ever drawn.

A generator stand-in turns asked-for values into shown ones; its failures are the five of section 9 of the specification.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from audit_plugin.bank.table import BankTable
from audit_plugin.core.values import Concept, Role, Row

Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(shown values (n, J), noise (n,)) -> favourable probability (n,)."""

PREVALENCE = (0.5, 0.4, 0.3, 0.5, 0.25, 0.35)


def binary(name: str, role: Role = Role.CONTEXT) -> Concept:
    return Concept(name=name, levels=("no", "yes"), phrases=("", name), role=role)


CONCEPTS = tuple(binary(f"c{at}") for at in range(6))


@dataclass(frozen=True, kw_only=True)
class Generator:
    """How asked-for values become shown ones."""

    obeys: float | tuple[float, ...] = 1.0
    """Share of flips that are made."""
    leaks: float = 0.0
    """Share of flips that also flip the next concept."""
    fresh: bool = False
    """New noise for every picture, whatever the seed."""
    fades: float = 0.0
    """How far generated pictures hide their concepts from model and detector, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A bank table, and who looks at its pictures."""

    table: BankTable
    shown: Mapping[str, tuple[np.ndarray, float, float]]
    """sha256 -> (shown values, noise, fading)."""
    values: np.ndarray
    noise: np.ndarray
    labels: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


def linear(weights: Sequence[float], *, gain: float = 2.0, noise: float = 0.3) -> Scorer:
    """sigmoid(gain·(w·(c - p) + noise))."""
    w = np.array(weights)

    def score(shown: np.ndarray, eps: np.ndarray) -> np.ndarray:
        centre = np.array(PREVALENCE)[: len(w)]
        return 1 / (1 + np.exp(-gain * ((shown - centre) @ w + noise * eps)))

    return score


def make_values(n: int, rng: np.random.Generator, concepts: Sequence[Concept], *, copied: float = 0.0) -> np.ndarray:
    """Level indices; concept 1 copies concept 0 in a share of rows."""
    columns = []
    for at, concept in enumerate(concepts):
        levels = len(concept.levels)
        p = (1 - PREVALENCE[at % 6], PREVALENCE[at % 6]) if levels == 2 else np.full(levels, 1 / levels)
        columns.append(rng.choice(levels, size=n, p=p))
    values = np.stack(columns, 1)
    if copied:
        values[:, 1] = np.where(rng.random(n) < copied, values[:, 0], values[:, 1])
    return values


def build(
    n: int,
    rng: np.random.Generator,
    truth: Scorer,
    *,
    generator: Generator = Generator(),
    concepts: Sequence[Concept] = CONCEPTS,
    copied: float = 0.0,
    groups: Sequence[str] = (),
    real: bool = True,
    detector: float = 0.99,
    values: np.ndarray | None = None,
) -> World:
    """Rows labelled by ``truth`` on their own values, all probes of the flip table, placebo, and readings of all pictures."""
    values = make_values(n, rng, concepts, copied=copied) if values is None else values
    noise = rng.normal(size=n)
    labels = (rng.random(n) < truth(values, np.zeros(n))).astype(int)
    shown: dict[str, tuple[np.ndarray, float, float]] = {}

    def picture(name: str, row: int, what: np.ndarray, *, fades: float = generator.fades, real: bool = False) -> str:
        eps = float(rng.normal()) if generator.fresh and not real else float(noise[row])
        shown[name] = (what, eps, fades)
        return name

    baseline = np.array([picture(f"base-{row}", row, values[row]) for row in range(n)])
    placebo = np.array([picture(f"placebo-{row}", row, values[row]) for row in range(n)])
    originals = np.array([picture(f"real-{row}", row, values[row], fades=0.0, real=True) for row in range(n)])
    obeys = generator.obeys if isinstance(generator.obeys, tuple) else (generator.obeys,) * len(concepts)
    flips: dict[str, np.ndarray] = {}
    for at, concept in enumerate(concepts):
        shas = np.tile(baseline.astype("<U40"), (len(concept.levels), 1))
        for level in range(len(concept.levels)):
            for row in np.flatnonzero(values[:, at] != level):
                what = values[row].copy()
                if rng.random() < obeys[at]:
                    what[at] = level
                if rng.random() < generator.leaks:
                    other = (at + 1) % len(concepts)
                    what[other] = (what[other] + 1) % len(concepts[other].levels)
                shas[level, row] = picture(f"flip-{concept.name}-{level}-{row}", row, what)
        flips[concept.name] = shas
    donors = rng.permutation(n)
    joint: dict[str, np.ndarray] = {}
    changed: dict[str, np.ndarray] = {}
    for name in groups:
        members = [[concept.name for concept in concepts].index(member) for member in name.split("+")]
        given = values.copy()
        given[:, members] = values[donors][:, members]
        changed[name] = (given != values).any(1)
        names = [picture(f"group-{name}-{row}", row, given[row]) if changed[name][row] else baseline[row] for row in range(n)]
        joint[name] = np.array(names)
    table = BankTable(
        concepts=tuple(concepts),
        rows=tuple(
            Row(id=f"r{row}", values=tuple(values[row].tolist()), labels={"task": ("neg", "pos")[labels[row]]}) for row in range(n)
        ),
        baseline=baseline,
        flips=flips,
        placebo=placebo,
        groups=joint,
        changed=changed,
        real=originals if real else None,
        readings=_readings(shown, concepts, detector, rng),
        captions={sha: f"caption of {sha}" for sha in shown},
    )
    return World(table=table, shown=shown, values=values, noise=noise, labels=labels)


def _readings(
    shown: Mapping[str, tuple[np.ndarray, float, float]], concepts: Sequence[Concept], accuracy: float, rng: np.random.Generator
) -> dict[str, dict[str, np.ndarray]]:
    """The detector names the shown level with this probability, else another one; a faded picture is read at random."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for sha, (what, _, fades) in shown.items():
        out[sha] = {}
        for at, concept in enumerate(concepts):
            levels = len(concept.levels)
            seen = int(what[at])
            if rng.random() < fades:
                seen = int(rng.integers(levels))
            elif rng.random() > accuracy:
                seen = (seen + 1) % levels
            reading = np.full(levels, 0.08 / max(1, levels - 1))
            reading[seen] = 0.92
            out[sha][concept.name] = reading + rng.uniform(0, 1e-3, levels)
    return out


def score(world: World, scorer: Scorer) -> dict[str, np.ndarray]:
    """Two-column scores of every picture; fading pulls the favourable score towards one half."""
    names = list(world.shown)
    shown = np.stack([world.shown[name][0] for name in names])
    noise = np.array([world.shown[name][1] for name in names])
    fades = np.array([world.shown[name][2] for name in names])
    keep = np.random.default_rng(0).random(len(names)) >= fades
    p = np.where(keep, scorer(shown, noise), scorer(shown[::-1], noise))
    return {name: np.array([1 - value, value]) for name, value in zip(names, p.tolist(), strict=True)}


def reject(world: World, shas: Sequence[str]) -> World:
    """The same world, these pictures refused by the quality filter."""
    table = replace(
        world.table,
        rejected=dict.fromkeys(shas, "blank"),
        readings={sha: reading for sha, reading in world.table.readings.items() if sha not in set(shas)},
    )
    return replace(world, table=table)
