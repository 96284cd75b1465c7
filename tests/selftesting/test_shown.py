"""Self-tests as reports and metrics show them."""

import pytest

from audit_plugin.core.results import Verdict, from_json, to_json
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from audit_plugin.report.card import model_card
from audit_plugin.report.html import render
from audit_plugin.report.selftest import curve_chart, curve_rows, found_words
from tests.findings.examples import clean, concept, result
from tests.findings.tested import curve, selftest, tried

LABELS = ("ham", "1", "lesion")


def test_beside_what_was_not_found_stands_what_would_have_been():
    audited = result(selftest=selftest())
    said = found_words(audited, clean())
    assert said == (
        "an effect of 1.0 log-odds would have been found in 96 % [86, 100] of 50 self-tests, of 0.3 in 20 %; false findings 0 of 50"
    )
    assert found_words(audited, concept(name="background")) == ""
    assert found_words(audited, concept(name="background", verdict=Verdict.INCONCLUSIVE)) == said
    assert found_words(audited, clean("other")) == ""
    assert found_words(result(), clean()) == ""


def test_the_report_has_a_curve_for_every_concept_and_says_what_was_not_measured():
    page = render([result(selftest=selftest())], lambda _: None)
    assert page.count("of 50 self-tests, of 0.3 in 20 %; false findings 0 of 50.") == 1
    assert "accused in 0 of 50 runs. 1 of 200 audits did not work by their own gates" in page.replace("\n", " ")
    assert "No threshold bounds flips." in page
    assert 'aria-label="background: an effect of 1.0 log-odds' in page
    without = render([result()], lambda _: None)
    assert "<code>audit-plugin selftest</code>" in without
    assert "of 50 self-tests" not in without


def test_the_model_card_says_what_would_have_been_found():
    card = model_card(result(selftest=selftest()))
    assert "* background: an effect of 1.0 log-odds would have been found in 96 %" in card
    assert "log-odds would" not in model_card(result())


def test_a_curve_rises_from_none_to_all():
    drawing = curve_chart(tried())
    assert [mark.label for mark in drawing.marks] == ["none", "0.3", "1.0", "3.0"]
    heights = [mark.y for mark in drawing.marks]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[-1]) == (drawing.levels[1][0], drawing.levels[0][0])
    assert all(mark.high <= mark.y <= mark.low for mark in drawing.marks)
    assert curve_chart(tried("a", curve({0.0: 0}))) is None
    assert curve_rows(tried())[0][1][-2:] == ["0.85", "0.99"]
    assert curve_rows(tried("a", curve({0.0: 0, 1.0: 2})))[0][1][-1] == "–"


def test_every_series_is_in_the_table_with_its_number():
    done = result(selftest=selftest(tried(), tried("ruler", curve({0.0: 0, 0.3: 0, 1.0: 5}))))
    out = {(one.metric, one.labels): one.value for one in audit_samples([done], [done]) if one.metric.startswith("selftest")}
    assert {name for name, _ in out} == {name for name in METRICS if name.startswith("selftest")}
    assert out["selftest_detection_ratio", (*LABELS, "background", "0.3")] == 0.2
    assert out["selftest_size95_logodds", (*LABELS, "background")] == 0.99
    assert ("selftest_size95_logodds", (*LABELS, "ruler")) not in out
    assert ("selftest_detection_ratio", (*LABELS, "ruler", "0")) not in out
    assert (out["selftest_false_findings", LABELS], out["selftest_runs", LABELS]) == (0, 50)


def test_it_travels_with_its_result():
    audited = result(selftest=selftest())
    assert from_json(to_json(audited)) == audited
    assert result().selftest is None


@pytest.mark.parametrize("runs", [0, 50])
def test_without_runs_without_effect_there_are_no_false_findings_to_tell(runs):
    done = result(selftest=selftest(false_runs=runs))
    names = {one.metric for one in audit_samples([done], [done])}
    assert ("selftest_false_findings" in names) == (runs > 0)
