"""A self-test from the command line, against a served model: what it asks, leaves behind, goes on from, and where it is shown."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest

from audit_plugin.metrics.samples import audit_samples
from audit_plugin.store.store import Store
from tests.end_to_end.site import NOWHERE, Site

pytestmark = pytest.mark.triton
MODEL = "shape_clean"
ASKED = ("selftest", "--model", MODEL, "--concept", "ruler", "--runs", "1", "--sizes", "0,6", "--workers", "1", "--output", "json")


@pytest.fixture
def copy(audited, tmp_path):
    """The audited installation elsewhere, free to be changed."""
    return Site(shutil.copytree(audited[0].folder, tmp_path / "copy"))


def test_a_self_test_is_made_kept_shown_and_gone_on_with(copy):
    copy.change(analysis={"resamples": 100, "adjusted_resamples": 5}, controls=False)  # its time is not what is tested
    first = copy.run(*ASKED)
    assert first.code == 0, first.err
    (told,) = json.loads(first.out)
    assert (told["model"], told["rows"], told["false_runs"], told["runs"], told["class_name"]) == (MODEL, 40, 1, 2, "positive")
    assert [one["concept"] for one in told["concepts"]] == ["ruler"]
    assert [point["size"] for point in told["concepts"][0]["curves"][0]["points"]] == [0.0, 6.0]
    assert told["false_findings"] == 0
    assert "no picture to ask the server about, 2 audits to make (0 are there)" in first.err
    again = copy.run(*ASKED)
    assert "0 audits to make (2 are there)" in again.err
    assert json.loads(again.out)[0]["concepts"] == told["concepts"]
    assert copy.run("report").code == 0
    assert "of 1 self-tests" in (copy.folder / "report" / "report.html").read_text()
    copy.run("run", "--model", MODEL)
    store = Store.open(copy.folder / "audit.sqlite")
    result = store.run(store.newest()[MODEL, "label"])
    store.close()
    assert result.selftest is not None
    assert "selftest_detection_ratio" in {one.metric for one in audit_samples([result], [result])}


def test_only_answers_that_are_missing_are_asked_for(copy):
    with closing(sqlite3.connect(copy.folder / "audit.sqlite")) as database, database:
        database.execute("DELETE FROM scores WHERE sha256 IN (SELECT sha256 FROM scores ORDER BY sha256 LIMIT 10)")
    price = json.loads(copy.run("selftest", "--model", MODEL, "--dry-run", "--output", "json").out)
    assert price[0]["pictures"] == 5
    done = copy.run(*ASKED)
    assert done.code == 0, done.err
    assert "5 pictures to ask the server about" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("--concept", "hat"), 2, "there is no such concept; there are shape, background, ruler"),
        (("--sizes", "a"), 2, "give numbers apart by commas"),
        (("--sizes", "-1"), 2, "give log-odds from 0"),
        (("--model", "nobody"), 2, "nobody"),
    ],
)
def test_what_cannot_be_asked_is_one_line(copy, arguments, code, why):
    answer = copy.run("selftest", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert why in answer.err.splitlines()[-1]


def test_another_way_to_judge_than_the_last_audits_is_no_test_of_it(copy):
    copy.change(analysis={"margin": 0.1})
    answer = copy.run(*ASKED)
    assert (answer.code, "`positive`, metric, margin or gates than now; `audit-plugin run` it first" in answer.err) == (2, True)


def test_without_an_audit_of_it_or_a_server_there_is_none(copy):
    (copy.folder / "audit.sqlite").unlink()
    answer = copy.run(*ASKED)
    assert (answer.code, "was not audited yet; `audit-plugin run` it first" in answer.err) == (2, True)
    copy.change(server={"url": NOWHERE})
    assert copy.run(*ASKED).code == 3
