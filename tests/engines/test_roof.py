"""Floating point operations and bytes in closed form, and whole networks against torch's own counter."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from engines.backends.eager import borrowed_threads
from engines.cache import BuildCache
from engines.calibrate import calibrate, calibrated, fastest
from engines.networks import UNetForward, VaeDecode
from engines.roof import Call, Roof, Work, work_of
from engines.spec import EngineSpec, Precision, Profile, TensorSpec


def spec(*rows, precision: Precision = "fp32"):
    """A spec whose inputs have these rows; nothing else of it matters here."""
    inputs = tuple(TensorSpec(f"x{at}", "float32", ("B", *row)) for at, row in enumerate(rows))
    return EngineSpec(name="net", inputs=inputs, outputs=(), profile=Profile(1, 8, 8), model_hash="0", precision=precision)


class Attention(nn.Module):
    def forward(self, q, k, v):
        return functional.scaled_dot_product_attention(q, k, v)


class Gradient(nn.Module):
    """The gradient of a network's squared output in its first input."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, *rest):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            result = self.inner(x.clone(), *rest)  # torch's counter cannot follow a module that is given a leaf
            return torch.autograd.grad(result.square().sum(), x)[0]


def counted(module, *feeds):
    """By torch's own counter, on the meta device, where attention is the two products it is made of."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(module).to("meta")(*(feed.to("meta") for feed in feeds))
    return counter.get_total_flops()


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("tf32", 4), ("fp16", 2), ("bf16", 2), ("fp8", 1)])
def test_a_linear_layer(precision, size):
    """5 rows of 3 times 7 numbers by 11: operands, bias and result once."""
    (call,) = work_of(nn.Linear(7, 11), spec((3, 7), precision=precision), 5).calls
    assert call.flops == 2 * 15 * 7 * 11
    assert call.bytes == size * (15 * 7 + 7 * 11 + 11 + 15 * 11)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution(stride, groups):
    (call,) = work_of(nn.Conv2d(4, 6, 3, stride, padding=1, groups=groups), spec((4, 8, 8)), 5).calls
    places = (8 // stride) ** 2
    assert call.flops == 2 * 5 * 6 * places * (4 // groups) * 9
    assert call.bytes == 4 * (5 * 4 * 64 + 6 * (4 // groups) * 9 + 6 + 5 * 6 * places)


def test_a_transposed_convolution():
    """Every input number meets every filter tap of every output channel once."""
    (call,) = work_of(nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False), spec((4, 8, 8)), 5).calls
    assert (call.flops, call.bytes) == (2 * 5 * 4 * 64 * 6 * 4, 4 * (5 * 4 * 64 + 4 * 6 * 4 + 5 * 6 * 256))


def test_the_gradient_of_a_convolution_costs_another():
    """Weights and the gradient are read, the gradient in the input is written; weights get no gradient."""
    module = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(requires_grad=False)
    forward, backward = work_of(Gradient(module), spec((4, 8, 8)), 5).calls
    assert (forward.name, backward.name) == ("convolution", "convolution_backward")
    assert backward.flops == forward.flops
    assert backward.bytes == 4 * (5 * 6 * 64 + 6 * 4 * 9 + 5 * 4 * 64)


def test_attention_keeps_its_scores_to_itself():
    """10 queries, 12 keys of 16 numbers in 2 heads; the scores are in no bytes."""
    (call,) = work_of(Attention(), spec((2, 10, 16), (2, 12, 16), (2, 12, 16)), 3).calls
    assert call.flops == 2 * 3 * 2 * 10 * 12 * (16 + 16)
    assert call.bytes == 4 * 3 * 2 * 16 * (10 + 12 + 12 + 10)


def test_the_gradient_of_attention_is_five_products():
    q, kv = (2, 10, 16), (2, 12, 16)
    forward, backward = work_of(Gradient(Attention()), spec(q, kv, kv), 3).calls
    assert backward.flops == forward.flops * 5 / 2
    assert backward.bytes == 4 * 3 * 2 * 16 * (3 * 10 + 2 * 12 + 10 + 2 * 12)


def test_a_whole_unet_agrees_with_torchs_counter(pipeline_directory):
    from diffusers import UNet2DConditionModel

    module = UNetForward(UNet2DConditionModel.from_pretrained(pipeline_directory / "unet").eval())
    rows = ((4, 8, 8), (), (12, 32))
    work = work_of(module, spec(*rows), 3)
    assert work.flops == counted(module, *(torch.empty(3, *row) for row in rows))
    assert {call.name for call in work.calls} >= {"convolution", "addmm", "_scaled_dot_product_flash_attention_for_cpu"}


def test_a_whole_gradient_agrees_with_torchs_counter(pipeline_directory):
    """The counter sees attention written out; fused it costs one more product of scores per call."""
    from diffusers import AutoencoderKL

    decode = VaeDecode(AutoencoderKL.from_pretrained(pipeline_directory / "vae").eval().requires_grad_(requires_grad=False))
    work = work_of(Gradient(decode), spec((4, 8, 8)), 2)
    again = sum(call.flops for call in work.calls if call.name.endswith("for_cpu_backward")) / 5
    assert work.flops - again == counted(Gradient(decode), torch.empty(2, 4, 8, 8))


def test_a_module_without_weights_has_a_floor():
    """Large networks are counted where they could not be held."""
    with torch.device("meta"):
        module = nn.Linear(2**20, 2**20, bias=False)
    assert work_of(module, spec((2**20,)), 1).flops == 2**41


def test_tied_weights_and_buffers_are_counted_once_each():
    """Tied names are one parameter; a batch norm's buffers are not in the way."""
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    module = nn.Sequential(first, nn.BatchNorm1d(4).eval(), second)
    assert work_of(module, spec((4,)), 2).flops == 2 * (2 * 2 * 16)


def test_the_module_is_left_as_it_is():
    module = nn.Linear(3, 3)
    before = module(torch.eye(3))
    work_of(module, spec((3,)), 2)
    assert torch.equal(module(torch.eye(3)), before)


def test_the_floor_takes_the_larger_bound_of_each_call():
    """One call waits for arithmetic, the other for memory."""
    work = Work((Call("mm", flops=100, bytes=10), Call("mm", flops=10, bytes=100)))
    assert work.seconds(Roof(flops=10, bandwidth=5)) == pytest.approx(100 / 10 + 100 / 5)
    assert (work.flops, work.bytes) == (110, 110)


def test_the_roof_of_this_machine_is_not_below_what_it_does():
    """A quarter of the time again, a smaller product: no faster than the peak.  A machine that is busy meanwhile may need to be asked again."""
    a = torch.randn(512, 512)
    for _ in range(4):
        roof = calibrate("cpu", "fp32", 1, seconds=0.2)
        with borrowed_threads(1):
            seconds = fastest(lambda: a @ a, "cpu", 0.05)
        if 2 * 512**3 / seconds < 2 * roof.flops:
            break
    assert 2 * 512**3 / seconds < 2 * roof.flops
    assert 1e8 < roof.bandwidth < 1e13


def test_a_roof_is_measured_once_per_machine(tmp_path, monkeypatch):
    """The second time it comes from the cache, unless threads differ."""
    made = iter([Roof(1.0, 2.0), Roof(3.0, 4.0)])
    monkeypatch.setattr("engines.calibrate.calibrate", lambda *_: next(made))
    cache = BuildCache(tmp_path)
    assert [calibrated(cache, "cpu", "fp32", threads).flops for threads in (1, 1, 2, 1)] == [1.0, 1.0, 3.0, 1.0]
