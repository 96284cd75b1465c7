"""Half precision: what is rounded, what is not, and how far results are off."""

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional

from engines.certificate import FORWARD_LIMITS, GRADIENT_LIMITS
from engines.graphs import islands
from engines.graphs.attention import with_heads, written_out
from engines.graphs.gradients import Vjp
from engines.graphs.precision import Half, at_precision, parameter_names
from tests.engines.graphs import networks
from tests.engines.graphs.cases import DENOISER, GUIDED, cosine, draw, relative, right, session
from tests.engines.graphs.conftest import guided

FLOAT, BRAIN = onnx.TensorProto.FLOAT, onnx.TensorProto.BFLOAT16


def judge():
    return networks.seeded(networks.Judge)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_float_is_left_alone(precision):
    module = judge()
    assert at_precision(module, precision) is module


def test_a_copy_is_cast_and_islands_are_not():
    """The module given stays as it is; statistics and the embedding of time are float32."""
    module = networks.seeded(networks.Denoiser)
    cast = at_precision(module, "bf16")
    kinds = {name.removeprefix("network."): value.dtype for name, value in cast.state_dict().items()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {"time_embedding.0.weight", "time_embedding.0.bias"}
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
    batch = at_precision(judge(), "fp16").network.norm
    assert batch.running_var.dtype == torch.float32
    out = cast(*draw(DENOISER, 2).values())
    assert out.dtype == torch.float32
    assert relative(out, module(*draw(DENOISER, 2).values())) < FORWARD_LIMITS["bf16"]


def test_timesteps_are_not_rounded():
    """999 and 998 are one number in bfloat16."""

    class Sees(nn.Module):
        def forward(self, x, t):
            return x, t[:, None].expand(-1, 3)

    x, t = at_precision(Sees(), "bf16")(torch.full((2, 3), 1.001), torch.tensor([998.0, 999.0]))
    assert t[:, 0].tolist() == [998, 999]
    assert x[0, 0] == 1


def test_only_networks_of_a_guided_step_are_cast():
    cast = at_precision(guided(), "fp16")
    assert all(isinstance(each, Half) for each in (cast.denoiser, cast.classifier, cast.decoder))
    assert at_precision(Vjp(judge()), "fp16").network.dtype == torch.float16


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_guided_step_in_half_precision(precision):
    """Estimates within the bounds of certificates; the gradient points where it should, kinks or not."""
    module, feeds = guided(), draw(GUIDED, 4)
    theirs = module(*feeds.values())
    loss, eps, x0, gradient = at_precision(module, precision)(*feeds.values())
    assert {each.dtype for each in (loss, eps, x0, gradient)} == {torch.float32}
    assert relative(eps, theirs[1]) < FORWARD_LIMITS[precision]
    assert relative(x0, theirs[2]) < FORWARD_LIMITS[precision]
    assert cosine(gradient, theirs[3]) > 0.98


def test_weights_keep_the_names_of_the_module():
    """Although networks are wrapped; a tied weight has its first name."""
    module = guided()
    module.classifier.second = module.classifier.conv
    names = parameter_names(module, cast := at_precision(module, "fp16"))
    assert names[id(cast.denoiser.network.enter.weight)] == "denoiser.enter.weight"
    assert names[id(cast.classifier.network.second.weight)] == "classifier.conv.weight"


@pytest.mark.parametrize("scale", [1.0, 1e-5, 1e-7])
def test_small_cotangents_survive_float16(scale):
    """They enter at unit RMS; as they come they would drown, which the plain gradient shows."""
    network = networks.seeded(networks.Smooth)
    x, cotangent = torch.randn(4, 3, 4, 4), scale * torch.randn(4, 5)
    _, theirs = Vjp(network)(x, cotangent)
    cast = at_precision(Vjp(network), "fp16")
    _, ours = cast(x, cotangent)
    error, least = GRADIENT_LIMITS["fp16"]
    assert relative(ours, theirs) < error
    assert cosine(ours, theirs) > least
    leaf = x.requires_grad_()
    plain = torch.autograd.grad(cast.network(leaf), leaf, cotangent)[0]
    assert (relative(plain, theirs) < error) is (scale == 1)


def test_a_float16_graph_runs(exported):
    """Types at the door are the spec's; inside they are half, with islands, and small cotangents are scaled."""
    module, spec, folder = exported("smooth_vjp", precision="fp16")
    run = session(folder)
    for rows, scale in ((1, 1.0), (8, 1e-6)):
        feeds = draw(spec, rows)
        feeds = {**feeds, "cotangent": scale * feeds["cotangent"]}
        found, theirs = run(feeds), right(module, spec, feeds)
        assert relative(found["y"], theirs["y"]) < FORWARD_LIMITS["fp16"]
        assert relative(found["grad"], theirs["grad"]) < GRADIENT_LIMITS["fp16"][0]
        assert cosine(found["grad"], theirs["grad"]) > GRADIENT_LIMITS["fp16"][1]


def test_a_bfloat16_graph_says_so(exported):
    """It runs on GPUs only; here its types are read, and the statistics' are float32."""
    _, _, folder = exported("smooth", precision="bf16", opset=23)
    graph = onnx.load(folder / "model.onnx").graph
    assert {each.data_type for each in graph.initializer} == {BRAIN}
    assert {each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)} == {FLOAT}
    made = {output: node for node in graph.node for output in node.output}
    norms = [node for node in graph.node if node.op_type == "GroupNormalization"]
    assert all(made[norms[0].input[place]].op_type == "Cast" for place in (0, 1, 2))
    assert "Attention" in {node.op_type for node in graph.node}


