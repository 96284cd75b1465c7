"""Local evaluation agrees with the catalogue, on samples of real results."""

import pytest

from audit_plugin.alerts.catalogue import ALERTS
from audit_plugin.alerts.evaluate import firing
from audit_plugin.core.results import RunState, Verdict
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.sample import Sample
from audit_plugin.metrics.samples import audit_samples, process_samples
from audit_plugin.store.records import seconds
from tests.findings.examples import clean, concept, gap, result

ENDED = seconds("2026-11-22T08:05:00Z")
RUN_TIME = 300


def alerts(result, *, now=ENDED, interval=None):
    done = conclude(result, default_policy())
    working = [] if done.state.broken else [done]
    return firing(audit_samples([done], working, interval_seconds=interval), now=now)


def test_a_strong_shortcut_fires_at_once_and_says_where_it_was_evaluated():
    """Over twice the margin in one audit; labels and words name model and concept."""
    (alert,) = alerts(result())
    assert (alert.name, alert.labels["concept"], alert.evaluated_by) == ("AuditPluginReliesOnSpuriousConcept", "watermark", "local")
    assert alert.summary == "Model ham relies on watermark, which must not matter"


@pytest.mark.parametrize("concepts", [(clean(),), (concept(low=0.03),), (concept(verdict=Verdict.INCONCLUSIVE),)])
def test_clean_weak_and_unsure_models_stay_silent(concepts):
    """Once and under twice the margin is not enough."""
    assert alerts(result(concepts=concepts)) == ()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"concepts": (), "fairness": (gap(0.2),)}, "AuditPluginFairnessGap"),
        ({"state": RunState.INVALID_GENERATOR}, "AuditPluginAuditBroken"),
        ({"concepts": (concept(verdict=Verdict.NEGLIGIBLE),), "truth": {"watermark": 0.3}}, "AuditPluginControlFailed"),
    ],
)
def test_each_cause_has_its_own_alert(changes, name):
    """A broken audit never looks like bias."""
    assert [alert.name for alert in alerts(result(**changes))] == [name]


@pytest.mark.parametrize(("late", "stale"), [(2 * 3600 + RUN_TIME - 1, 0), (2 * 3600 + RUN_TIME + 1, 1)])
def test_stale_is_two_periods_and_a_run(late, stale):
    """Prometheus' own arithmetic for batch jobs."""
    assert len(alerts(result(concepts=()), now=ENDED + late, interval=3600)) == stale


@pytest.mark.parametrize(
    ("health", "name"),
    [
        ({"target_up": False}, "AuditPluginTargetDown"),
        ({"config_reload_successful": False}, "AuditPluginConfigReloadFailed"),
        ({"last_round_failed": True}, "AuditPluginRunFailed"),
        ({"next_run_timestamp_seconds": 0.0, "interval_seconds": 10.0}, "AuditPluginAuditStale"),
    ],
)
def test_the_service_speaks_for_itself(health, name):
    """Process samples fire process alerts."""
    samples = process_samples(ProcessHealth(**health), version="1", queries={})
    assert [alert.name for alert in firing(samples, now=100.0)] == [name]


def test_two_conditions_are_one_alert():
    """Breached twice and strong: still one alert per concept."""
    labels = ("ham", "1", "lesion", "ruler", "auroc")
    both = [Sample("concept_breach_runs", labels, 3), Sample("concept_breach_strong", labels, 1)]
    assert len(firing(both, now=0)) == 1


def test_nothing_fires_on_nothing():
    """And no condition trips over an empty store."""
    assert firing([], now=0) == ()
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
