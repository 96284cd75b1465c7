"""Runs and findings come back as they were, whatever happens in between."""

import datetime as dt
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from audit_plugin.core.diffex_results import EffectState
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.results import RunState, from_json, to_json
from audit_plugin.findings.findings import conclude, find
from audit_plugin.findings.history import LifeCycle
from audit_plugin.findings.policy import default_policy
from audit_plugin.store import database
from audit_plugin.store.records import new_run_id, seconds
from audit_plugin.store.store import Store
from audit_plugin.store.tables import Base
from tests.findings.examples import clean, concept, result
from tests.findings.trees import class_effects, node, tree

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
POLICY = default_policy()


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "audit.db", migrate=True, clock=lambda: NOW)
    yield opened
    opened.close()


def audited(day, **changes):
    """A concluded run of a given day on its own rows."""
    base = result(
        run=f"202611{day:02}T080000.000000Z-0000000{day % 10}",
        bank=f"bank-{day}",
        finished=f"2026-11-{day:02}T08:05:00Z",
        **changes,
    )
    return conclude(base, POLICY)


def test_a_run_comes_back_equal(store):
    """Every float, every field."""
    store.save(audited(1))
    store._results.clear()
    assert store.run(audited(1).run) == audited(1) == from_json(to_json(audited(1)))


def test_a_run_id_is_used_once(store):
    """Runs are evidence: nothing overwrites them."""
    store.save(audited(1))
    with pytest.raises(StoreError, match="already there"):
        store.save(replace(audited(1), headline="tampered"))
    assert store.run(audited(1).run).headline == audited(1).headline


def test_an_unknown_run_is_named(store):
    """Asking for nonsense says so."""
    with pytest.raises(StoreError, match="no run 'nope'"):
        store.run("nope")


def test_last_runs_are_one_per_model_and_task(store):
    """A broken run is the last one, but not the last that says something about bias."""
    for run in (audited(1), audited(2, state=RunState.FAILED), audited(3, model="other")):
        store.save(run)
    assert [r.run[6:8] for r in store.last_runs()] == ["02", "03"]
    assert [r.run[6:8] for r in store.last_runs(only_assessed=True)] == ["01", "03"]


def test_queries_add_up_over_runs(store):
    """The load on the server is on record per model version."""
    for run in (audited(1), audited(2), audited(3, version="2")):
        store.save(run)
    assert store.queries() == {("ham", "1"): 1200, ("ham", "2"): 600}


def test_the_past_confirms(store):
    """What the store remembers is what `find` needs."""
    store.save(audited(1))
    (again,) = find(audited(2), POLICY, store.past("ham", "lesion"))
    assert again.breach_runs == 2
    assert [one.version for one in store.past("ham", "lesion")] == ["1"]


def test_a_finding_lives_until_a_working_audit_no_longer_sees_it(store):
    """Open, not resolved by a broken run, resolved by a clean one, open again."""
    states = []
    for run in (audited(1), audited(2, state=RunState.FAILED), audited(3, concepts=(clean(),)), audited(4)):
        store.save(run)
        states.append({record.kind: record.state.value for record in store.findings()}["reliance"])
    assert states == ["open", "open", "resolved", "open"]
    (reliance,) = (record for record in store.findings() if record.kind == "reliance")
    assert (reliance.first_seen.day, reliance.last_seen.day) == (1, 4)
    assert [e.action for e in store.events()][::-1] == [
        "finding_opened", "finding_opened", "finding_resolved", "finding_resolved", "finding_reopened"
    ]  # fmt: skip


def test_a_tree_that_says_nothing_resolves_no_finding_about_its_nodes(store):
    """Without a tree, or with one that cannot be relied on, they stay open; a good tree without the effect ends them."""
    few = class_effects(node(), images_estimate=8)
    states = []
    for day, told in enumerate([tree(node()), None, tree(classes=(few,)), tree(node(state=EffectState.NO_EFFECT))], 1):
        store.save(audited(day, concepts=(clean(),), diffex=told))
        states.append({record.kind: record.state.value for record in store.findings()}["semantic"])
    assert states == ["open", "open", "open", "resolved"]


def test_an_acknowledgement_is_on_record_and_ends(store):
    """Who, why, until when; a reopened finding has to be looked at again."""
    store.save(audited(1))
    finding = audited(1).findings[0].id
    store.acknowledge(finding, by="ana", reason="retraining on Friday", until=NOW + dt.timedelta(days=3))
    assert store.findings()[0].state is LifeCycle.ACKNOWLEDGED
    assert store.events()[0].actor == "ana"
    store.save(audited(2, concepts=(clean(),)))
    store.save(audited(3))
    assert store.findings()[0].state is LifeCycle.OPEN


@pytest.mark.parametrize(("by", "days"), [("", 1), ("ana", -1)])
def test_nobody_silences_anonymously_or_into_the_past(store, by, days):
    """An acknowledgement needs a name and an end."""
    with pytest.raises(StoreError, match="needs who, why, and an end"):
        store.acknowledge("x", by=by, reason="because", until=NOW + dt.timedelta(days=days))


def test_acknowledging_nothing_is_an_error(store):
    """A mistyped id does not vanish silently."""
    with pytest.raises(StoreError, match="no finding 'x'"):
        store.acknowledge("x", by="ana", reason="r", until=NOW + dt.timedelta(days=1))


