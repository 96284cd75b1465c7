"""What pages ask of the store: summaries that stay small, and lists page by page."""

import datetime as dt
import json
import sqlite3

import pytest

from audit_plugin.core.results import GateStatus
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.history import LifeCycle
from audit_plugin.findings.policy import default_policy
from audit_plugin.store.pages import MOST_GATES, MOST_POINTS, summarised, summary_json
from audit_plugin.store.store import Store
from tests.findings.examples import concept, gate, result
from tests.findings.trees import NUISANCE, QUALITY, class_effects, node, tree

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "audit.db", migrate=True, clock=lambda: NOW)
    yield opened
    opened.close()


def run(number, **changes):
    return conclude(result(run=f"20261122T08{number:02}00.000000Z-00000000", **changes), default_policy())


def test_a_summary_says_what_a_list_shows(store):
    done = run(1, gates=(gate(), gate("G1", GateStatus.FAIL), gate("G4", GateStatus.WARN)))
    store.save(done)
    (found,) = store.pages.last()
    assert (found.run, found.headline, found.findings, found.worst) == (done.run, done.headline, len(done.findings), "warning")
    assert found.gates == {"pass": 1, "fail": 1, "warn": 1}
    assert [one.name for one in found.not_passed] == ["G1", "G4"]
    assert [(one.name, one.must_not) for one in found.points] == [("watermark", True), ("background", True)]
    assert found.finished == dt.datetime(2026, 11, 22, 8, 5, tzinfo=dt.UTC)


def test_a_summary_of_a_large_result_is_small():
    """Those that must not matter come first, the strongest of them."""
    kinds = (NUISANCE, QUALITY)
    classes = tuple(
        class_effects(*(node(f"n{at}", kinds[at % 2], at / 10, class_name=f"c{c}") for at in range(50)), class_name=f"c{c}")
        for c in range(40)
    )
    large = run(
        1,
        concepts=tuple(concept(f"k{at}") for at in range(300)),
        diffex=tree(classes=classes),
        gates=(gate("G1", GateStatus.FAIL),) * 500,
    )
    found = summarised(large)
    assert len(found.points) == 2 * MOST_POINTS
    assert len(found.not_passed) == MOST_GATES
    assert all(one.must_not for one in found.points if one.class_name)
    assert max(one.estimate.value for one in found.points if one.class_name) == pytest.approx(4.8)
    assert len(summary_json(large)) < 60_000


def test_runs_of_an_earlier_version_get_their_summary_when_it_is_asked_for(store, tmp_path):
    """Once: afterwards the document is not read again."""
    store.save(run(1))
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("DELETE FROM summaries")
    fresh = Store.open(tmp_path / "audit.db")
    assert fresh.pages.last()[0] == summarised(run(1))
    with sqlite3.connect(tmp_path / "audit.db") as db:
        assert json.loads(db.execute("SELECT summary FROM summaries").fetchone()[0])["run"] == run(1).run
        db.execute("UPDATE runs SET document = 'gone'")
    assert Store.open(tmp_path / "audit.db").pages.last()[0] == summarised(run(1))


def test_a_summary_goes_with_its_run(store, tmp_path):
    store.save(run(1, findings=(), concepts=()))
    with sqlite3.connect(tmp_path / "audit.db") as db:
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("DELETE FROM breaches")
        db.execute("DELETE FROM runs")
        assert db.execute("SELECT count(*) FROM summaries").fetchone() == (0,)


def test_a_trend_is_one_models_newest_first_and_goes_on(store):
    for number in range(6):
        store.save(run(number, model="ham" if number % 2 else "eggs"))
    runs = store.pages.trend("ham", "lesion", limit=2)
    assert [one.run for one in runs] == [run(5).run, run(3).run]
    assert [one.run for one in store.pages.trend("ham", "lesion", limit=2, before=runs[-1].run)] == [run(1).run]
    assert store.pages.labels("ham") == ("lesion",)
    assert store.pages.summaries([run(1).run, "none", run(0).run])[1].model == "eggs"


def test_findings_are_counted_and_listed_by_where_they_stand(store):
    """The same answer as the whole list gives."""
    store.save(run(1, concepts=tuple(concept(f"k{at}") for at in range(7))))
    every = store.findings()
    store.acknowledge(every[0].finding, by="me", reason="known", until=NOW + dt.timedelta(days=1))
    store.save(run(2, concepts=tuple(concept(f"k{at}") for at in range(5)), bank="bank-2"))
    for state in LifeCycle:
        wanted = [one for one in store.findings() if one.state is state]
        assert list(store.pages.findings(state=state, limit=50)) == wanted
        assert store.pages.counts()[state] == len(wanted)
    assert [len(store.pages.findings(limit=3, offset=at)) for at in (0, 3, 6)] == [3, 3, 1]
    assert sum(store.pages.open_by_model()[("ham", "lesion")].values()) == store.pages.counts()[LifeCycle.OPEN]
    assert store.pages.findings(model="eggs", limit=5) == ()
    assert store.pages.events(every[0].finding)[0].action in {"finding_acknowledged", "finding_resolved"}
