"""Traces of the classifiers that are audited: the same numbers, portable operators, any batch."""

import pytest
import torch
from torch import nn

from engines.graphs.check import examples, forbidden
from engines.graphs.export import EXAMPLE_ROWS
from engines.graphs.gradients import Guided, Vjp
from engines.graphs.trace import depends_on_batch, name_weights, trace
from tests.engines.graphs import networks
from tests.engines.graphs.cases import GUIDED, draw, relative

SHAPE = (3, 16, 16)


def traced(module, *shapes, rows=EXAMPLE_ROWS, gradients=True):
    inputs = [torch.rand(rows, *shape) for shape in shapes]
    return trace(module, inputs, [True] * len(inputs), gradients=gradients, native_attention=False)


@pytest.mark.parametrize("kind", [networks.ResNetLike, networks.MobileNetLike, networks.SqueezeNetLike, networks.ViTLike])
def test_classifiers_with_gradients(kind):
    """Traced at 23 rows, run at 3; a class token is the one thing that needs to know how many rows there are."""
    vjp = Vjp(networks.seeded(kind))
    graph = traced(vjp, SHAPE, (networks.CLASSES,))
    operators = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert not [name for name in operators if forbidden(name)]
    assert depends_on_batch(graph) is (kind is networks.ViTLike)
    inputs = torch.randn(3, *SHAPE), torch.randn(3, networks.CLASSES)
    for ours, theirs in zip(graph(*inputs), vjp(*inputs), strict=True):
        assert relative(ours, theirs) < 1e-5


def test_the_gradient_is_taken_once():
    """Backward formulas only: about as many nodes as forward again, not the twice-differentiable ones."""
    network = networks.seeded(networks.ResNetLike)
    forward = traced(network, SHAPE, gradients=False)
    with_gradient = traced(Vjp(network), SHAPE, (networks.CLASSES,))
    assert len(with_gradient.graph.nodes) < 5 * len(forward.graph.nodes)
    convolutions = [node for node in with_gradient.graph.nodes if "convolution" in str(node.target)]
    assert len(convolutions) == 3 + 3 + 1  # forward, backward, and one to route the pool's


def test_forward_traces_keep_operators_whole():
    """So that the exporter can write them as one."""
    graph = traced(networks.seeded(networks.Denoiser), (4, 8, 8), (), (6, 16), gradients=False)
    operators = [str(node.target) for node in graph.graph.nodes]
    assert operators.count("aten.group_norm.default") == 2
    assert not depends_on_batch(graph)


def test_a_guided_step_of_diffusers_networks():
    """UNet2DConditionModel and the decoder of AutoencoderKL, the smallest there are, at two rows."""
    denoiser, decoder = networks.seeded(networks.tiny_unet), networks.seeded(networks.tiny_decoder)
    module = Guided(denoiser, networks.seeded(networks.Judge), decoder=decoder)
    graph = trace(module, examples(GUIDED, 2), [False] * 6, gradients=True, native_attention=False)
    operators = {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}
    assert not [name for name in operators if forbidden(name)]
    feeds = draw(GUIDED, 2)
    for ours, theirs in zip(graph(*feeds.values()), module(*feeds.values()), strict=True):
        assert relative(ours, theirs) < 1e-4


class Contracts(nn.Module):
    """Products whose axes are told apart by their names alone when there are as many rows as heads."""

    def forward(self, x, y):
        return torch.einsum("bhmk,bkn->bhmn", x, y), torch.einsum("bhmk,hkn->bhmn", x, y), x @ y.unsqueeze(1)


def test_products_of_equal_sizes_are_not_confused():
    x, y = torch.randn(4, 4, 3, 5), torch.randn(4, 5, 2)
    graph = trace(Contracts(), [x, y], [False, False], gradients=True, native_attention=False)
    for ours, theirs in zip(graph(x, y), Contracts()(x, y), strict=True):
        torch.testing.assert_close(ours, theirs)


class Fixed(nn.Module):
    """Means what the example had."""

    def forward(self, x):
        return x.reshape(EXAMPLE_ROWS, -1)


class Tied(nn.Module):
    """One parameter under two names, a buffer, and a tensor that is neither."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Linear(4, 4)
        self.register_buffer("shift", torch.ones(4))
        self.constant = torch.full((4,), 2.0)

    def forward(self, x):
        return self.second(self.first(x)) * self.constant + self.shift


def test_a_batch_that_is_fixed_is_an_error():
    with pytest.raises(ValueError, match="taken for a constant"):
        traced(Fixed(), (4,), gradients=False)


def test_weights_get_their_names():
    """Tied ones once; what is not saved with the module keeps the name of a constant."""
    module = Tied()
    graph = traced(module, (4,), gradients=False)
    name_weights(graph, {id(value): name for name, value in module.state_dict(keep_vars=True).items() if "second" not in name})
    assert set(graph.state_dict()) >= {"first.weight", "first.bias", "shift"}
    assert len({node.target for node in graph.graph.nodes if node.op == "get_attr"}) == 4
    x = torch.randn(2, 4)
    torch.testing.assert_close(graph(x), module(x))
