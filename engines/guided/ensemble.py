"""Counterfactuals of a classifier that tells scores and nothing else: particles of a diffusion, guided by how score and image vary together.

For particles X with covariance C and a score l, Cov(X, l(X)) is C times the mean gradient of l (Stein's lemma for Gaussian X, to first order
else): a gradient brought onto what the diffusion finds plausible, from forward passes alone.  After FreeMCG (Kim et al., CVPR 2025), with one
direction shared by all particles where its script weighs each one's own deviation by a sign; resampling is of sequential Monte Carlo
(Wu et al. 2023).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from engines.guided.edits import Images, Latents
from engines.guided.ladder import climbed
from engines.guided.particles import Cloud, Editing, Found, Odds, Particles, nearest
from engines.guided.probing import coarse_slope
from engines.guided.resampling import resampled

TIE = 1e-9
"""Spread of log-odds at which they tell nothing, even where a server's own noise was not measured."""
TINY = 1e-22
PROBE, SPREAD = 0.3, 0.1
"""Root mean square of a move that is asked about, and of how much plausible images differ along one coarse direction, in [-1, 1]."""


class Rung(NamedTuple):
    """One attempt."""

    signal: float
    reach: float
    particles: int
    halfway: float
    """Share of the way to a flip that the particles must have gone by half of the steps, or the attempt is given up."""
    probes: int


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions:
    """How many particles, from how much noise, how hard."""

    particles: int = 16
    signals: tuple[float, ...] = (0.35, 0.35, 0.20)
    """alpha_bar at the start of each attempt; later ones start noisier: what no particle varies in, no direction changes."""
    reach: tuple[float, ...] = (2.0, 2.0, math.inf)
    """Most that a particle is pushed in each attempt, in units of how far it needs as the others tell; that takes the slope among few
    particles at its word, and is too little.  Infinite: as far as ``push``, as published."""
    last: int = 32
    """Particles of one attempt more, from the noisiest start; 0: none."""
    push: float = 0.1
    """Most that a particle is pushed at all, in units of the predicted noise's length."""
    pull: float = 0.02
    """Weight of the way back to the original."""
    probes: int = 2
    """In attempts after the first, and until particles are sure, moves of their mean along the probes * probes lowest frequencies of every channel are asked about too; 0: never.
    Costs 2 * channels * probes * probes queries each time, and no network rows.  Not in the first, since coarse changes are large ones."""
    probe_every: int = 4
    """Steps between that."""
    resample: int = 4
    """Every so many steps particles that score badly may give way to copies of others; 0: never."""
    temperature: float = 2.0
    """Exponent of the probability in resampling."""
    stop: float = 0.95
    """Probability at which particles are pushed no further."""
    settled: int = 4
    """Particles, the nearest sure ones, that go on once half of them are sure; 0: all of them."""
    halfway: float = 0.25
    """Share of the way to a flip that the median particle must have gone by half of the steps, or the attempt is given up; not asked of
    attempts from the noisiest start, whose particles move late and are the last hope."""
    noise: float = 0.0
    """Standard deviation of the server's log-odds for one image sent again; spreads below three of it are ties."""

    def __post_init__(self) -> None:
        if self.particles < 2 or (self.last and self.last < 2):
            raise ValueError(f"need at least two particles, got {self.particles} and {self.last}")
        if not self.signals or not all(0 < each < 1 for each in self.signals) or len(self.signals) != len(self.reach):
            raise ValueError(f"shares of signal lie between 0 and 1, with one reach each: {self.signals}, {self.reach}")
        if (
            min(self.pull, self.push, self.noise, self.temperature, *self.reach) < 0
            or min(self.resample, self.settled, self.probes, self.probe_every - 1) < 0
        ):
            raise ValueError("weights are not negative")
        if not 0 < self.stop < 1:
            raise ValueError(f"stop is a probability, got {self.stop}")

    @property
    def ladder(self) -> tuple[Rung, ...]:
        """What is tried, in this order, on the images that have not flipped yet."""
        noisiest = min(self.signals)
        rungs = [
            Rung(signal, reach, self.particles, self.halfway if signal > noisiest else -math.inf, self.probes if at else 0)
            for at, (signal, reach) in enumerate(zip(self.signals, self.reach, strict=True))
        ]
        return (*rungs, *([rungs[-1]._replace(particles=self.last)] if self.last else []))


