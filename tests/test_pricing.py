"""What explaining one model would take at most, by how its gradient is had."""

from pathlib import Path

import pytest

from audit_plugin.config import ExplainConfig
from audit_plugin.pricing import price_of
from audit_plugin.target.guidance import GradientOptions, Rung


def queries(method="auto", **gradients):
    asked = ExplainConfig(method=method, signal=0.6, gradients={"m": GradientOptions(**gradients)} if gradients else {})
    return price_of(asked, "m", images=8, classes=2).queries


@pytest.mark.parametrize(
    "given", [{"file": Path("model.onnx")}, {"rung": Rung.TWIN, "file": Path("model.onnx")}, {"rung": Rung.ENDPOINT}]
)
def test_a_model_with_a_gradient_is_not_priced_as_a_black_box(given):
    assert queries(**given) == queries("polyak") < queries("ensemble")


def test_where_a_gradient_is_not_sure_the_dearer_search_counts():
    """Another model's file does not make this one cheaper."""
    assert queries() == queries(rung=Rung.FREE) == queries("ensemble")
    other = ExplainConfig(signal=0.6, gradients={"other": GradientOptions(file=Path("model.onnx"))})
    assert price_of(other, "m", images=8, classes=2).queries == queries("ensemble")


@pytest.mark.parametrize(("method", "looked_for"), [("polyak", True), ("dime", True), ("dvce", False), ("ensemble", False)])
def test_a_start_is_paid_for_where_it_is_looked_for(method, looked_for):
    found, fixed = (
        price_of(ExplainConfig(method=method, signal=signal), "m", images=8, classes=2).queries for signal in (None, 0.6)
    )
    assert (found > fixed) == looked_for
