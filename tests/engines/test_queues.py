from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.queues import QUANTUM, FairQueue


def queue(**weights):
    made = FairQueue()
    for client, weight in weights.items():
        made.join(client, weight)
    return made


@given(
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([0.5, 1.0, 2.0, 3.0]), min_size=1),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 20)), max_size=12),
    st.lists(st.integers(1, 9), max_size=12),
)
def test_every_row_is_handed_out_once_and_in_order(weights, added, taken):
    """Whatever is added and taken, per item: 0 to its end, without gaps."""
    fair = queue(**weights)
    items = [(number, client, rows) for number, (client, rows) in enumerate(added) if client in weights]
    for item in items:
        fair.add(item[1], item, item[2])
    got = [each for rows in [*taken, 10**6] for each in fair.take(rows)]
    for item in items:
        ends = [(each.start, each.stop) for each in got if each.item == item]
        assert [0, *(stop for _, stop in ends)] == [*(start for start, _ in ends), item[2]]
    assert fair.rows == 0
    assert fair.take(5) == []


@given(st.integers(1, 40), st.lists(st.integers(1, 16), min_size=1, max_size=30), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_backlogged_clients_get_rows_by_weight(size, batches, weight):
    """At any moment nobody is further behind than one visit of each, whatever the sizes of the requests."""
    fair = queue(one=1.0, other=weight)
    for _ in range(1000 // size + 1):
        fair.add("one", object(), size)
    fair.add("other", "whole", 1000)
    owner = Counter()
    for rows in batches:
        for each in fair.take(rows):
            owner["other" if each.item == "whole" else "one"] += len(each)
        assert abs(owner["one"] - owner["other"] / weight) <= 2 * QUANTUM + 1 / weight


def test_a_batch_holds_rows_of_everyone():
    fair = queue(big=1.0, small=1.0)
    fair.add("big", "b", 100)
    fair.add("small", "s", 3)
    assert [(each.item, len(each)) for each in fair.take(16)] == [("b", 13), ("s", 3)]


def test_an_idle_client_saves_nothing_up():
    """After a pause it gets its share and not what it missed."""
    fair = queue(steady=1.0, late=1.0)
    fair.add("steady", "s", 1000)
    fair.take(200)
    fair.add("late", "l", 1000)
    assert sum(len(each) for each in fair.take(80) if each.item == "l") <= 40 + QUANTUM


def test_removing_leaves_the_others():
    fair = queue(a=1.0, b=1.0)
    for client, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
        fair.add(client, item, 5)
    fair.take(2)
    fair.remove("a", "a1")
    fair.remove("a", "a1")
    assert fair.rows == 10
    assert fair.heads == ["a2", "b1"]
    assert fair.leave("a") == ["a2"]
    assert fair.leave("a") == []
    assert fair.drain() == ["b1"]
    assert fair.rows == 0


def test_everyone_waits_or_not():
    fair = queue(a=1.0, b=1.0)
    fair.add("a", "a1", 1)
    assert not fair.everyone
    fair.add("b", "b1", 1)
    assert fair.everyone


@pytest.mark.parametrize(("name", "weight", "message"), [("a", 1.0, "there already"), ("b", 0.0, "weight of client 'b'")])
def test_bad_clients_are_refused(name, weight, message):
    with pytest.raises(ValueError, match=message):
        queue(a=1.0).join(name, weight)
