"""The score table: scored once, all or nothing, exact."""

import threading

import numpy as np
import pytest

from audit_plugin.core.errors import StoreError
from audit_plugin.core.protocols import ScoreTable
from audit_plugin.store.store import Store


@pytest.fixture(params=["file", "memory"])
def table(request, tmp_path):
    store = Store.open("sqlite://" if request.param == "memory" else tmp_path / "s.db", migrate=True)
    table: ScoreTable = store.scores
    yield table
    store.close()


def shas(n):
    return [f"{i:064x}" for i in range(n)]


def test_scores_come_back_bit_for_bit(table):
    """float64 in, the same float64 out, for more images than one statement takes."""
    scores = {sha: np.random.default_rng(i).normal(size=3) for i, sha in enumerate(shas(1201))}
    table.add("m", scores)
    back = table.get("m", [*scores, "unknown"])
    assert back.keys() == scores.keys()
    assert all((back[sha] == scores[sha]).all() for sha in scores)


def test_known_is_per_target(table):
    """Another version has to be scored anew."""
    table.add("v1", {"a": np.zeros(2)})
    assert (table.known("v1", ["a", "b"]), table.known("v2", ["a"])) == ({"a"}, set())


def test_what_is_there_is_left_alone(table):
    """Adding again neither fails nor overwrites, and brings the rest of the batch in."""
    table.add("m", {"a": np.zeros(2)})
    table.add("m", {"a": np.ones(2), "b": np.ones(2)})
    assert {sha: v.tolist() for sha, v in table.get("m", ["a", "b"]).items()} == {"a": [0, 0], "b": [1, 1]}


@pytest.mark.parametrize("bad", [np.array([np.nan, 1]), np.zeros((1, 2))])
def test_a_bad_vector_refuses_the_whole_batch(table, bad):
    """All or nothing."""
    with pytest.raises(StoreError, match="image b"):
        table.add("m", {"a": np.zeros(2), "b": bad})
    assert table.known("m", ["a", "b"]) == set()


def test_nothing_costs_nothing(table):
    """Empty batches are fine."""
    table.add("m", {})
    assert (table.known("m", []), table.get("m", [])) == (set(), {})


def test_threads_share_the_table(table):
    """The scorer adds from several threads at once."""
    work = [threading.Thread(target=table.add, args=("m", {sha: np.zeros(2)})) for sha in shas(16)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(table.known("m", shas(16))) == 16
