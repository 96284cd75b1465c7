"""What the report says of an audit's controls."""

from dataclasses import replace

import pytest

from audit_plugin.core.control_results import Control, ControlReport, no_controls
from audit_plugin.core.estimate import Estimate
from audit_plugin.report.card import model_card
from audit_plugin.report.controls import control_words, controls_failed
from audit_plugin.report.html import render
from tests.findings.examples import result

FOUND = Control(concept="ruler", alarmed=True, accused="ruler", effect=Estimate(value=0.31, low=0.25, high=0.37))
MISSED = Control(concept="ruler", alarmed=False, effect=Estimate(value=0.01, low=-0.02, high=0.03), reason="judged inconclusive")
SILENT = Control(concept="shape", alarmed=False)
ACCUSED = Control(concept="shape", alarmed=True, accused="ruler", effect=FOUND.effect)
UNTRIED = Control(reason="40 rows, and threshold t asks for 100")


@pytest.mark.parametrize(
    ("planted", "clean", "words", "failed"),
    [
        (FOUND, SILENT, "planted reliance on ruler found (0.310 [0.250, 0.370]); clean control silent", False),
        (MISSED, SILENT, "planted reliance on ruler MISSED (0.010 [-0.020, 0.030]), judged inconclusive; clean control silent", True),
        (FOUND, ACCUSED, "planted reliance on ruler found (0.310 [0.250, 0.370]); clean control FALSELY ACCUSED of ruler (0.310 [0.250, 0.370])", True),
        (UNTRIED, SILENT, "planted control not tested: 40 rows, and threshold t asks for 100; clean control silent", False),
    ],
)  # fmt: skip
def test_each_outcome_has_its_words(planted, clean, words, failed):
    told = result(controls=ControlReport(planted=planted, clean=clean))
    assert control_words(told).replace("−", "-") == words
    assert controls_failed(told) is failed


def test_the_head_of_the_report_and_the_card_say_it():
    told = result(controls=ControlReport(planted=MISSED, clean=SILENT))
    page = render([told], lambda _: None)
    assert '<p class="small status fail">Controls: planted reliance on ruler MISSED' in page
    assert "Controls: planted reliance on ruler MISSED" in model_card(told)


def test_nothing_is_said_where_controls_are_off_and_the_reason_where_none_ran():
    assert "Controls:" not in render([result()], lambda _: None)
    assert control_words(replace(result(), controls=no_controls("why"))) == "not tested: why"
