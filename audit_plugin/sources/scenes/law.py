"""How concept values are drawn: independent, or tied so that one concept betrays another."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audit_plugin.core.errors import ConfigError
from audit_plugin.sources.scenes.world import CONCEPTS


@dataclass(frozen=True, kw_only=True)
class Tie:
    """With probability ``strength`` the concept takes one of ``levels_if`` when the task is positive, of ``levels_else`` when not."""

    concept: str
    levels_if: tuple[str, ...]
    levels_else: tuple[str, ...]
    strength: float
    """0 ties nothing (the concept keeps its own law), 1 always."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"the tie of {self.concept!r} has strength {self.strength}; give a probability")
        for levels in (self.levels_if, self.levels_else):
            if not levels:
                raise ConfigError(f"the tie of {self.concept!r} names no level; name at least one for either side")
            for level in levels:
                _level(self.concept, level)


@dataclass(frozen=True, kw_only=True)
class SceneLaw:
    """Distribution of concept vectors."""

    positive: Mapping[str, str] = field(default_factory=lambda: {"shape": "triangle"})
    """Concept -> level that makes the task positive (all of them must hold)."""
    prevalence: float = 0.5
    """Share of positive scenes; the levels of the task's concepts are redrawn to meet it."""
    ties: tuple[Tie, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.prevalence <= 1:
            raise ConfigError(f"prevalence {self.prevalence} is not a share; give a number from 0 to 1")
        for name, level in self.positive.items():
            _level(name, level)
        for tie in self.ties:
            if tie.concept in self.positive:
                raise ConfigError(f"concept {tie.concept!r} defines the task, so it cannot be tied to it; tie another concept")


_INDEX = {concept.name: position for position, concept in enumerate(CONCEPTS)}


def _level(concept: str, level: str) -> int:
    if concept not in _INDEX:
        raise ConfigError(f"scenes have no concept {concept!r}; they have {', '.join(_INDEX)}")
    levels = CONCEPTS[_INDEX[concept]].levels
    if level not in levels:
        raise ConfigError(f"concept {concept!r} of scenes has no level {level!r}; it has {', '.join(levels)}")
    return levels.index(level)


def positive(values: NDArray[np.int64], task: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which concept vectors ``(n, concepts)`` are positive for the task."""
    hits = [values[:, _INDEX[name]] == _level(name, level) for name, level in task.items()]
    return np.logical_and.reduce(hits) if hits else np.zeros(len(values), bool)


def draw_values(n: int, law: SceneLaw, rng: np.random.Generator) -> NDArray[np.int64]:
    """``n`` concept vectors ``(n, concepts)``; every concept uniform but for the task's prevalence and the ties."""
    values = np.stack([rng.integers(len(concept.levels), size=n) for concept in CONCEPTS], axis=1)
    wanted = rng.random(n) < law.prevalence
    for name, level in law.positive.items():
        others = [v for v in range(len(CONCEPTS[_INDEX[name]].levels)) if v != _level(name, level)]
        values[:, _INDEX[name]] = np.where(wanted, _level(name, level), rng.choice(others, size=n))
    for tie in law.ties:
        tied = rng.random(n) < tie.strength
        levels_else, levels_if = ([_level(tie.concept, level) for level in levels] for levels in (tie.levels_else, tie.levels_if))
        planted = np.where(wanted, rng.choice(levels_if, size=n), rng.choice(levels_else, size=n))
        values[:, _INDEX[tie.concept]] = np.where(tied, planted, values[:, _INDEX[tie.concept]])
    return values
