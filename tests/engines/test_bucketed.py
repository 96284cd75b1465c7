import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.bucketed import HALVINGS, Buckets, Ran, measured, static_engines
from engines.cache import BuildCache
from engines.errors import OutOfMemoryError
from engines.rows import Part, grouped
from tests.engines.workshop import Affine, engine, exact_buckets, right, rows, static_buckets


def part(count, first=0.0):
    feeds = rows(count, first)
    return Part(feeds, {"y": torch.full((count, 3), -1.0)})


def assert_right(*parts):
    for each in parts:
        torch.testing.assert_close(each.outs["y"], right(each.feeds), rtol=0, atol=0)


@given(st.lists(st.integers(1, 7), max_size=6), st.integers(1, 5))
def test_grouping_keeps_rows_and_order(counts, limit):
    """Full groups but for the last."""
    groups = grouped([part(count, 100.0 * i) for i, count in enumerate(counts)], limit)
    found = [x for group in groups for each in group for x in each.feeds["x"][:, 0].tolist()]
    assert found == [100.0 * i + 3 * row for i, count in enumerate(counts) for row in range(count)]
    assert all(sum(map(len, group)) == limit for group in groups[:-1])


def test_rows_of_several_parts_share_a_batch_padded_by_row_0():
    program = Affine()
    first, second = part(2), part(1, 50.0)
    assert static_buckets(program, [1, 4]).run([first, second]) == [Ran(3, 1)]
    assert_right(first, second)
    torch.testing.assert_close(program.batches[0][3], program.batches[0][0], rtol=0, atol=0)


def test_more_rows_than_the_largest_batch_are_cut():
    program = Affine()
    big = part(11)
    assert sum(ran.rows for ran in static_buckets(program, [1, 4]).run([big])) == 11
    assert program.sizes == [4, 4, 4]
    assert_right(big)


def test_a_batch_that_does_not_fit_is_halved_for_good():
    """All rows are computed all the same; larger engines are closed, and the next batch starts small."""
    program = Affine(fits=4)
    buckets = static_buckets(program, [1, 2, 4, 8, 16])
    both = part(10), part(6, 500.0)
    assert buckets.run(both) == [Ran(4, 0)] * 4
    assert_right(*both)
    assert buckets.halvings == 2
    assert buckets.times.largest == buckets.spec.profile.max_b == 4
    again = part(8)
    buckets.run([again])
    assert buckets.halvings == 2
    assert_right(again)


def test_an_engine_with_a_range_is_halved_too():
    program = Affine(fits=2)
    buckets = Buckets([engine(program)], dict.fromkeys((1, 2, 4, 8), 1.0))
    whole = part(8)
    buckets.run([whole])
    assert program.sizes == [2, 2, 2, 2]
    assert_right(whole)


def test_three_halvings_and_no_more():
    program = Affine(fits=1)
    with pytest.raises(OutOfMemoryError, match="only 2 rows") as caught:
        static_buckets(program, [1, 2, 4, 8, 16]).run([part(16)])
    assert HALVINGS == 3
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    with pytest.raises(OutOfMemoryError, match="only 1 rows"):
        static_buckets(Affine(fits=0), [1, 2]).run([part(2)])


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="operator"):
        static_buckets(Affine(poison=3.0), [4]).run([part(4)])


def test_static_engines_as_far_as_memory_goes():
    def build(profile):
        if profile.max_b > 4:
            raise RuntimeError("Failed to allocate memory")
        return engine(Affine(), profile.min_b, profile.max_b)

    assert [each.spec.profile.max_b for each in static_engines(build, (8, 4, 2))] == [2, 4]
    with pytest.raises(OutOfMemoryError, match="batches of 8"):
        static_engines(build, (8, 16))


def test_sizes_are_measured_once(tmp_path):
    """The second time the program is not run at all."""
    first, second = Affine(), Affine()
    cache = BuildCache(tmp_path)
    buckets = measured([engine(first)], sizes=(1, 4), cache=cache)
    assert set(first.sizes) == {1, 4}
    assert measured([engine(second)], sizes=(1, 4), cache=cache).times.seconds == buckets.times.seconds
    assert second.batches == []
    assert measured([engine(second)], sizes=(1, 2), cache=cache).times.seconds.keys() == {1, 2}


def test_engines_for_sizes_that_do_not_fit_are_closed():
    small, large = Affine(), Affine(fits=7)
    buckets = measured([engine(large, 8, 8), engine(small, 2, 2)], sizes=(2, 8))
    assert (large.closed, small.closed) == (True, False)
    assert buckets.times.largest == 2
    buckets.close()
    assert small.closed


def test_sizes_that_no_engine_takes_are_refused():
    with pytest.raises(ValueError, match="none of the engines"):
        measured([engine(Affine(), 4, 4)], sizes=(1, 2))


def test_any_size_runs_unpadded_where_nothing_is_captured():
    program = Affine()
    assert exact_buckets(program).run([part(5)]) == [Ran(5, 0)]
    assert program.sizes == [5]
