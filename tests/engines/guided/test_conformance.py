"""Numbers that the released samplers produce on a substrate known in closed form."""

import pytest
import torch

from engines.guided.attempt import Task, attempt
from engines.guided.chain import Chain
from engines.guided.options import FastDimeOptions
from tests.engines.guided.vectors import NOISE, NOTHING, TARGET, X, gaussian, judge, score, scripted, silent, unlike

RELEASED = {"push": "log_odds", "as_released": True, "class_scales": (8.0,)}
MASKED = RELEASED | {"threshold": 0.4, "dilation": 1, "warmup": 30}
# run: options, noise, final logits, final means, first four of image 0, l1 on the scale of [0, 1]
VECTORS = {
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
    return attempt(task, 8.0, NOISE, draw)


@pytest.mark.parametrize("name", VECTORS)
def test_the_released_sampler_is_reproduced(name):
    options, noisy, logits, means, first, l1 = VECTORS[name]
    z, _, rows = run(options, scripted() if noisy else silent)
    found = [score(z), z.mean((1, 2, 3)), z[0].flatten()[:4], (z - X).abs().mean((1, 2, 3)) / 2]
    worst = max(
        float((each - torch.tensor(known)).abs().max()) for each, known in zip(found, (logits, means, first, l1), strict=True)
    )
    print(name, worst)
    assert worst < TOLERANCE
    assert rows == 2 * 60 * (2 if options.get("passes") == "two" else 1)
