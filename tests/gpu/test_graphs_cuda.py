"""The modules that graphs are made of, on a GPU in half precision: the fallback there, and what graphs are compared with."""

import pytest
import torch

from engines.certificate import FORWARD_LIMITS, GRADIENT_LIMITS
from engines.graphs.export import export
from engines.graphs.gradients import Vjp
from engines.graphs.precision import at_precision
from tests.engines.graphs import networks
from tests.engines.graphs.cases import DENOISER, SMOOTH_VJP, cosine, draw, relative, right, session

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


def on_gpu(feeds):
    return {name: value.cuda() for name, value in feeds.items()}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_denoisers_stay_within_the_bounds(precision):
    module, feeds = networks.seeded(networks.Denoiser), draw(DENOISER, 8)
    ours = at_precision(module, precision).cuda()(*on_gpu(feeds).values())
    assert ours.dtype == torch.float32
    assert relative(ours.cpu(), module(*feeds.values())) < FORWARD_LIMITS[precision]


@pytest.mark.parametrize("scale", [1.0, 1e-6])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_gradients_stay_within_the_bounds(precision, scale):
    """Small cotangents too: in float16 they enter at unit RMS."""
    module, feeds = Vjp(networks.seeded(networks.Smooth)), draw(SMOOTH_VJP, 8)
    feeds = {**feeds, "cotangent": scale * feeds["cotangent"]}
    _, ours = at_precision(module, precision).cuda()(*on_gpu(feeds).values())
    _, theirs = module(*feeds.values())
    assert relative(ours.cpu(), theirs) < GRADIENT_LIMITS[precision][0]
    assert cosine(ours.cpu(), theirs) > GRADIENT_LIMITS[precision][1]


def test_a_module_on_the_gpu_is_exported_from_a_copy(tmp_path):
    """It stays where it is."""
    module = Vjp(networks.seeded(networks.Smooth)).cuda()
    export(module, SMOOTH_VJP, tmp_path)
    assert next(iter(module.state_dict().values())).is_cuda
    feeds = draw(SMOOTH_VJP, 3)
    found = session(tmp_path)(feeds)
    assert all(relative(found[name], theirs.cpu()) < 1e-4 for name, theirs in right(module, SMOOTH_VJP, on_gpu(feeds)).items())
