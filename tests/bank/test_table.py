"""The table that methods read."""

import numpy as np
import pytest

from audit_plugin.bank.table import BankTable
from audit_plugin.core.values import Concept, Row

RULER = Concept(name="ruler", levels=("no", "yes"), phrases=("", "a ruler"))
ROWS = (Row(id="a", values=(0,)), Row(id="b", values=(1,), unit="p"), Row(id="c", values=(0,)))
FLIPS = np.array([["a0", "b1", "c0"], ["a1", "b0", ""]])


def small(**more):
    return BankTable(concepts=(RULER,), rows=ROWS, baseline=np.array(["a0", "b0", "c0"]), flips={"ruler": FLIPS}, **more)


def test_gather_puts_vectors_in_their_places():
    """Every picture's vector lands where its name stands; a hole stays NaN."""
    scores = {"a0": np.array([0.1, 0.9]), "a1": np.array([0.2, 0.8]), "b0": np.array([0.3, 0.7])}
    out = small().gather(FLIPS, scores)
    assert out.shape == (2, 3, 2)
    np.testing.assert_array_equal(out[:, 0], [[0.1, 0.9], [0.2, 0.8]])
    assert np.isnan(out[1, 2]).all()


def test_a_rejected_picture_is_named_but_never_used():
    """Refused pictures count, yet their scores do not come back."""
    table = small(rejected={"a1": "blank"}, readings={"a1": {"ruler": np.array([0.5, 0.5])}})
    assert not table.usable(FLIPS)[1, 0]
    assert np.isnan(table.gather(FLIPS, {"a1": np.ones(2)})).all()
    assert np.isnan(table.read(FLIPS, "ruler")).all()


def test_prevalence_units_and_factor():
    """The small helpers answer in the order of the rows."""
    table = small()
    np.testing.assert_allclose(table.prevalence("ruler"), [2 / 3, 1 / 3])
    assert table.units == ("a", "p", "c")
    assert (table.factor("ruler") == 1).all()


def test_shapes_are_checked():
    """A table whose arrays do not fit its rows cannot be made."""
    with pytest.raises(ValueError, match="flips of concept 'ruler'"):
        BankTable(concepts=(RULER,), rows=ROWS, baseline=np.array(["a0", "b0", "c0"]), flips={})
