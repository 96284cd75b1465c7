from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.buckets import LONGEST_SECONDS, BucketTimes, measure_times, remembered_times
from engines.cache import BuildCache
from engines.errors import OutOfMemoryError

TABLES = st.dictionaries(st.sampled_from([1, 2, 4, 8, 16]), st.floats(0.1, 10), min_size=1).map(BucketTimes)
CPU = torch.device("cpu")


def spent(times, waiting):
    """Time until nobody waits when every batch is the one chosen."""
    total = 0.0
    while waiting > 0:
        size = times.choose(waiting)
        total, waiting = total + times.seconds[size], waiting - size
    return total


@given(TABLES, st.integers(1, 32))
def test_no_way_to_serve_the_waiting_rows_is_faster(times, waiting):
    """Against trying every sequence of batches."""

    @cache
    def least(n):
        return 0.0 if n <= 0 else min(seconds + least(n - size) for size, seconds in times.seconds.items())

    if waiting <= 2 * times.largest:
        assert spent(times, waiting) == pytest.approx(least(waiting))


@pytest.mark.parametrize(("waiting", "size"), [(1, 1), (3, 4), (4, 4), (5, 4), (6, 8), (8, 8), (300, 8)])
def test_not_simply_the_largest(waiting, size):
    """Five rows: 4 + 1 take 9, a padded 8 takes 10; six rows: 4 + 1 + 1 take 12."""
    assert BucketTimes({1: 3.0, 4: 6.0, 8: 10.0}).choose(waiting) == size


def test_of_equal_ways_the_one_with_larger_batches():
    assert BucketTimes({1: 1.0, 2: 2.0, 4: 4.0}).choose(4) == 4


def test_where_any_size_runs_nothing_is_padded():
    """Times between those measured are interpolated."""
    times = BucketTimes({1: 2.0, 8: 9.0}, exact=True)
    assert [times.choose(waiting) for waiting in (1, 5, 8)] == [1, 5, 8]
    assert times.cover(5) == 5


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 8), (8, 8)])
def test_a_batch_is_covered_in_the_least_time(rows, size):
    """Not by the nearest size, where a larger one is faster."""
    assert BucketTimes({1: 1.0, 4: 5.0, 8: 4.0}).cover(rows) == size


@pytest.mark.parametrize("seconds", [{}, {0: 1.0}, {1: 0.0}])
def test_impossible_times_are_refused(seconds):
    with pytest.raises(ValueError, match="bucket times need"):
        BucketTimes(seconds)


def test_measuring_ends_where_memory_does():
    def replay_at(size):
        if size > 2:
            raise RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 1")
        return lambda: None

    assert list(measure_times(replay_at, [4, 1, 2], CPU)) == [1, 2]
    with pytest.raises(OutOfMemoryError, match="no batch of 4 rows"):
        measure_times(replay_at, [4, 8], CPU)


def test_measuring_ends_where_batches_take_long(monkeypatch):
    """There is nothing to gain any more."""
    monkeypatch.setattr("engines.buckets.least_seconds", lambda *_, **__: 2 * LONGEST_SECONDS)
    assert list(measure_times(lambda _: lambda: None, [1, 2, 4], CPU)) == [1]


def test_other_errors_of_measuring_are_not_swallowed():
    def replay_at(_):
        raise RuntimeError("illegal instruction")

    with pytest.raises(RuntimeError, match="illegal"):
        measure_times(replay_at, [1], CPU)


def test_times_are_noted_by_place(tmp_path):
    """Measured again only elsewhere."""
    cache_ = BuildCache(tmp_path)
    first = remembered_times(cache_, "k", {"threads": "1"}, lambda: {1: 0.5, 8: 1.25})
    assert remembered_times(cache_, "k", {"threads": "1"}, lambda: pytest.fail("measured again")) == first == {1: 0.5, 8: 1.25}
    assert remembered_times(cache_, "k", {"threads": "2"}, lambda: {1: 0.75}) == {1: 0.75}