def ensemble(editing: Editing, options: EnsembleOptions | None = None, attempts: int | None = None) -> list[Found]:
    """Edit each image until the classifier calls it its target, up the ladder of attempts (all of it when None).

    Pixels or latents, of any decoder and any engine: nothing is differentiated.  A row's result depends on its own x, target, conditioning and
    seed.  An attempt costs at most particles * steps network rows, and as many queries besides those of ``probes``.
    """
    options = options or EnsembleOptions()

    def attempt(some: Editing, rung: Rung) -> list[Found]:
        found = _down(some.cloud(rung.signal, rung.particles), 0, [_Goer(at) for at in range(len(some.x))], rung, options)
        return [found[at] for at in range(len(some.x))]

    return climbed(editing, options.ladder[:attempts], attempt)


def direction(clean: Particles, odds: Odds) -> Latents:
    """Cov(X, l) of each image's particles (n c h w): their covariance times the gradient of a linear score, exactly."""
    centred = clean - clean.mean(1, keepdim=True)
    weight = (odds - odds.mean(1, keepdim=True)).to(clean.dtype)
    found: Tensor = (centred * weight[:, :, None, None, None]).mean(1)
    return found


@dataclass
class _Goer:
    """What an image has cost on its way down, and how well halves of its particles agreed."""

    at: int
    spent: int = 0
    asked: int = 0
    """Queries beside those about particles."""
    slope: Tensor | None = None
    cosines: list[float] = field(default_factory=list)
    began: float = 0.0
    """Median log-odds before the first push."""

    def came(self, images: Images, odds: Odds, flipped: Bool[Tensor, " k"], original: Images) -> Found:
        """Where its particles are."""
        told = median(self.cosines) if self.cosines else None
        return nearest(
            images, odds, flipped, original, attempts=1, queries=self.spent + self.asked, network_rows=self.spent, agreement=told
        )


def _down(cloud: Cloud, first: int, goers: Sequence[_Goer], rung: Rung, options: EnsembleOptions) -> dict[int, Found]:
    """From a step to the end; images that are sure go on with few particles by themselves, those that get nowhere do not go on."""
    found = dict[int, Found]()
    for step in range(first, len(cloud.path) - 1):
        eps, clean = cloud.estimated(step)
        for goer in goers:
            goer.spent += cloud.k
        images, odds, flipped = cloud.editing.asked(clean)
        if step == 0:
            _begin(goers, odds)
        lost = _lost(goers, odds, flipped, rung.halfway) if step and step == len(cloud.path) // 2 else []
        if any(lost):
            found |= {
                goers[at].at: goers[at].came(images[at], odds[at], flipped[at], cloud.editing.original[at]) for at in _where(lost)
            }
            left = _where(not hopeless for hopeless in lost)
            if not left:
                return found
            cloud, goers = cloud.some(left), [goers[at] for at in left]
            eps, clean, odds = eps[left], clean[left], odds[left]
        clean, odds = _pushed(cloud, step, goers, _Seen(eps, clean, odds), rung=rung, options=options)
        sure = odds.sigmoid() >= options.stop
        settled = 2 * sure.sum(1) >= max(cloud.k, 2 * options.settled)
        if options.settled and cloud.k > options.settled and bool(settled.any()):
            done, left = _where(settled.tolist()), _where((~settled).tolist())
            far = (clean - cloud.original).abs().mean((2, 3, 4)).masked_fill(~sure, float("inf"))
            few = cloud.part(done, far.argsort(1)[settled, : options.settled])
            found |= _down(few, step + 1, [goers[at] for at in done], rung, options)
            if not left:
                return found
            cloud, goers = cloud.some(left), [goers[at] for at in left]
    cloud.move(len(cloud.path) - 1, *cloud.estimated(len(cloud.path) - 1))
    for goer in goers:
        goer.spent += cloud.k
    images, odds, flipped = cloud.editing.asked(cloud.z)
    return found | {
        goer.at: goer.came(images[at], odds[at], flipped[at], original)
        for at, (goer, original) in enumerate(zip(goers, cloud.editing.original, strict=True))
    }


class _Seen(NamedTuple):
    """Particles at one step."""

    eps: Particles
    clean: Particles
    odds: Odds


