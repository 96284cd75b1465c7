"""Numbers that the released samplers produce on a substrate known in closed form."""

import numpy as np
import pytest
import torch

from engines.guided.attempt import Task, attempt, gradient, started, stepped
from engines.guided.chain import Chain
from engines.guided.options import FastDimeOptions
from tests.engines.guided.vectors import (
    NOISE,
    NOTHING,
    TARGET,
    X,
    gaussian,
    in_dime_s_order,
    judge,
    score,
    scripted,
    silent,
    unlike,
)

RELEASED = {"push": "log_odds", "as_released": True, "class_scales": (8.0,)}
MASKED = RELEASED | {"threshold": 0.4, "dilation": 1, "warmup": 30}
# run: options, noise, final logits, final means, first four of image 0, l1 on the scale of [0, 1]
DIME = RELEASED | {"passes": "plain", "through_noise": True, "inner": "mean"}
VECTORS = {
    "A": (DIME | {"distance": 0.0, "likeness": 0.0}, False, (7.6914, -7.3157), (0.06210, 0.07393), (1.0004, 0.4694, -0.9304, -0.4893), (0.38633, 0.37307)),
    "B": (DIME, False, (5.7969, -5.5238), (0.05218, 0.07482), (0.9764, 0.5364, -0.3527, -0.1209), (0.27872, 0.26987)),
    "B15": (DIME | {"class_scales": (15.0,)}, False, (8.4634, -8.0852), (0.03095, 0.04188), (1.0006, 0.7369, -0.9975, -0.6663), (0.40534, 0.38770)),
    "C": (DIME | {"push": "log_probability"}, False, (1.4920, -1.4169), (0.06305, 0.08233), (0.3347, 0.3858, 0.1972, 0.3412), (0.13044, 0.13141)),
    "D": (DIME | {"guided_steps": 30}, False, (4.3800, -4.0358), (0.06846, 0.08524), (0.7639, 0.4297, -0.2432, 0.0069), (0.23616, 0.22288)),
    "E": (DIME | {"inner": "stochastic"}, True, (5.7162, -5.3720), (0.05315, 0.07450), (0.9388, 0.5655, -0.3275, -0.1058), (0.27680, 0.26247)),
    "F": (RELEASED | {"passes": "plain"}, False, (5.2420, -4.8873), (0.05847, 0.07710), (0.8784, 0.4919, -0.2985, -0.0610), (0.25850, 0.24725)),
    "F'": (RELEASED | {"passes": "plain", "through_noise": True}, False, (5.8279, -5.5574), (0.05185, 0.07479), (0.9824, 0.5394, -0.3558, -0.1245), (0.27991, 0.27104)),
    "G": (MASKED, False, (4.6058, -3.8364), (0.05695, 0.06866), (0.8784, 0.4919, -0.2985, -0.0610), (0.22447, 0.19125)),
    "H": (MASKED | {"passes": "two"}, False, (4.7659, -4.2312), (0.06478, 0.08653), (0.8784, 0.4919, -0.2985, -0.0610), (0.23482, 0.21385)),
    "I": (MASKED, True, (4.5978, -3.8644), (0.05654, 0.06719), (0.8594, 0.4670, -0.3313, -0.0944), (0.22351, 0.19442)),
}  # fmt: skip
TOLERANCE = 2e-4


def task(options, judge=judge):
    diffusion, options = gaussian(), FastDimeOptions(**options)
    chain = Chain.of(diffusion, options.kept, options.variance)
    return Task(diffusion, chain, X, TARGET, NOTHING, judge, lambda x: x, unlike, options, (X + 1) / 2)


def run(options, draw, judge=judge):
    one = task(options, judge)
    return attempt(one, torch.full((2,), one.options.class_scales[0]), NOISE, draw)


def begins(x, *known):
    torch.testing.assert_close(x[0].flatten()[:4], torch.tensor(known), atol=1e-5, rtol=0)


def test_the_first_step_is_the_released_one():
    """Logits of the originals, start, estimate and mean at index 59, and where the second step begins in run B."""
    torch.testing.assert_close(score(X), torch.tensor([-0.20539, 0.32138]), atol=1e-5, rtol=0)
    seen = []

    def watched(shown):
        seen.append(2 * shown.detach() - 1)
        return judge(shown)

    one = task(DIME)
    z = started(one.chain, X, NOISE, one.options)
    begins(z, 0.65630, 0.35498, -0.19565, 1.09548)
    clean = one.diffusion.x0(z, one.chain.at[59], NOTHING)
    begins(clean, 0.23436, 0.16608, 0.04131, 0.33387)
    mean = one.chain.mean(clean, z, 59)
    begins(mean, 0.63769, 0.34641, -0.18587, 1.06223)
    g = gradient(one, torch.full((2,), 8.0), X, z, 0)
    begins(stepped(one.chain, mean - float(one.chain.variance[59]) * g, 59, silent), 0.76820, 0.38353, -0.29745, 0.96447)
    run(DIME, silent, watched)
    begins(seen[1], 0.26495, 0.17478, 0.01516, 0.31096)


def test_a_respaced_chain_is_the_formula():
    """To 1e-12, as float64: levels, betas and the posterior's weights and variances, of 200 of 1000 steps."""
    bars = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[[round(k * 999 / 199) for k in range(200)]]
    before = np.concatenate([[1.0], bars[:-1]])
    beta = 1 - bars / before
    small = beta * (1 - before) / (1 - bars)
    small[0] = small[1]
    known = {
        "alpha_bars": bars,
        "weight_clean": beta * np.sqrt(before) / (1 - bars),
        "weight_noisy": (1 - before) * np.sqrt(1 - beta) / (1 - bars),
    }
    diffusion = gaussian(timesteps=1000)
    for variance, wanted in (("small", small), ("middle", np.sqrt(small * beta)), ("large", beta)):
        chain = Chain.of(diffusion, 200, variance)
        for name, numbers in {**known, "variance": wanted}.items():
            np.testing.assert_allclose(getattr(chain, name).numpy(), numbers, atol=1e-12, rtol=0, err_msg=f"{variance} {name}")
    assert (chain.at[99], round(bars[99], 7), round(beta[:100].sum(), 2)) == (497, 0.0801878, 2.48)


@pytest.mark.parametrize("name", VECTORS)
def test_the_released_sampler_is_reproduced(name):
    options, noisy, logits, means, first, l1 = VECTORS[name]
    z, _, rows = run(options, (in_dime_s_order() if "inner" in options else scripted()) if noisy else silent)
    found = [score(z), z.mean((1, 2, 3)), z[0].flatten()[:4], (z - X).abs().mean((1, 2, 3)) / 2]
    worst = max(
        float((each - torch.tensor(known)).abs().max()) for each, known in zip(found, (logits, means, first, l1), strict=True)
    )
    print(name, worst)
    assert worst < TOLERANCE
    inner = {"D": 1395}.get(name, 1830) if "inner" in options else 60
    assert rows == 2 * inner * (2 if options.get("passes") == "two" else 1)
