"""Suspected shortcuts as series."""

from dataclasses import replace

from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from tests.findings.examples import result
from tests.methods.shortcut.told import judged

LABELS = ("ham", "1", "lesion", "ruler")


def samples(*told):
    done = result(shortcuts=told)
    return {(one.metric, one.labels): one.value for one in audit_samples([done], [done]) if one.metric.startswith("shortcut")}


def test_every_series_is_in_the_table_with_its_number():
    told = judged(0.3)
    out = samples(told)
    assert {name for name, _ in out} == {name for name in METRICS if name.startswith("shortcut")}
    assert out["shortcut_verdict", (*LABELS, "shortcut")] == 1
    assert out["shortcut_flips", LABELS] == told.counts.used
    assert out["shortcut_over_floor_low_ratio", LABELS] == told.effects.over_floor.low
    assert out["shortcut_change_ratio", LABELS] == told.effects.mad.value


def test_what_was_not_measured_has_no_series():
    few = judged(0.3, images=3)
    assert few.effects.over_irrelevant is not None
    bare = replace(
        few, effects=replace(few.effects, mad=None, mad_floor=None, over_floor=None, over_irrelevant=None), flip_rate_oracle=None
    )
    assert {name for name, _ in samples(bare)} == {"shortcut_verdict", "shortcut_flips"}
    assert samples() == {}
