"""Counterfactuals of a classifier that tells scores and nothing else: particles of a diffusion, guided by how score and image vary together.

For particles X with covariance C and a score l, Cov(X, l(X)) is C times the mean gradient of l (Stein's lemma for Gaussian X, to first order
else): a gradient brought onto what the diffusion finds plausible, from forward passes alone.  After FreeMCG (Kim et al., CVPR 2025), with one
direction shared by all particles where its script weighs each one's own deviation by a sign; resampling is of sequential Monte Carlo
(Wu et al. 2023).
"""

from dataclasses import dataclass
from statistics import median

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from engines.guided.edits import Latents
from engines.guided.particles import Editing, Found, Odds, Particles, nearest
from engines.noise import step_noise

TIE = 1e-9
"""Spread of log-odds at which they tell nothing, even where a server's own noise was not measured."""
TINY = 1e-22
_RESAMPLING = 1 << 20
"""Streams of noise above those of steps."""


@dataclass(frozen=True, kw_only=True)
class EnsembleOptions:
    """How many particles, from how much noise, how hard."""

    particles: int = 16
    signals: tuple[float, ...] = (0.35, 0.20)
    """alpha_bar at the start; the second attempt starts noisier."""
    push: tuple[float, ...] = (0.1, 0.2)
    """Weight of the direction; the second is for when the noisier start has failed."""
    sizes: tuple[int, ...] = (32, 64)
    """Particles of the attempts after that."""
    pull: float = 0.02
    """Weight of the way back to the original."""
    resample: int = 4
    """Every so many steps particles that score badly may give way to copies of others; 0: never."""
    temperature: float = 2.0
    """Exponent of the probability in resampling."""
    stop: float = 0.95
    """Probability at which particles are pushed no further."""
    noise: float = 0.0
    """Standard deviation of the server's log-odds for one image sent again; spreads below three of it are ties."""

    def __post_init__(self) -> None:
        if min(self.particles, *self.sizes) < 2:
            raise ValueError(f"need at least two particles, got {(self.particles, *self.sizes)}")
        if not self.signals or not all(0 < each < 1 for each in self.signals) or not self.push:
            raise ValueError(f"shares of signal lie between 0 and 1, and one push is needed: {self.signals}, {self.push}")
        if min(self.pull, self.noise, self.temperature, *self.push) < 0 or not 0 < self.stop <= 1 or self.resample < 0:
            raise ValueError("weights are not negative, and stop lies in (0, 1]")

    @property
    def ladder(self) -> tuple[tuple[float, float, int], ...]:
        """(alpha_bar, push, particles) of each attempt: more noise first, then a harder push, then more particles."""
        first = [(signal, self.push[0], self.particles) for signal in self.signals]
        harder = [(self.signals[-1], push, self.particles) for push in self.push[1:]]
        return (*first, *harder, *((self.signals[-1], self.push[-1], size) for size in self.sizes))


def ensemble(editing: Editing, options: EnsembleOptions | None = None, attempts: int | None = None) -> list[Found]:
    """Edit each image until the classifier calls it its target, up the ladder of attempts (all of it when None).

    Pixels or latents, of any decoder and any engine: nothing is differentiated.  A row's result depends on its own x, target, conditioning and
    seed.  An attempt costs particles * steps queries, and as many network rows.
    """
    options = options or EnsembleOptions()
    found: list[Found | None] = [None] * len(editing.x)
    for attempt, (signal, push, k) in enumerate(options.ladder[:attempts]):
        left = [at for at, each in enumerate(found) if each is None or not each.success]
        if not left:
            break
        for at, each in zip(left, _attempt(editing.some(left), signal, push, k, options), strict=True):
            before = found[at]
            found[at] = each if before is None else _after(before, each, attempt + 1)
    return [each for each in found if each is not None]


def direction(clean: Particles, odds: Odds) -> Latents:
    """Cov(X, l) of each image's particles (n c h w): their covariance times the gradient of a linear score, exactly."""
    centred = clean - clean.mean(1, keepdim=True)
    weight = (odds - odds.mean(1, keepdim=True)).to(clean.dtype)
    found: Tensor = (centred * weight[:, :, None, None, None]).mean(1)
    return found


def _attempt(editing: Editing, signal: float, push: float, k: int, options: EnsembleOptions) -> list[Found]:
    cloud = editing.cloud(signal, k)
    cosines: list[list[float]] = [[] for _ in editing.seeds]
    for step in range(len(cloud.path)):
        eps, clean = cloud.estimated(step)
        if step + 1 == len(cloud.path):
            cloud.move(step, eps, clean)
            break
        _, odds, _ = editing.asked(clean)
        if options.resample and step % options.resample == options.resample - 1:
            kept = torch.stack([_resampled(row, options, seed, step) for row, seed in zip(odds, editing.seeds, strict=True)])
            clean, eps, odds = (torch.stack([a[b] for a, b in zip(each, kept, strict=True)]) for each in (clean, eps, odds))
        still = _still(odds, options)
        one, other = (direction(clean[:, half::2], odds[:, half::2]).flatten(1) for half in (0, 1))
        for each, cosine, idle in zip(cosines, torch.cosine_similarity(one, other).tolist(), still.tolist(), strict=True):
            each.extend([] if idle else [cosine])
        towards = _unit(direction(clean, odds)[:, None]).masked_fill(still[:, None, None, None, None], 0)
        length = torch.linalg.vector_norm(eps.flatten(2), dim=2)[:, :, None, None, None]
        cloud.move(step, eps, clean, length * (push * towards - options.pull * _unit((clean - cloud.original).sign())))
    images, odds, flipped = editing.asked(cloud.z)
    return [
        nearest(
            images[at],
            odds[at],
            flipped[at],
            original,
            attempts=1,
            queries=k * len(cloud.path),
            network_rows=cloud.network_rows,
            agreement=median(cosines[at]) if cosines[at] else None,
        )
        for at, original in enumerate(editing.original)
    ]


def _still(odds: Odds, options: EnsembleOptions) -> Bool[Tensor, " n"]:
    """Images whose particles are not pushed: their scores are ties, or all of them are sure already."""
    return (odds.std(1) <= max(3 * options.noise, TIE)) | (odds.sigmoid() >= options.stop).all(1)


def _unit(x: Particles) -> Particles:
    length: Tensor = torch.linalg.vector_norm(x.flatten(2), dim=2).clamp(min=TINY)
    return x / length[:, :, None, None, None]


def _resampled(odds: Float64[Tensor, " k"], options: EnsembleOptions, seed: int, step: int) -> Int[Tensor, " k"]:
    """Which particle each slot goes on with: systematic resampling where few carry the weight, else all stay."""
    k = len(odds)
    weight = (options.temperature * torch.nn.functional.logsigmoid(odds)).softmax(0)
    if float(1 / weight.square().sum()) >= k / 2:
        return torch.arange(k, device=odds.device)
    u = float(torch.special.ndtr(step_noise([seed], _RESAMPLING + step, (1,))))  # uniform in (0, 1)
    places = (torch.arange(k, device=odds.device) + u) / k
    return torch.searchsorted(weight.cumsum(0), places.to(weight)).clamp(max=k - 1)


def _after(before: Found, each: Found, attempts: int) -> Found:
    """A later attempt, with what the earlier ones cost; a failure keeps the more confident picture."""
    shown = each if each.success or each.odds >= before.odds else before
    return Found(
        image=shown.image,
        success=each.success,
        odds=shown.odds,
        valid=each.valid,
        attempts=attempts,
        queries=before.queries + each.queries,
        network_rows=before.network_rows + each.network_rows,
        agreement=each.agreement,
    )