def test_a_changed_policy_is_logged(store):
    """Whoever moves a bound leaves a trace."""
    store.save(audited(1))
    moved = audited(2)
    store.save(replace(moved, provenance=replace(moved.provenance, policy_digest="other")), actor="ana")
    assert ("ana", "policy_changed") in {(event.actor, event.action) for event in store.events()}


def test_history_is_a_trend_of_working_runs(store):
    """Oldest first; the broken day leaves a hole, not a zero."""
    for run in (audited(1, concepts=(concept(low=0.1),)), audited(2, state=RunState.FAILED), audited(3)):
        store.save(run)
    assert [(p.finished.day, p.importance.low) for p in store.history("ham", "watermark")] == [(1, 0.1), (3, 0.06)]


def test_run_ids_sort_by_time():
    """Text order is time order, also within a second."""
    step = dt.timedelta(microseconds=1)
    assert new_run_id(NOW) < new_run_id(NOW + step) < new_run_id(NOW + 10**7 * step)


@pytest.mark.parametrize("when", ["yesterday", "2026-11-22T08:00:00"])
def test_times_carry_a_zone(when):
    """A local time of unknown zone is refused."""
    with pytest.raises(StoreError):
        seconds(when)


def test_events_cannot_be_rewritten(store):
    """The log is append-only in the database itself."""
    store.save(audited(1))
    for statement in ("UPDATE events SET actor='x'", "DELETE FROM events"):
        with pytest.raises(sa.exc.IntegrityError, match="append-only"), store._engine.begin() as connection:
            connection.execute(sa.text(statement))


def test_a_full_disk_is_told_and_leaves_the_store_whole(store):
    """SQLite's page limit stands in for the disk: same error, nothing half written."""
    with store._engine.connect() as connection:
        pages = connection.execute(sa.text("PRAGMA page_count")).scalar()
    sa.event.listen(store._engine, "checkout", lambda c, *_: c.execute(f"PRAGMA max_page_count={pages + 2}"))
    with pytest.raises(StoreError, match="no space is left; free space and run the same command again"):
        store.scores.add("t", {f"{i:064}": np.zeros(500) for i in range(100)})
    assert store.scores.known("t", ["0" * 64]) == set()


def test_a_corrupt_file_is_told(tmp_path):
    """Garbage where a database should be names the cure."""
    (tmp_path / "audit.db").write_bytes(b"this is not a database" * 500)
    with pytest.raises(StoreError, match=r"corrupt; move it away .* \.recover"):
        Store.open(tmp_path / "audit.db")


def test_an_unmigrated_database_is_refused(tmp_path):
    """Only `migrate=True` creates or changes tables."""
    with pytest.raises(StoreError, match=r"schema none, this version needs 0002; .*migrate=True"):
        Store.open(tmp_path / "audit.db")


@pytest.mark.parametrize("url", ["nosuchdb://x/y", "postgresql+nosuchdriver://u:secret@h/d", "postgresql+pg8000://u:secret@h/d"])
def test_an_unusable_url_is_a_config_error(url):
    """And it never shows the password."""
    with pytest.raises(ConfigError) as caught:
        Store.open(url)
    assert "secret" not in str(caught.value)


def test_opening_is_idempotent_and_wal(tmp_path):
    """Migrating twice changes nothing; readers never block the writer."""
    for _ in range(2):
        Store.open(tmp_path / "audit.db", migrate=True).close()
    assert sqlite3.connect(tmp_path / "audit.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_migrations_lead_to_the_tables_of_the_code(tmp_path):
    """No drift: autogeneration finds nothing to do; down and up again works."""
    engine = database.connect(database.parse_url(tmp_path / "audit.db"))
    for step in (database.upgrade, lambda e: database.downgrade(e, "base"), database.upgrade):
        step(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_the_tables_compile_for_postgresql():
    """The same metadata is valid DDL there: 8-byte floats, serial log ids, bytea scores."""
    ddl = "\n".join(str(CreateTable(t).compile(dialect=postgresql.dialect())) for t in Base.metadata.sorted_tables)
    assert all(word in ddl for word in ("id SERIAL NOT NULL", "vector BYTEA NOT NULL", "finished DOUBLE PRECISION NOT NULL"))


def test_a_killed_writer_leaves_no_half_run(tmp_path):
    """SIGKILL between the run row and its findings: neither is there afterwards."""
    Store.open(tmp_path / "audit.db", migrate=True).close()
    script = (
        "import os, sys; from pathlib import Path; import audit_plugin.store.store as s\n"
        "from tests.store.test_store import audited\n"
        "s._resolve_unseen = lambda *_: os.kill(os.getpid(), 9)\n"
        "s.Store.open(Path(sys.argv[1])).save(audited(1))\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "audit.db"],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL
    assert Store.open(tmp_path / "audit.db").runs() == ()


def test_two_writers_take_turns(tmp_path):
    """Threads with stores of their own save at once; nothing is lost and nothing locks up."""
    path = tmp_path / "audit.db"
    Store.open(path, migrate=True).close()
    stores = [Store.open(path) for _ in range(4)]
    threads = [threading.Thread(target=s.save, args=(audited(i + 1, model=f"m{i}"),)) for i, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].runs()) == 4
    for one in stores:
        one.close()
