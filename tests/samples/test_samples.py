"""All pictures of an audit are found again, with what was said of them; where they are gone, that is said."""

import csv
import gzip
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.comparing.pairing import NotPairedError
from audit_plugin.core.diffex_results import Exemplar
from audit_plugin.methods.diffex.row_file import COLUMNS
from audit_plugin.samples import Kind, all_samples, stored_samples
from audit_plugin.samples.concepts import concept_flips
from audit_plugin.samples.nodes import NotItsTableError, node_edits
from tests.bank.world import FakeScores
from tests.comparing.world import answers, audited, labelled, version, world
from tests.findings.examples import result
from tests.findings.trees import class_effects, node, tree

A, B = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def bank():
    """A bank with one refused picture, its answers, and the audit of them."""
    made, scores = labelled(world(60)), FakeScores()
    table = made.table
    refused = str(table.flips["mark"][:, 3][1 - table.rows[3].values[0]])
    made = replace(made, table=replace(table, rejected={refused: "blank"}))
    told = answers(made, version(3.0, seed=1))
    return made.table, scores, audited(made.table, scores, told, number="1"), told


def test_every_flip_of_the_bank_is_a_sample(bank):
    """Scores and decisions are those of the stored answers, the order is that of the rows."""
    table, scores, run, told = bank
    samples = concept_flips(run, table, scores)
    assert len(samples) == 2 * len(table.rows)
    assert list(dict.fromkeys(one.image for one in samples)) == [row.id for row in table.rows]
    for one in samples:
        assert one.before == pytest.approx(told[one.before_sha256][1])
        if one.after is not None:
            assert one.after == pytest.approx(told[one.after_sha256][1])
            assert one.flipped == ((one.before >= 0.5) != (one.after >= 0.5))
    assert {one.of for one in samples} == {"pos"}


def test_a_refused_picture_is_shown_with_its_reason(bank):
    table, scores, run, _ = bank
    (refused,) = [one for one in concept_flips(run, table, scores) if not one.counts]
    assert (refused.image, refused.subject) == (table.rows[3].id, "mark")
    assert refused.why_not == ("the picture after was refused: blank",)
    assert refused.flipped is None


def test_another_bank_is_not_shown_as_the_runs(bank):
    table, scores, run, _ = bank
    with pytest.raises(NotPairedError, match="rebuilt or removed"):
        concept_flips(run, replace(table, digest="bank-2"), scores)


def rows_file(folder, rows):
    """A table of atomic rows."""
    base = dict.fromkeys(COLUMNS, "") | {
        "class": "malignant", "image": "i1", "nodes": "scene/ruler", "strength": "1.0", "placebo_edit": "0", "signs": "1",
        "split": "estimate", "counted": "1", "valid": "1", "before_sha256": A, "after_sha256": B, "probability_before": "0.2",
        "probability_after": "0.9", "top_before": "benign", "top_after": "malignant", "flip": "1",
    }  # fmt: skip
    with gzip.open(folder / "rows.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows([base | row for row in rows])


def explained():
    """A result whose tree names one edit of the table."""
    named = Exemplar(image="i1", seed=0, percentile=50, effect=1.0, before_sha256=A, after_sha256=B)
    effects = class_effects(node("scene/ruler", exemplars=(named,)))
    return result(diffex=tree(classes=(effects,), rows_file="rows.csv.gz"), concepts=())


def test_every_edit_of_the_tree_is_a_sample_and_says_whether_it_counts(tmp_path):
    rows_file(
        tmp_path,
        [
            {},
            {"image": "i0", "valid": "0", "counted": "1", "reasons": "V1|V2"},
            {"image": "i2", "split": "select", "counted": "0"},
            {"image": "i3", "counted": "0"},
            {"image": "i4", "strength": "0.5"},
            {"image": "i5", "placebo_edit": "1", "nodes": "photo", "signs": ""},
            {"image": "i6", "nodes": "a|b", "signs": "1|-1", "probability_before": "", "probability_after": "", "flip": ""},
        ],
    )
    found, complete = node_edits(explained(), tmp_path)
    assert complete
    assert [one.image for one in found] == [f"i{at}" for at in range(7)]
    assert found[0].why_not == ("the attribute did not change as asked", "too much else changed")
    assert (found[1].before, found[1].after, found[1].flipped, found[1].counts, found[1].change) == (0.2, 0.9, True, True, "added")
    assert [bool(one.why_not) for one in found[2:]] == [True, True, True, False, False]
    assert (found[5].subject, found[5].change) == ("placebo", "photo")
    assert (found[6].change, found[6].moved, found[6].flipped) == ("added a, removed b", None, None)


def test_the_table_of_a_later_run_is_not_shown_as_this_ones(tmp_path):
    rows_file(tmp_path, [{"after_sha256": "c" * 64}])
    with pytest.raises(NotItsTableError, match="replaced by that of a later run"):
        node_edits(explained(), tmp_path)


@pytest.mark.parametrize(
    "content", [None, b"no table", gzip.compress(b"a,b\n1,2\n", mtime=0)], ids=["none", "no table", "of others"]
)
def test_what_is_gone_or_damaged_is_told_and_the_named_edits_are_shown(tmp_path, content):
    if content is not None:
        (tmp_path / "rows.csv.gz").write_bytes(content)
    found = all_samples(tmp_path / "bank", tmp_path, FakeScores())(explained())
    assert [(one.kind, one.after_sha256) for one in found.items] == [(Kind.NODE, B)]
    assert any("cannot be shown" in said for said in found.partial)
    assert stored_samples(explained()).items == found.items


def test_nothing_is_shown_of_a_result_without_pictures():
    assert stored_samples(result(pairs=())).kinds == ()


def test_scores_of_samples_are_plain_numbers(bank):
    table, scores, run, _ = bank
    assert not any(isinstance(one.before, np.generic) for one in concept_flips(run, table, scores))
