"""Servers that tell labels, or two decimals: which rungs can be had, and what is said of them."""

import numpy as np
import pytest
import torch

from audit_plugin.core.errors import GradientError, TargetUnreachableError
from audit_plugin.target.gradients import GradientOptions, Pooled, Rung, StudentOptions, agreement, guide, ladder
from tests.fixtures.networks import WEIGHT, colour_network, expected_logits
from tests.target.gradients.deployed import Coarse

IMAGES = (
    np.random.default_rng(5).random((40, 3, 16, 16), np.float32) ** np.linspace(0.3, 3, 40, dtype=np.float32)[:, None, None, None]
)
LABELS_ONLY, TWO_DECIMALS = None, 2


def file(tmp_path, **changes):
    return GradientOptions(file=colour_network(tmp_path / "colours.onnx", **changes), worst=1e-3)


class Endpoint:
    """A gradient model that answers as the network does."""

    @staticmethod
    def connect(_wire, name, *, classes):
        assert (name, classes) == ("colours_vjp", 4)
        return lambda images: torch.from_numpy(expected_logits(images.numpy()))


@pytest.mark.parametrize("decimals", [LABELS_ONLY, TWO_DECIMALS])
def test_a_twin_is_compared_with_what_rounding_leaves(tmp_path, decimals):
    """0.005 is no other model, nor is a tie of the likeliest two; the output that the file shares with the server is behind a class number."""
    found = guide(file(tmp_path), Coarse(decimals), IMAGES)
    assert found.rung is Rung.TWIN
    assert "same class on 100.0% of 40 images" in found.said
    assert ("rounded to 0.01, which explains up to 0.005" in found.said) == (decimals is not None)
    leaf = torch.from_numpy(IMAGES).requires_grad_()
    (slope,) = torch.autograd.grad(found.judge(leaf)[:, 1].sum(), leaf)
    np.testing.assert_allclose(slope.mean((0, 2, 3)).numpy() * 256, WEIGHT[:, 1], atol=1e-4)


@pytest.mark.parametrize("decimals", [LABELS_ONLY, TWO_DECIMALS])
def test_another_model_is_found_out_all_the_same(tmp_path, decimals):
    with pytest.raises(GradientError, match="not the deployed model"):
        guide(GradientOptions(rung=Rung.TWIN, file=file(tmp_path, weight=-WEIGHT).file), Coarse(decimals), IMAGES)


def test_rounding_explains_half_a_step_and_no_more(tmp_path):
    """A twin that differs by a little less than 0.01 is refused where answers have two decimals, and not where they have one."""
    other = file(tmp_path, weight=WEIGHT * 1.05)
    with pytest.raises(GradientError, match="not the deployed model"):
        guide(GradientOptions(rung=Rung.TWIN, file=other.file, worst=1e-3), Coarse(2), IMAGES)
    assert guide(GradientOptions(rung=Rung.TWIN, file=other.file, worst=1e-2), Coarse(1), IMAGES).rung is Rung.TWIN


@pytest.mark.parametrize("decimals", [LABELS_ONLY, TWO_DECIMALS])
def test_an_endpoint_is_compared_in_the_same_way(monkeypatch, decimals):
    monkeypatch.setattr(ladder, "ServedGradients", Endpoint)
    found = guide(GradientOptions(worst=1e-3), Coarse(decimals), IMAGES)
    assert (found.rung, found.passed_over) == (Rung.ENDPOINT, ())


@pytest.mark.parametrize("decimals", [LABELS_ONLY, TWO_DECIMALS])
def test_without_a_gradient_the_server_itself_is_searched(decimals):
    """Nothing was asked for it; why there is no better rung is said."""
    target = Coarse(decimals)
    found = guide(GradientOptions(), target, IMAGES)
    assert (found.rung, found.judge, target.asked) == (Rung.FREE, None, 0)
    assert ("labels alone" in found.said) == (decimals is None)
    assert "no gradient model 'colours_vjp'" in found.passed_over[0]


def test_a_server_that_is_away_is_no_server_without_a_gradient():
    """An error, in place of a search that costs a hundred times as many questions."""

    class Away:
        def call(self, *_what, **_named):
            raise TargetUnreachableError("nobody answers")

    target = Coarse()
    target.wire = Away()
    with pytest.raises(TargetUnreachableError, match="nobody answers"):
        guide(GradientOptions(), target, IMAGES)


def test_students_of_labels_are_refused_before_anything_is_asked():
    target = Coarse(LABELS_ONLY)
    with pytest.raises(GradientError, match="labels alone, which teach no slope; use twin or gradient_free"):
        guide(GradientOptions(rung=Rung.SURROGATE), target, IMAGES, pool=lambda _n: IMAGES)
    assert target.asked == 0


def test_students_learn_from_two_decimals():
    """And are held to the same tests."""
    rng = np.random.default_rng(0)

    def pool(n):
        colours = rng.random((n, 3, 1, 1), np.float32)
        images = np.clip(colours + 0.05 * rng.normal(size=(n, 3, 16, 16)), 0, 1).astype(np.float32)
        return Pooled(images, np.zeros(n, bool))

    student = StudentOptions(students=1, widths=(8, 16), epochs=8, top1=0.9, step=0.1)
    found = guide(GradientOptions(rung=Rung.SURROGATE, queries=200, student=student), Coarse(TWO_DECIMALS), IMAGES, pool=pool)
    assert found.rung is Rung.SURROGATE
    assert "same class on" in found.said


def test_a_tie_of_the_likeliest_classes_is_agreement():
    ours, theirs = np.array([[0.504, 0.496], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.2, 0.8]])
    assert agreement(ours, theirs).top1 == 1
    assert agreement(ours[:, ::-1], theirs).top1 == 0.5
