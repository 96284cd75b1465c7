"""The real exposition, as Prometheus reads it."""

import shutil
import subprocess

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from audit_plugin.core.capture import CaptureCounts
from audit_plugin.core.errors import StoreError
from audit_plugin.core.load import LoadCounts, LoadTotals
from audit_plugin.core.results import RunState
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.collector import AuditCollector, registry
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.store.store import Store
from tests.findings.examples import gap, result
from tests.findings.found import discovery, subject, word
from tests.findings.tested import selftest
from tests.findings.trees import node, tree
from tests.methods.counterfactuals.flips import told
from tests.methods.shortcut.told import judged

HEALTH = ProcessHealth(
    attempts=3, interval_seconds=3600, next_run_timestamp_seconds=2e9, target_up=True,
    config_reload_successful=True, config_reload_timestamp_seconds=1.8e9, engine_cache_bytes=4e7, engine_share=0.3,
    load=LoadTotals(counts=LoadCounts(requests=40, images=640, pauses=2, paused_seconds=11.5, throttled_seconds=3.0, blind=1), paused=True),
    leader=True, waiting=2, refused={"busy": 1},
    capture=CaptureCounts(received=9, sampled=4, kept=2, images={"leaves": 2}),
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    store = Store.open(tmp_path / "audit.db", migrate=True)
    whole = result(
        fairness=(gap(),),
        truth={"watermark": 0.08},
        diffex=tree(node()),
        shortcuts=(judged(0.3),),
        counterfactuals=told(40),
        discovery=discovery(subject(word())),
        selftest=selftest(),
    )
    store.save(conclude(whole, default_policy()))
    store.save(conclude(result(run="b", model="broken", state=RunState.FAILED), default_policy()))
    store.close()
    return tmp_path / "audit.db"


@pytest.fixture
def collector(path):
    store = Store.open(path)
    yield AuditCollector(store=store, health=lambda: HEALTH)
    store.close()


def test_promtool_has_nothing_to_say(collector):
    """`promtool check metrics --extended` is clean on the real exposition."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [promtool, "check", "metrics", "--extended"], input=generate_latest(registry(collector)), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_both_formats_say_the_same(collector):
    """Text 0.0.4 and OpenMetrics 1.0 parse to the same samples."""
    own = registry(collector)
    old = read_text(generate_latest(own).decode())
    new = read_openmetrics(openmetrics.generate_latest(own).decode())
    read = [{(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples} for families in (old, new)]
    assert read[0] == read[1]


def test_every_sample_is_in_the_table_with_its_help(collector):
    """And every metric of the table is exported by a run that has everything."""
    families = list(read_text(generate_latest(registry(collector)).decode()))
    samples = {sample.name: family.documentation for family in families for sample in family.samples}
    assert samples == {spec.name: spec.help for spec in METRICS.values()}


def test_values_survive_a_restart(path):
    """Another process on the same store exports the same numbers."""
    stores = [Store.open(path) for _ in range(2)]
    first, second = (generate_latest(registry(AuditCollector(store=store, health=lambda: HEALTH))) for store in stores)
    assert first == second
    for store in stores:
        store.close()


def test_a_vanished_model_leaves_no_series(path):
    """Only the audits that are configured now are exported."""
    store = Store.open(path)
    text = generate_latest(registry(AuditCollector(store=store, audits=lambda: {("broken", "lesion")}))).decode()
    store.close()
    assert 'audit_plugin_rows{model="broken"' in text
    assert 'audit_plugin_rows{model="ham"' not in text


class _Unreadable:
    def changes(self):
        raise StoreError("gone")

    def newest(self, *, only_assessed=False):
        raise StoreError("gone")

    def run(self, run):
        raise StoreError("gone")

    def queries(self):
        raise StoreError("gone")


def test_an_unreadable_store_is_a_metric_and_not_a_failed_scrape():
    """The process still says how it is."""
    text = generate_latest(registry(AuditCollector(store=_Unreadable()))).decode()
    assert "audit_plugin_store_up 0.0" in text
    assert "audit_plugin_failures_total 0.0" in text


def test_the_real_store_reports_its_loss(tmp_path):
    """A database that vanished under a running service is told as store_up 0."""
    store = Store.open(tmp_path / "audit.db", migrate=True)
    store.close()
    for file in tmp_path.iterdir():
        file.unlink()
    assert "audit_plugin_store_up 0.0" in generate_latest(registry(AuditCollector(store=store))).decode()
    store.close()
