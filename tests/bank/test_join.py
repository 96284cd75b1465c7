"""Plan, pictures and readings joined into the table of the methods."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.join import load_table
from audit_plugin.bank.plan import PlanOptions, plan
from audit_plugin.bank.real import RealImages
from audit_plugin.bank.store import ProbeBank
from audit_plugin.bank.verify import verify
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.values import Arm, Concept, Row
from tests.bank.world import FakeDetector, FakeGenerator, good, new_bank, silent, small_plan


@pytest.fixture
def bank(tmp_path):
    bank = new_bank(tmp_path)
    build(bank, small_plan(), FakeGenerator(), good, progress=silent)
    verify(bank, FakeDetector(), progress=silent)
    return bank


def test_every_probe_lies_in_its_place(bank):
    """The arrays hold exactly the picture of each probe's recipe."""
    table, images = load_table(bank, detector="detector-1"), bank.images()
    at = {row.id: i for i, row in enumerate(table.rows)}
    place = {
        Arm.BASELINE: lambda p: table.baseline[at[p.row]],
        Arm.FLIP: lambda p: table.flips[p.concept][p.level, at[p.row]],
        Arm.PLACEBO: lambda p: table.placebo[at[p.row]],
        Arm.REPLICATE: lambda p: table.replicates[p.replicate - 1, at[p.row]],
        Arm.GROUP: lambda p: table.groups[p.concept][at[p.row]],
    }
    for probe in small_plan().probes:
        assert place[probe.arm](probe) == images[probe.recipe.id].sha256
        assert table.captions[images[probe.recipe.id].sha256] == probe.recipe.caption


def test_own_levels_are_the_baseline_and_holes_are_empty(bank):
    """A row's own level repeats its baseline; rows without a control arm have no picture there."""
    table = load_table(bank)
    for j, concept in enumerate(table.concepts):
        own = table.flips[concept.name][table.values[:, j], np.arange(len(table.rows))]
        np.testing.assert_array_equal(own, table.baseline)
        assert (table.factor(concept.name) == 1).all()
    assert (table.placebo == "").sum() == 3
    assert (table.replicates == "").sum() == 4


def test_changed_tells_which_donors_differ(bank):
    """Where the donor changed nothing the picture is the baseline, and only there."""
    table = load_table(bank)
    np.testing.assert_array_equal(table.changed["ruler+colour"], table.groups["ruler+colour"] != table.baseline)


def test_readings_and_real_images_are_joined(bank):
    """Readings fit every place; a row without a real image has an empty name."""
    real = RealImages(by_row={"row-1": "f" * 64}, paths={"f" * 64: "somewhere"})
    table = load_table(bank, detector="detector-1", real=real)
    assert table.read(table.flips["colour"], "colour").shape == (3, 6, 3)
    assert np.isfinite(table.read(table.baseline, "ruler")).all()
    assert list(table.real) == ["", "f" * 64, "", "", "", ""]
    assert (table.digest, table.generator, table.detector) == (bank.digest, "fake-1", "detector-1")


def test_damaged_and_refused_pictures_cannot_be_used_by_accident(bank):
    """A forgotten picture leaves a hole."""
    before = load_table(bank)
    bank.forget(before.baseline[0])
    after = load_table(bank)
    assert (before.baseline[0] != "", after.baseline[0]) == (True, "")
    assert not after.usable(after.baseline)[0]


def test_sampled_levels_bring_their_factors(tmp_path):
    """Concepts with many levels have holes, and factors that sum to one with the prevalence."""
    letters = ConceptSet(concepts=(Concept(name="letter", levels=tuple("abcdefgh"), phrases=tuple("abcdefgh")),))
    design = plan(
        [Row(id=str(i), values=(i % 8,)) for i in range(40)], letters, generator="fake-1", audit="a", options=PlanOptions()
    )
    bank = ProbeBank.create(tmp_path, audit="a", concept_set=letters)
    build(bank, design, FakeGenerator(), good, progress=silent)
    table = load_table(bank)
    np.testing.assert_allclose(table.prevalence("letter") @ table.factor("letter"), 1)
    np.testing.assert_array_equal(table.flips["letter"] != "", table.factor("letter") > 0)


def test_a_changed_label_reaches_the_table_without_drawing(bank):
    """Labels, units and paths are the rows' own; correcting them costs nothing."""
    fixed = small_plan()
    fixed = replace(fixed, rows=tuple(replace(row, unit="patient", labels={"task": "yes"}) for row in fixed.rows))
    assert build(bank, fixed, FakeGenerator(), good, progress=silent).drawn == 0
    assert set(load_table(bank).units) == {"patient"}
