"""The modules as they run without any graph: the fallback everywhere."""

import pytest
import torch
from torch import nn

from engines.graphs.gradients import Guided, NegativeLogProbability, Vjp, at_unit_rms
from tests.engines.graphs import networks
from tests.engines.graphs.cases import GUIDED, draw, relative
from tests.engines.graphs.conftest import guided


class Scales(nn.Module):
    """A denoiser whose prediction is a multiple of what it sees."""

    def forward(self, x, t):
        return 0.5 * x


class Means(nn.Module):
    """Two logits: the mean, and nothing."""

    def forward(self, images):
        mean = images.mean((1, 2, 3))
        return torch.stack([mean, 0 * mean], 1)


class Distance(nn.Module):
    """A loss of the image alone, with a term of its own."""

    def forward(self, logits, images, target, original):
        return (images - original).square().sum((1, 2, 3))


def test_a_linear_network_gives_its_transpose():
    layer = nn.Linear(3, 2)
    x, cotangent = torch.randn(4, 3), torch.randn(4, 2)
    y, gradient = Vjp(layer)(x, cotangent)
    torch.testing.assert_close(y, layer(x).detach())
    torch.testing.assert_close(gradient, cotangent @ layer.weight.detach())
    assert not y.requires_grad
    assert not gradient.requires_grad


def test_it_runs_where_gradients_are_off():
    with torch.no_grad():
        _, gradient = Vjp(networks.seeded(networks.Judge))(torch.randn(2, 3, 16, 16), torch.randn(2, 5))
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_guided_gradient_is_that_of_the_whole_chain(prediction):
    """Taken network by network, it equals autograd through everything at once, in float64."""
    module = guided(prediction=prediction, clip=1.5).double()
    feeds = {name: value.double() if value.is_floating_point() else value for name, value in draw(GUIDED, 3).items()}
    loss, eps, x0, gradient = module(*feeds.values())
    x, a = feeds["x"].clone().requires_grad_(), feeds["alpha_bar"].view(-1, 1, 1, 1)
    out = module.denoiser(x, feeds["t"], feeds["context"])
    clean = {"epsilon": (x - (1 - a).sqrt() * out) / a.sqrt(), "sample": out}.get(prediction, a.sqrt() * x - (1 - a).sqrt() * out)
    clean = clean.clamp(-1.5, 1.5)
    right = nn.functional.cross_entropy(module.classifier(module.decoder(clean)), feeds["target"], reduction="none")
    torch.testing.assert_close(loss, right.detach())
    torch.testing.assert_close(x0, clean.detach())
    assert relative(gradient, torch.autograd.grad((feeds["weight"] * right).sum(), x)[0]) < 1e-12
    assert eps.shape == x.shape


def test_rows_do_not_see_each_other():
    module = guided()
    feeds = draw(GUIDED, 4)
    whole = module(*feeds.values())
    for ours, theirs in zip(module(*(value[2:3] for value in feeds.values())), whole, strict=True):
        assert relative(ours, theirs[2:3]) < 1e-5


def test_a_case_in_closed_form():
    """x0 = x (1 - s / 2) / a for a prediction x / 2; the loss is softplus(-mean x0), its slope known."""
    x, alpha_bar, weight = torch.randn(2, 1, 2, 2), torch.tensor([0.5, 0.9]), torch.tensor([1.0, 3.0])
    factor = ((1 - 0.5 * (1 - alpha_bar).sqrt()) / alpha_bar.sqrt()).view(2, 1, 1, 1)
    mean = (factor * x).mean((1, 2, 3))
    loss, eps, x0, gradient = Guided(Scales(), Means())(x, torch.zeros(2), alpha_bar, torch.tensor([0, 0]), weight)
    torch.testing.assert_close(loss, nn.functional.softplus(-mean))
    torch.testing.assert_close(eps, 0.5 * x)
    torch.testing.assert_close(x0, factor * x)
    slope = -weight * torch.sigmoid(-mean) / 4
    torch.testing.assert_close(gradient, (slope.view(2, 1, 1, 1) * factor).expand_as(x))


def test_a_loss_may_have_terms_and_ignore_the_classifier():
    """Distance to an original: gradient 2 (x0 - original) weight, through the estimate."""
    x, original, ones = torch.randn(2, 1, 2, 2), torch.randn(2, 1, 2, 2), torch.ones(2)
    module = Guided(Scales(), Means(), prediction="sample", loss=Distance(), terms=1)
    loss, _, x0, gradient = module(x, ones, 0.5 * ones, torch.zeros(2), 3 * ones, original)
    torch.testing.assert_close(loss, (x0 - original).square().sum((1, 2, 3)))
    torch.testing.assert_close(gradient, 3 * (x0 - original))  # 2 x 3 x 0.5


def test_the_default_loss_is_cross_entropy_without_an_index():
    logits, target = torch.randn(6, 5), torch.arange(6) % 5
    found = NegativeLogProbability()(logits, torch.empty(6, 0), target)
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, target, reduction="none"))


def test_unit_rms_changes_nothing_but_the_range():
    """Rows of any size, a zero one too; the inner map sees rows of RMS 1."""
    seen = []

    def back(cotangent):
        seen.append(cotangent)
        return 2 * cotangent

    cotangent = torch.randn(3, 4, 4) * torch.tensor([1e-7, 1e3, 0.0]).view(3, 1, 1)
    torch.testing.assert_close(at_unit_rms(back)(cotangent), 2 * cotangent)
    torch.testing.assert_close(seen[0].square().mean((1, 2)).sqrt(), torch.tensor([1.0, 1.0, 0.0]))
