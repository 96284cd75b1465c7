"""Numbers that the released samplers produce on a substrate known in closed form."""

import pytest
import torch

from engines.guided.attempt import Task, attempt
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


def run(options, draw):
    diffusion, options = gaussian(), FastDimeOptions(**options)
    chain = Chain.of(diffusion, options.kept, options.variance)
    task = Task(diffusion, chain, X, TARGET, NOTHING, judge, lambda x: x, unlike, options, (X + 1) / 2)
    return attempt(task, torch.full((2,), options.class_scales[0]), NOISE, draw)


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
