"""Many audits of one model: what repeats confirms, what is spent adds up, and the same rows are the same audit."""

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from audit_plugin.core.estimate import Estimate
from audit_plugin.core.results import RunState, Verdict
from audit_plugin.core.seeds import digest
from audit_plugin.findings.findings import find
from audit_plugin.findings.history import PastRun
from audit_plugin.findings.policy import Policy, Threshold, default_policy, policy_from
from audit_plugin.findings.spending import affordable, audit_number
from audit_plugin.statistics.multiplicity import alpha_spent
from tests.bench.audit_years import POLICIES, RULES, SHIPPED, alerts_of, drawn, fired_in_short, first_alarm, onsets
from tests.findings.examples import concept, gap, result

SE, MARGIN = 0.01, 0.02
EACH, SPENDING = POLICIES["each"], POLICIES["spending"]


def audited(value):
    """An audit that estimates this importance with a standard error of ``SE``."""
    half = 1.96 * SE
    estimate = Estimate(value=value, low=value - half, high=value + half)
    verdict = Verdict.RELIES if estimate.low > MARGIN else Verdict.INCONCLUSIVE
    return result(concepts=(concept(importance=estimate, se=SE, verdict=verdict),))


def at_the_margin(n):
    """Audits of a model whose importance is the margin itself, as often above it as below."""
    steps = (np.arange(n) + 0.5) / n
    return [audited(float(value)) for value in MARGIN + SE * ndtri(steps)]


@pytest.fixture(scope="module")
def population():
    return drawn(at_the_margin(400))


def test_two_runs_are_many_times_rarer_than_one(population):
    """2.5 % of audits find something by chance: nine a daily year, of which the shipped rule alarms for one in five years at most."""
    years = np.random.default_rng(0).integers(len(population), size=(20, 365))
    one, two = (np.mean(onsets(years, population, rule)) for rule in RULES[:2])
    assert 7 < one < 11
    assert two < 0.5


def test_spending_errs_once_in_twenty_models_for_ever(population):
    """Without a second run; judged each by itself nearly every model would have been accused within half a year."""
    years = np.random.default_rng(1).integers(len(population), size=(60, 150))
    accused = {rule.name: np.mean([first_alarm(one, population, rule) is not None for one in years.tolist()]) for rule in RULES}
    assert accused["each, 1 run"] > 0.9
    assert accused["spending, 1 run"] < 0.13
    assert accused["spending, 2 runs"] <= accused["spending, 1 run"]


def test_a_strong_reliance_is_alarmed_at_once_however_long_a_version_was_clean():
    population = drawn([audited(0.2)])
    assert [first_alarm([0] * 9, population, rule, before=before) for rule in RULES for before in (0, 364)] == [1] * 8


def test_the_short_way_through_years_is_that_of_alerts():
    """Finding by finding, audit by audit: conclude, the exporter's samples and the shipped conditions."""
    audits = [audited(value) for value in (0.045, 0.045, 0.0, 0.045, 0.3, 0.045)]
    audits[2] = replace(audits[2], state=RunState.FAILED)
    fired = fired_in_short(audits, SHIPPED)
    assert [bool(one) for one in fired] == [False, True, False, True, True, True]
    for rule in (one for one in RULES if one.runs == 2):
        assert fired_in_short(audits, rule) == alerts_of(audits, POLICIES[rule.policy])


def past(*rows, version="1", state=RunState.SUCCEEDED):
    return [PastRun(run=one, state=state, evidence=one, breaches=frozenset(), version=version) for one in rows]


def test_the_same_rows_neither_spend_nor_confirm():
    """An audit that is repeated has the number that it had; other versions and broken audits have none."""
    history = [*past("bank-1", "bank-1"), *past("x", state=RunState.FAILED), *past("y", version="0")]
    assert audit_number("1", "bank-1", history) == 1
    assert audit_number("1", "bank-2", history) == 2
    audit = audited(0.045)
    (found,) = find(audit, SPENDING, history)
    assert (found.breach_runs, found.confirmed) == (1, False)
    assert find(audit, SPENDING, past("a", "b", "c", "d")) == ()
    assert find(audit, EACH, past("a", "b", "c", "d"))


@pytest.mark.parametrize(("low", "side"), [(0.07, 1), (-0.11, -1)])
def test_gaps_keep_their_distance_on_either_side(low, side):
    """The first audit may spend more than half of the error, one of many thousands next to nothing."""
    (found,) = find(result(concepts=(), fairness=(gap(low),)), default_policy())
    assert affordable(found, 1) == found
    assert affordable(found, 10_000) is None
    assert side * found.value > 0


def test_a_ratio_keeps_its_distance_from_below():
    words = {"owner": "o", "reason": "r", "date": dt.date(2026, 1, 1)}
    rule = Threshold(name="di", metric="fairness", side="below", threshold=0.8, families=("observational",), **words)
    figure = gap(0.74, figure="disparate_impact", family="observational", concern="below 0.8")
    (found,) = find(result(concepts=(), fairness=(figure,)), Policy(name="p", thresholds=(rule,)))
    assert affordable(found, 2) == found
    assert affordable(found, 10_000) is None
    assert not affordable(replace(found, value=0.3, low=0.2, high=0.39, strong=True), 10_000).strong


def test_strength_is_spent_too():
    """What is beyond twice the bound by its own interval alone is a finding that waits for a second audit."""
    (found,) = find(audited(0.061), SPENDING, past("a", "b", "c"))
    assert find(audited(0.061), EACH)[0].strong
    assert not found.strong


def test_policies_of_before_keep_their_digest():
    """There was no choice; what is chosen now is on record."""
    assert EACH.digest != SPENDING.digest
    assert policy_from({"name": "p", "over_time": "spending"}).over_time == "spending"
    assert Policy(name="p").digest == digest('{"name":"p","thresholds":[]}')
    assert sum(alpha_spent(number) for number in range(1, 1000)) < 0.05
