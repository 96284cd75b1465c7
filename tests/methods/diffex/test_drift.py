from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.edits import Split
from audit_plugin.methods.diffex import drift
from audit_plugin.statistics.paired_mean import student_interval
from tests.methods.diffex.world import images, row

N = 40


def version(effects, own):
    """Rows of one model version; the editor's noise is common to both, the model's own is small."""
    noise, rng = np.random.default_rng(0).normal(0, 0.5, (len(effects), N)), np.random.default_rng(own)
    return [
        row(f"cat-{at}", path, (0.0, 0.0), (value + noise[k, at] + rng.normal(0, 0.02), 0.0))
        for k, (path, value) in enumerate(effects.items())
        for at in range(N)
    ]


def compare(new, old, nodes=("a", "b")):
    return drift(new, old, kind=ScoreKind.LOGITS, labels=("cat", "dog"), class_name="cat", images=images(N), nodes=nodes)


def test_drift_is_found_where_single_effects_are_lost_in_noise():
    """A change of 0.1 under noise of 0.5: the paired interval is far narrower than either effect's."""
    found = compare(version({"a": 0.1, "b": 0.0}, 1), version({"a": 0.0, "b": 0.0}, 2))
    first, second = found.nodes
    assert (first.node, first.significant, second.significant) == ("a", True, False)
    assert first.drift.low < 0.1 < first.drift.high
    alone = student_interval(np.random.default_rng(0).normal(0, 0.5, N))
    assert first.drift.high - first.drift.low < 0.2 * (alone.high - alone.low)
    assert found.mean_absolute == pytest.approx(0.05, abs=0.02)


def test_only_images_of_both_versions_count():
    new, old = version({"a": 0.1}, 1), version({"a": 0.0}, 2)
    found = compare(new[:30], [replace(one, valid=at >= 10) for at, one in enumerate(old)], nodes=("a", "missing"))
    counts = {one.node: one.images for one in found.nodes}
    assert counts == {"a": 20, "missing": 0}
    assert found.nodes[-1].drift is None


def test_rows_of_the_search_are_refused():
    rows = [replace(one, split=Split.SELECT) for one in version({"a": 0.1}, 1)]
    with pytest.raises(ValueError, match="served the search"):
        compare(rows, rows, nodes=("a",))


def test_the_same_version_does_not_drift():
    rows = version({"a": 0.1, "b": 0.3}, 1)
    assert [one.drift.value for one in compare(rows, rows).nodes] == [0, 0]
    assert not any(one.significant for one in compare(rows, rows).nodes)
