"""What an audit draws is decided before anything is drawn."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.plan import PlanOptions, cost, plan, proposal, sampled_factor
from audit_plugin.concepts.captions import caption
from audit_plugin.concepts.schema import ConceptSet
from audit_plugin.core.errors import CaptionError, TableError
from audit_plugin.core.values import Arm, Concept, Row
from tests.bank.world import CONCEPTS, rows, small_plan

LETTER = Concept(name="letter", levels=tuple("abcdefgh"), phrases=tuple("abcdefgh"))
LETTERS = ConceptSet(concepts=(LETTER,))


def test_every_arm_has_its_size():
    """Flips to every other level, and the control arms as large as asked for."""
    assert small_plan(6).cells == {Arm.BASELINE: 6, Arm.FLIP: 6 * (1 + 2), Arm.PLACEBO: 3, Arm.REPLICATE: 2, Arm.GROUP: 6}


def test_a_plan_made_twice_is_the_same_plan():
    """Nothing depends on a clock or a global random state."""
    assert small_plan() == small_plan()
    assert small_plan().digest == small_plan().digest


def test_an_arm_shares_the_rows_seed():
    """All arms but the replicates use the noise of the row's baseline."""
    seeds = {(probe.row, probe.recipe.seed) for probe in small_plan().probes if probe.arm is not Arm.REPLICATE}
    assert len(seeds) == 6


def test_unchanged_values_give_the_baseline_recipe():
    """A donor with the row's own values costs no picture; any other donor changes the caption."""
    same = plan([Row(id=str(i), values=(1, 2)) for i in range(4)], CONCEPTS, generator="g", audit="a")
    base = {probe.row: probe.recipe for probe in same.probes if probe.arm is Arm.BASELINE}
    assert all(probe.recipe == base[probe.row] for probe in same.probes if probe.arm is Arm.GROUP)
    for probe in small_plan().probes:
        assert probe.recipe.caption == caption(CONCEPTS, probe.values) or probe.arm is Arm.PLACEBO


def test_equal_recipes_count_once():
    """Recipes are fewer than probes wherever a group's donor changed nothing or repeats a flip."""
    design = small_plan(30)
    assert len(design.recipes) == len({p.recipe for p in design.probes}) < len(design.probes)
    assert [r for row in design.by_row() for r in row] == list(design.recipes.values())


def test_adding_a_row_moves_no_picture_of_the_others():
    """Baselines, flips and replicates of old rows are reused when the table grows."""
    options = PlanOptions(groups=False, placebo_rows=99, replicate_rows=99)
    before, after = small_plan(5, options=options), small_plan(6, options=options)
    assert before.recipes.keys() < after.recipes.keys()


def test_donors_are_other_rows():
    """Nobody is their own donor."""
    table = [Row(id=str(i), values=(i,)) for i in range(8)]
    groups = ConceptSet(concepts=(LETTER, replace(LETTER, name="other")), groups=(("letter", "other"),))
    design = plan([replace(row, values=row.values * 2) for row in table], groups, generator="g", audit="a")
    donors = {probe.row: probe.values[0] for probe in design.probes if probe.arm is Arm.GROUP}
    assert all(int(row) != donor for row, donor in donors.items())
    assert len(set(donors.values())) > 1


def test_many_levels_are_sampled_without_bias():
    """With more than five levels at most two flips per row are drawn, and their factors make up for the rest."""
    table = [Row(id=str(i), values=(min(i % 12, 7),)) for i in range(6000)]
    design = plan(table, LETTERS, generator="g", audit="a", options=PlanOptions(placebo_rows=0, replicates=0))
    share = np.bincount([row.values[0] for row in table], minlength=8) / len(table)
    taken = {row.id: [] for row in table}
    for probe in design.probes:
        taken[probe.row] += [probe.level] if probe.arm is Arm.FLIP else []
    factors = np.array([sampled_factor(share, row.values[0], taken[row.id]) for row in table])
    assert Counter(map(len, taken.values())).keys() == {1, 2}
    np.testing.assert_allclose((factors * share).sum(1), 1)
    np.testing.assert_allclose((factors * share).mean(0), share, atol=0.012)


def test_factor_is_exactly_unbiased_over_all_pairs_of_draws():
    """Expectation over the two draws, by enumeration, is the full sum over the levels."""
    share, f, own = np.array([0.1, 0.2, 0.3, 0.15, 0.2, 0.05]), np.arange(6.0) ** 2, 2
    chance = proposal(share, own)
    mean = sum(
        chance[a] * chance[b] * (share * sampled_factor(share, own, {a, b}) * f).sum()
        for a in range(6)
        for b in range(6)
        if own not in (a, b)
    )
    assert mean == pytest.approx((share * f).sum())


def test_cost_counts_only_what_is_missing():
    """The dry run knows what lies in the bank."""
    design = small_plan()
    some = list(design.recipes)[:10]
    price = cost(design, [*some, "unrelated"], evaluations_per_image=7, images_per_second=2, bytes_per_image=100)
    missing = len(design.recipes) - 10
    assert (price.draw, price.reuse, price.evaluations, price.seconds, price.bytes) == (
        missing,
        10,
        7 * missing,
        missing / 2,
        100 * missing,
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "no rows"),
        ([*rows(2), rows(1)[0]], "'row-0' is listed 2 times"),
        ([Row(id="x", values=(0, 3))], "row 'x': concept 'colour' has levels 0..2, got 3"),
        ([Row(id="x", values=(0,))], "row 'x': need 2 concept values"),
    ],
)
def test_rows_that_do_not_fit_are_refused(table, message):
    """Every refusal names the row and the reason."""
    with pytest.raises(TableError, match=message):
        plan(table, CONCEPTS, generator="g", audit="a")


def test_a_change_that_the_caption_does_not_show_is_refused():
    """A flip with an unchanged caption would measure nothing and look like no reliance."""
    with pytest.raises(CaptionError, match="setting 'ruler' to 'yes' leaves the caption"):
        small_plan(caption=lambda _, values, __, placebo: f"{values[1]}{placebo}")
    with pytest.raises(CaptionError, match="placebo word does not reach"):
        small_plan(caption=lambda _, values, *__: str(values))
