"""Samples of a store that has not changed are not made again, whoever asks and however large its results are."""

import gc
import threading
import time

import pytest
from prometheus_client import generate_latest

from audit_plugin.core import results
from audit_plugin.core.errors import StoreError
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.collector import AuditCollector, registry
from audit_plugin.metrics.kept import Kept
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.sample import Sample
from audit_plugin.store.store import Store
from tests.findings.examples import result
from tests.findings.trees import class_effects, node, tree


class Counting:
    """A store that counts the results it hands out."""

    def __init__(self, store):
        self.store, self.read = store, 0

    def newest(self, *, only_assessed=False):
        return self.store.newest(only_assessed=only_assessed)

    def changes(self):
        return self.store.changes()

    def queries(self):
        return self.store.queries()

    def run(self, run):
        self.read += 1
        return self.store.run(run)


def broad(classes, nodes):
    told = [
        class_effects(
            *(node(f"scene/{at}", class_name=f"c{number}", spuriousness=0.01) for at in range(nodes)), class_name=f"c{number}"
        )
        for number in range(classes)
    ]
    return conclude(result(model="broad", concepts=(), diffex=tree(classes=tuple(told), drift=None)), default_policy())


@pytest.fixture
def counting(tmp_path):
    store = Store.open(tmp_path / "audit.db", migrate=True)
    store.save(conclude(result(run="a"), default_policy()))
    yield Counting(store)
    store.close()


def test_results_are_read_once_and_again_when_one_is_new(counting):
    collector = AuditCollector(store=counting)
    first = collector.samples()
    assert collector.samples() == first
    assert counting.read == 1
    counting.store.save(conclude(result(run="b", n_rows=301), default_policy()))
    assert [one.value for one in collector.samples() if one.metric == "rows"] == [301]


def test_the_interval_and_the_configured_audits_are_part_of_what_is_kept(counting):
    wanted, seconds = [None], [60.0]
    collector = AuditCollector(store=counting, audits=lambda: wanted[0], health=lambda: ProcessHealth(interval_seconds=seconds[0]))
    assert _values(collector, "audit_interval_seconds") == [60]
    seconds[0] = 120.0
    assert _values(collector, "audit_interval_seconds") == [120]
    wanted[0] = {("other", "task")}
    assert _values(collector, "audit_interval_seconds") == []


def _values(collector, metric):
    return [one.value for one in collector.samples() if one.metric == metric]


def test_many_classes_stay_under_the_cap_and_cost_a_scrape_little(tmp_path):
    """A matrix a hundredth of what is promised: making samples takes most of the first scrape, and none of the later ones."""
    store = Store.open(tmp_path / "audit.db", migrate=True)
    store.save(broad(classes=60, nodes=30))
    store.close()
    again = Store.open(tmp_path / "audit.db")
    exported = registry(AuditCollector(store=again, total=400))
    times, text = [], ""
    for _ in range(6):
        clock = time.perf_counter()
        text = generate_latest(exported).decode()
        times.append(time.perf_counter() - clock)
    again.close()
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(series) <= 400
    assert next(float(line.split()[-1]) for line in series if line.startswith("audit_plugin_series_dropped")) > 1_000
    assert min(times[1:]) < times[0] / 2


def test_a_large_result_is_read_in_parts_and_is_the_same(monkeypatch):
    """With a tree, without one, and what is no result at all."""
    monkeypatch.setattr(results, "_LARGE", 1)
    for one in (broad(classes=3, nodes=2), result()):
        assert results.from_json(results.to_json(one)) == one
    for wrong in (
        "[]",
        "no json",
        '{"diffex": {"classes": [1]}}',
        results.to_json(broad(2, 2)).replace('"images_select": 64', '"images_select": "x"'),
    ):
        with pytest.raises(StoreError, match="not an audit result"):
            results.from_json(wrong)


def test_garbage_is_collected_again_after_a_document_was_read():
    results.from_json(results.to_json(result()))
    assert gc.isenabled()


def test_scrapes_at_the_same_time_make_samples_once():
    made, sample = [], Sample("store_up", (), 1)

    def make():
        made.append(1)
        time.sleep(0.1)
        return (sample,)

    kept = Kept(())
    threads = [threading.Thread(target=lambda: kept.get("k", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), kept.get("k", make)) == (1, (sample,))


def test_a_scrape_does_not_wait_for_ever():
    """It answers with what was there before."""
    kept, go, before = Kept((), wait_seconds=0.05), threading.Event(), Sample("store_up", (), 1)
    kept.get("old", lambda: (before,))
    thread = threading.Thread(target=lambda: kept.get("new", lambda: (before,) if go.wait(10) else ()))
    thread.start()
    time.sleep(0.02)
    assert kept.get("new", tuple) == (before,)
    go.set()
    thread.join()


def test_what_could_not_be_made_is_tried_again():
    kept = Kept(())

    def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        kept.get("k", fails)
    assert kept.get("k", tuple) == ()