def _pushed(
    cloud: Cloud, step: int, goers: Sequence[_Goer], seen: _Seen, *, rung: Rung, options: EnsembleOptions
) -> tuple[Particles, Odds]:
    """One step down, towards the target; (clean estimates, log-odds) of the particles that were not given up for copies of others."""
    eps, clean, odds = seen
    if options.resample and step % options.resample == options.resample - 1:
        weights = options.temperature * torch.nn.functional.logsigmoid(odds)
        kept = torch.stack([resampled(weight, seed, step) for weight, seed in zip(weights, cloud.editing.seeds, strict=True)])
        eps, clean, odds = (torch.stack([a[b] for a, b in zip(each, kept, strict=True)]) for each in seen)
    still = _still(odds, options, told=rung.probes > 0)
    one, other = (direction(clean[:, half::2], odds[:, half::2]).flatten(1) for half in (0, 1))
    for goer, cosine, idle in zip(goers, torch.cosine_similarity(one, other).tolist(), still.tolist(), strict=True):
        goer.cosines.extend([] if idle else [cosine])
    along, variance = direction(clean, odds), odds.var(1, unbiased=False)
    if rung.probes:
        slope = _probed(cloud, step, goers, clean, options)
        along, variance = along + slope, variance + (slope.flatten(1).double().square().sum(1) / (SPREAD**2 * slope[0].numel()))
    length = torch.linalg.vector_norm(eps.flatten(2), dim=2)
    pushed = options.push * length
    if rung.reach < math.inf:
        pushed = pushed.minimum(rung.reach * _needed(cloud.kept(step), odds, along, variance, options))
    pushed = pushed.masked_fill(still[:, None], 0)[:, :, None, None, None]
    back = options.pull * length[:, :, None, None, None] * _unit((clean - cloud.original).sign())
    cloud.move(step, eps, clean, pushed * _unit(along[:, None]) - back)
    return clean, odds


def _probed(cloud: Cloud, step: int, goers: Sequence[_Goer], clean: Particles, options: EnsembleOptions) -> Latents:
    """Slopes along coarse directions, asked about now and then."""
    unsure = cloud.k > options.settled or any(goer.slope is None for goer in goers)
    if unsure and step % options.probe_every == 0:
        slopes, cost = coarse_slope(cloud.editing, clean.mean(1), side=options.probes, size=PROBE, spread=SPREAD)
        for goer, slope in zip(goers, slopes, strict=True):
            goer.slope = slope
            goer.asked += cost
    return torch.stack([torch.zeros_like(clean[0, 0]) if goer.slope is None else goer.slope for goer in goers])


def _begin(goers: Sequence[_Goer], odds: Odds) -> None:
    for goer, value in zip(goers, odds.median(1).values.tolist(), strict=True):
        goer.began = value


def _where(flags: Iterable[bool]) -> list[int]:
    return [at for at, flag in enumerate(flags) if flag]


def _lost(goers: Sequence[_Goer], odds: Odds, flipped: Bool[Tensor, "n k"], halfway: float) -> list[bool]:
    """Which images have not come far enough towards even odds."""
    rows = zip(goers, odds.median(1).values.tolist(), flipped.any(1).tolist(), strict=True)
    return [not some and value - goer.began < halfway * -goer.began for goer, value, some in rows]


def _needed(
    kept: float, odds: Odds, along: Latents, variance: Float64[Tensor, " n"], options: EnsembleOptions
) -> Float[Tensor, "n k"]:
    """How far along the direction each particle reaches certainty, as far as the particles themselves tell: score regressed on place.

    Along Cov(X, l) the score of a linear model rises by Var(l) / |Cov(X, l)| a unit; it is what an ensemble Kalman filter moves by.
    ``variance`` is that of the score, ``kept`` the step's alpha_bar.
    """
    rise = variance / torch.linalg.vector_norm(along.flatten(1), dim=1).double().clamp(min=TINY)
    goal = math.log((1 + options.stop) / (1 - options.stop))  # halfway on from stop to 1
    far = (goal - odds).clamp(min=0) / rise.clamp(min=TINY)[:, None] / kept**0.5
    reach: Tensor = far.to(along.dtype)
    return reach


def _still(odds: Odds, options: EnsembleOptions, *, told: bool) -> Bool[Tensor, " n"]:
    """Images whose particles are not pushed: all of them are sure already, or their scores are ties and no probe has ``told`` more."""
    ties = (odds.std(1) <= max(3 * options.noise, TIE)) & (not told)
    return ties | (odds.sigmoid() >= options.stop).all(1)


def _unit(x: Particles) -> Particles:
    length: Tensor = torch.linalg.vector_norm(x.flatten(2), dim=2).clamp(min=TINY)
    return x / length[:, :, None, None, None]
