import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_plugin.sources.sampling import allocate, stratified

CELLS = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


@given(CELLS, st.integers(0, 80), st.floats(0, 1))
def test_exactly_n_different_rows_are_taken(cells, n, balance):
    """Whatever the shares, no row is lost to rounding or taken twice."""
    chosen = stratified([str(i) for i in range(len(cells))], cells, n, seed="s", balance=balance)
    assert len(set(chosen)) == len(chosen) == min(n, len(cells))
    assert chosen == sorted(chosen)


@given(CELLS, st.integers(1, 60))
def test_every_cell_keeps_its_share_to_within_one_row(cells, n):
    """Stratified means that no cell is over- or under-represented by a whole row."""
    n = min(n, len(cells))
    chosen = [cells[i] for i in stratified([str(i) for i in range(len(cells))], cells, n, seed="s")]
    assert all(abs(chosen.count(cell) - n * cells.count(cell) / len(cells)) < 1 + 1e-9 for cell in set(cells))


def test_the_choice_does_not_depend_on_the_order_of_the_table():
    """Sorting the table differently audits the same rows."""
    ids, cells = [f"row {i}" for i in range(40)], [i % 3 for i in range(40)]
    forward = {ids[i] for i in stratified(ids, cells, 12, seed="s")}
    assert forward == {ids[::-1][i] for i in stratified(ids[::-1], cells[::-1], 12, seed="s")}


def test_allocation_spreads_what_a_full_cell_cannot_take():
    """Two cells are too small for a third each; the large one takes the rest."""
    assert allocate([1, 1, 1], [100, 2, 3], 30) == [25, 2, 3]
    with pytest.raises(ValueError, match="cannot take"):
        allocate([1], [2], 3)