def test_statistics_are_float32():
    """A sum of 5000 halves is not a half's business."""
    x = torch.full((1, 5000), 3.0, dtype=torch.float16)
    found = islands.in_float(lambda x, shift=None: (x.sum() - shift) / 5000)(x, shift=torch.zeros((), dtype=torch.float16))
    assert (found.dtype, found.item()) == (torch.float16, 3)
    assert islands.in_float(torch.softmax)(torch.zeros(2, 2), -1).dtype == torch.float32


def test_batch_norm_is_an_affine_map():
    layer = judge().norm
    x = torch.randn(2, 8, 4, 4)
    options = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    found = islands.batch_norm(x.half(), *options)
    assert found.dtype == torch.float16
    assert relative(found, layer(x)) < 2e-3
    torch.testing.assert_close(islands.batch_norm(x, *options), layer(x))


@pytest.mark.parametrize(
    "options", [{}, {"is_causal": True}, {"attn_mask": "bool"}, {"attn_mask": "float"}, {"scale": 0.5}], ids=str
)
def test_attention_is_that_of_torch(options):
    q, k, v = (torch.randn(2, 3, 6, 8) for _ in range(3))
    masks = {"bool": torch.rand(6, 6) > 0.3, "float": torch.randn(6, 6)}
    masks["bool"][:, 0] = True
    options = {name: masks.get(value, value) if name == "attn_mask" else value for name, value in options.items()}
    found = written_out(q.bfloat16(), k.bfloat16(), v.bfloat16(), **options)
    assert found.dtype == torch.bfloat16
    assert relative(found, functional.scaled_dot_product_attention(q, k, v, **options)) < 2e-2
    torch.testing.assert_close(written_out(q, k, v, **options), functional.scaled_dot_product_attention(q, k, v, **options))


def test_attention_without_heads_has_one():
    q, k, v = (torch.randn(2, 6, 8) for _ in range(3))
    torch.testing.assert_close(with_heads(q, k, v), functional.scaled_dot_product_attention(q, k, v))


def test_attention_does_not_overflow():
    """Products of 64 numbers of size 60 exceed what float16 holds; scaled first, they do not."""
    q = torch.full((1, 1, 2, 64), 60.0, dtype=torch.float16)
    assert torch.isinf(q @ q.transpose(-2, -1)).all()
    assert torch.isfinite(written_out(q, q, q)).all()
