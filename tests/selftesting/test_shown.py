"""Self-tests as reports and metrics show them."""

from dataclasses import replace

import pytest

from audit_plugin.core.results import Verdict, from_json, to_json
from audit_plugin.core.selftest_results import Part
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from audit_plugin.report.card import model_card
from audit_plugin.report.html import render
from audit_plugin.report.selftest import LIMIT, NEVER, curve_chart, curve_rows, found_words, selftest_words
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
    assert "accused in 0 of 50 runs that worked. False findings are of noise alone" in page.replace("\n", " ")
    assert "No threshold bounds flips." in page
    assert 'aria-label="background: an effect of 1.0 log-odds' in page
    without = render([result()], lambda _: None)
    assert "<code>audit-plugin selftest</code>" in without
    assert "of 50 self-tests" not in without


def test_runs_that_did_not_work_come_first_and_none_that_worked_has_no_rates():
    def broken(*counts):
        every = curve({0.0: 0, 0.3: 0, 3.0: 0}, runs=4)
        return replace(every, points=tuple(replace(one, broken=count) for one, count in zip(every.points, counts, strict=True)))

    all_broken = tried("background", broken(4, 4, 4), runs=0)
    told = selftest(all_broken, false_runs=0, broken=12, runs=12)
    said = "12 of 12 runs failed their own gates, none with an effect worked, so what would have been found is not known"
    audited = result(selftest=told)
    assert found_words(audited, clean()) == said
    assert selftest_words(told).startswith("12 of 12 runs failed their own gates: none worked")
    assert curve_rows(all_broken)[0][1] == ["–"] * 5
    assert curve_chart(all_broken) is None
    page = render([audited], lambda _: None)
    assert "0 %" not in page[page.index('id="selftest"') :].partition("</section>")[0].partition("<details>")[0]
    assert {one.metric: one.value for one in audit_samples([audited], [audited]) if one.metric.startswith("selftest")} == {
        "selftest_broken_runs": 12
    }
    some = tried("background", broken(1, 0, 4), runs=3)
    assert found_words(result(selftest=selftest(some)), clean()) == (
        "5 of 12 runs failed their own gates and count as not found; an effect of 0.3 log-odds would have been found in 0 % [0, 60] of 4 "
        "self-tests; false findings 0 of 3"
    )


def test_a_concept_that_no_threshold_could_accuse_is_not_one_that_is_found_in_none():
    never = tried("background", curve({0.0: 0, 1.0: 0}, part=Part.SEEN), accusable=False)
    audited = result(selftest=selftest(never))
    assert found_words(audited, clean()) == NEVER
    page = render([audited], lambda _: None)
    assert NEVER in page
    assert "would have been found in 0 %" not in page


def test_what_false_findings_leave_out_is_said_wherever_they_are_told():
    audited = result(selftest=selftest())
    assert LIMIT in render([audited], lambda _: None)
    assert f"{LIMIT}." in model_card(audited)
    assert LIMIT in selftest_words(selftest())
    assert "not what edits leak into other concepts" in METRICS["selftest_false_findings"].help


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
