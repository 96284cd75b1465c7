"""What classes respond to, as series."""

from dataclasses import replace

import pytest

from audit_plugin.core.discovery_results import WordPart
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.names import METRICS
from audit_plugin.metrics.samples import audit_samples
from tests.findings.examples import result
from tests.findings.found import UNFIT, around, discovery, idle, subject, word

AUDIT = ("ham", "1", "lesion")
CLASS = (*AUDIT, "malignant")
RULER = (*CLASS, "ruler", "spurious")
NAMES = {
    name for name in METRICS if name.startswith(("discover", "activation_score", "cue_uplift", "class_object_absent"))
}  # fmt: skip


def samples(told, **caps):
    done = conclude(result(concepts=(), discovery=told), default_policy())
    return {(one.metric, one.labels): one.value for one in audit_samples([done], [done], **caps)}


def test_every_series_is_in_the_table_with_its_number():
    out = samples(discovery(subject(word(), idle(), object_absent=around(0.7))))
    assert {name for name, _ in out} & NAMES == NAMES
    assert out["class_object_absent_low_ratio", CLASS] == pytest.approx(0.6)
    assert (out["activation_score_ratio", (*CLASS, "base")], out["activation_score_ratio", (*CLASS, "cue")]) == (0.2, 0.75)
    assert (out["cue_uplift_ratio", RULER], out["cue_uplift_low_ratio", RULER]) == (pytest.approx(0.4), pytest.approx(0.3))
    assert (out["discovered_cue_breach", RULER], out["class_object_absent_breach", CLASS]) == (1, 1)
    assert {part: out["discovered_words", (*AUDIT, part)] for part in WordPart} == {
        "core": 0,
        "spurious": 1,
        "mixed": 0,
        "unknown": 0,
    }
    assert [out[f"discovery_{name}", AUDIT] for name in ("domain_fit", "queries", "network_rows")] == [1, 1800, 7200]
    assert out["discovery_stability_ratio", CLASS] == 0.8


def test_words_that_do_nothing_and_units_have_no_series():
    unit = subject(word("hair"), name="layer[3]", kind="unit")
    out = samples(discovery(subject(idle()), unit))
    assert not [name for name, labels in out if name.startswith("cue_uplift") or "layer[3]" in labels]
    assert out["discovered_words", (*AUDIT, "spurious")] == 0


def test_a_generator_from_elsewhere_has_values_and_no_breach():
    out = samples(discovery(subject(word(), object_absent=around(0.9)), fit=UNFIT))
    assert (out["discovery_domain_fit", AUDIT], out["discovered_cue_breach", RULER], out["class_object_absent_breach", CLASS]) == (
        0,
        0,
        0,
    )
    assert out["cue_uplift_ratio", RULER] > 0


def test_twenty_words_of_a_class_and_fifty_classes_those_in_breach_first():
    """A word in breach stays where thirty larger ones are core, and so does its class among sixty."""
    core = [word(f"core{at}", 0.4, part=WordPart.CORE) for at in range(30)]
    crowd = [subject(word("hair", part=WordPart.CORE), name=f"class{at}") for at in range(60)]
    out = samples(discovery(*crowd, subject(*core, word())), per_audit=10_000, total=10_000)
    words = [labels for name, labels in out if name == "cue_uplift_ratio"]
    assert sum(labels[3] == "malignant" for labels in words) == 20
    assert len({labels[3] for labels in words}) == 50
    assert out["discovered_cue_breach", RULER] == 1
    assert out["discovered_words", (*AUDIT, "core")] == 90


def test_words_in_breach_are_the_last_to_be_left_out():
    told = discovery(subject(word(), *(word(f"w{at}", 0.5, part=WordPart.CORE) for at in range(9))))
    whole = len(samples(told))
    out = samples(told, per_audit=whole - 12)
    assert out["discovered_cue_breach", RULER] == 1
    assert out["series_dropped", AUDIT] > 0
    assert len([1 for name, _ in out if name == "cue_uplift_ratio"]) < 10


def test_what_was_not_measured_has_no_series():
    bare = replace(subject(), object_absent=None, stability=None, prompts=())
    names = {name for name, _ in samples(discovery(bare))} & NAMES
    assert names == {
        "activation_score_ratio", "activation_score_low_ratio", "discovered_words", "discovery_domain_fit", "discovery_queries",
        "discovery_network_rows",
    }  # fmt: skip
    assert not {name for name, _ in samples(None)} & NAMES
