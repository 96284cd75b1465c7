import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.worklist import Chain, run_worklist


def affine(batches):
    """Next state: 3 * state + what the step is told; remembers (item, told) pairs of every batch."""

    def advance(items, states, told):
        batches.append(list(zip(items, told[:, 0].tolist(), strict=True)))
        return 3 * states + told

    return advance


def chain(item, steps, first=0.0, later=0):
    return Chain(item, torch.tensor([first], dtype=torch.float64), torch.tensor(steps, dtype=torch.float64).view(-1, 1), later)


def by_hand(steps, state=0.0):
    for told in steps:
        state = 3 * state + told
    return state


LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)


@given(LENGTHS, st.integers(1, 6))
def test_as_few_batches_as_can_be_and_the_results_of_one_by_one(lengths, rows):
    """max(longest, ceil(total / rows)) batches, none above ``rows``, each item once in a batch, its steps in order."""
    batches = []
    asked = {item: [10.0 * item + step for step in range(length)] for item, length in enumerate(lengths)}
    results = run_worklist([chain(item, steps) for item, steps in asked.items()], affine(batches), rows)
    assert {item: state.item() for item, state in results.items()} == {item: by_hand(steps) for item, steps in asked.items()}
    assert len(batches) == max(*lengths, math.ceil(sum(lengths) / rows))
    assert all(len(batch) <= rows and len({item for item, _ in batch}) == len(batch) for batch in batches)
    assert all([told for batch in batches for item, told in batch if item == each] == steps for each, steps in asked.items())


@given(LENGTHS, st.integers(1, 6), st.integers(1, 4))
def test_inner_chains_of_all_outer_steps_are_one_list(outer, rows, shrink):
    """As in DiME: after each inner loop an outer step starts the next, shorter one; items do not wait for one another."""
    batches, steps_left = [], dict(enumerate(outer))

    def inner(item):
        return [1.0] * (1 + steps_left[item] // shrink)

    def follow(item, state):
        steps_left[item] -= 1
        return chain(item, inner(item), state.item() / 7) if steps_left[item] else None

    wanted = dict.fromkeys(steps_left, 0.0)
    for item, count in enumerate(outer):
        for left in range(count, 0, -1):
            wanted[item] = by_hand([1.0] * (1 + left // shrink), wanted[item] / 7 if left < count else 0.0)
    results = run_worklist([chain(item, inner(item)) for item in steps_left], affine(batches), rows, follow)
    assert {item: state.item() for item, state in results.items()} == pytest.approx(wanted)
    total = sum(len(batch) for batch in batches)
    longest = max(sum(1 + left // shrink for left in range(1, count + 1)) for count in outer)
    assert len(batches) <= longest + math.ceil(total / rows)


def test_who_has_the_longest_way_to_go_comes_first():
    """Later chains count, so that two workers' worth of rows are filled to the end."""
    batches = []
    more = iter([chain("nested", [1.0] * 2)])
    chains = [chain("a", [1.0] * 2), chain("b", [1.0] * 2), chain("nested", [1.0] * 2, later=2)]
    run_worklist(chains, affine(batches), 2, lambda item, _: next(more, None) if item == "nested" else None)
    assert len(batches) == 4


def test_bad_lists_are_refused():
    with pytest.raises(ValueError, match="one chain per item"):
        run_worklist([chain("a", [1.0]), chain("a", [2.0])], affine([]), 4)
    with pytest.raises(ValueError, match="batches of a row or more"):
        run_worklist([chain("a", [1.0])], affine([]), 0)
    with pytest.raises(ValueError, match="has no steps"):
        chain("a", [])
    assert run_worklist([], affine([]), 4) == {}
