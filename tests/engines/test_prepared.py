import copy

import pytest
import torch
from torch import nn

from engines.backends.eager import EagerBackend
from engines.backends.prepared import Doubling, PreparedBackend, folded
from engines.errors import NotRefittableError
from engines.parity import relative_error
from engines.spec import EngineSpec, Profile, TensorSpec


def upsampler(**options):
    from diffusers.models.upsampling import Upsample2D

    return nn.Sequential(Upsample2D(4, **{"use_conv": True, **options})).eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8)])
def test_doubling_is_one_transposed_convolution(size):
    """At the border too, and on a single pixel."""
    module = upsampler(out_channels=6)
    x = torch.randn(2, 4, *size)
    assert relative_error(folded(copy.deepcopy(module))(x), module(x)) < 1e-6


def test_an_odd_size_is_made_in_two_steps():
    module = upsampler()
    x = torch.randn(2, 4, 3, 3)
    found = folded(copy.deepcopy(module))[0](x, output_size=(5, 5))
    torch.testing.assert_close(found, module[0](x, output_size=(5, 5)))


@pytest.mark.parametrize(
    "options", [{"use_conv": False}, {"use_conv": False, "use_conv_transpose": True}, {"kernel_size": 1, "padding": 0}]
)
def test_other_upsamplers_stay(options):
    """Only what the formula is about is replaced."""
    assert not any(isinstance(part, Doubling) for part in folded(upsampler(**options)).modules())


def test_the_module_given_stays_as_it_is():
    """And the engine does not take other weights, for some of its own are sums."""
    module = upsampler()
    spec = EngineSpec(
        name="up",
        inputs=(TensorSpec("x", "float32", ("B", 4, 4, 4)),),
        outputs=(TensorSpec("y", "float32", ("B", 4, 8, 8)),),
        profile=Profile(1, 4, 16),
        model_hash="u" * 64,
    )
    before = {name: value.clone() for name, value in module.state_dict().items()}
    engine = PreparedBackend().build(module, spec)
    feeds = {"x": torch.randn(3, 4, 4, 4)}
    assert relative_error(engine.run(feeds)["y"], EagerBackend().build(module, spec).run(feeds)["y"]) < 1e-6
    with pytest.raises(NotRefittableError):
        engine.refit({"0.conv.weight": before["0.conv.weight"]})
    assert not any(isinstance(part, Doubling) for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_gpu_is_refused():
    assert "torch-compiled" in PreparedBackend("cuda").probe().reason
