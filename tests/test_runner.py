"""One audit of one model, with a fake classifier on a bank of fakes."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.plan import plan
from audit_plugin.bank.real import RealImages
from audit_plugin.bank.reference import draw_twins
from audit_plugin.bank.verify import verify
from audit_plugin.core.results import RunState
from audit_plugin.findings.policy import default_policy
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.runner import Evidence, Question, audit_model
from audit_plugin.store.store import Store
from tests.bank.world import CONCEPTS, SMALL, FakeClassifier, FakeDetector, FakeGenerator, good, new_bank, rows, silent

QUESTION = Question(
    label="label",
    positive="bright",
    truth={"ruler": 0.0},
    options=DepictOptions(resamples=50, adjusted_resamples=5),
    policy=default_policy(),
)


@pytest.fixture
def store(tmp_path):
    store = Store.open(tmp_path / "store.sqlite", migrate=True)
    yield store
    store.close()


@pytest.fixture
def evidence(tmp_path):
    """Forty-eight labelled rows, drawn and read."""
    labelled = [replace(row, labels={"label": ("dark", "bright")[at % 2]}) for at, row in enumerate(rows(48))]
    bank, detector = new_bank(tmp_path / "bank"), FakeDetector()
    wanted = plan(labelled, CONCEPTS, generator="fake-1", audit="demo", options=SMALL)
    built = build(bank, wanted, FakeGenerator(), good, progress=silent)
    verify(bank, detector, progress=silent)
    return Evidence(
        audit="demo",
        bank=bank,
        real=RealImages(),
        built=built,
        detector=detector.fingerprint,
        dataset_digest="data",
        backend="fake",
        backend_reason="because",
        config_hash="config",
        config="a: 1",
    )


def test_the_result_is_in_the_store_with_its_origin(evidence, store):
    """Everything that the numbers depend on is named."""
    result = audit_model(evidence, FakeClassifier(), QUESTION, store, progress=silent)
    assert store.run(result.run) == result
    origin = result.provenance
    assert (origin.bank_digest, origin.generator, origin.detector) == (evidence.bank.digest, "fake-1", evidence.detector)
    assert (origin.config_hash, origin.config, origin.dataset_digest) == ("config", "a: 1", "data")
    assert (origin.model_config_hash, origin.endpoint_notes) == ("c", ("no cache",))
    assert origin.unet_evaluations == evidence.built.drawn * FakeGenerator.evaluations_per_image
    assert origin.classifier_queries == len(evidence.bank.usable())
    assert {"python", "numpy", "scipy"} <= origin.versions.keys()
    assert (result.truth, result.state) == ({"ruler": 0.0}, RunState.SUCCEEDED)


class Darker(FakeGenerator):
    """The same pictures, a little darker."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def _one(self, caption, seed):
        return np.maximum(super()._one(caption, seed) - self.by, 0)


@pytest.mark.parametrize(("by", "tier"), [(0.0, "exact"), (0.3, "approximate")])
def test_the_model_is_asked_about_twins(evidence, store, by, tier):
    """Equal pictures are equal to it; where it says something else of the reference's, the result says approximate and by how much."""
    drawn = draw_twins(evidence.bank, evidence.bank.plan(), Darker(by), progress=silent)
    result = audit_model(replace(evidence, twins=drawn), FakeClassifier(), QUESTION, store, progress=silent)
    check = result.provenance.engine_check
    assert (check.pictures, check.passed, result.provenance.tier) == (48, by == 0, tier)
    assert check.change == pytest.approx(by, abs=0.05)
    assert (check.metric_drawn == check.metric_reference) == (by == 0)
    assert ("scores change by" in " ".join(result.provenance.tier_reasons)) == (by > 0)
    assert store.run(result.run) == result


def test_a_bank_without_comparison_is_not_called_exact(evidence, store):
    """Nobody knows; drawn by the reference itself there is nothing to know."""
    tiers = [
        audit_model(replace(evidence, reference=reference), FakeClassifier(), QUESTION, store, progress=silent).provenance.tier
        for reference in (False, True)
    ]
    assert tiers == ["approximate", "exact"]


def test_equal_evidence_gives_equal_numbers(evidence, store):
    """A second audit asks nothing and finds the same; only run, times and costs differ."""
    first = audit_model(evidence, FakeClassifier(), QUESTION, store, progress=silent)
    classifier = FakeClassifier(lives=0)
    second = audit_model(evidence, classifier, QUESTION, store, progress=silent)
    assert second.provenance.classifier_queries == classifier.seen == 0
    assert replace(second, run=first.run, provenance=first.provenance) == first
    assert second.run > first.run


def test_a_run_that_dies_leaves_only_scores(evidence, store):
    """Nothing half done is stored, and what was paid for is not asked again."""
    with pytest.raises(ConnectionError):
        audit_model(evidence, FakeClassifier(lives=1), QUESTION, store, progress=silent)
    assert store.runs() == ()
    classifier = FakeClassifier()
    result = audit_model(evidence, classifier, QUESTION, store, progress=silent)
    assert result.provenance.classifier_queries == classifier.seen == len(evidence.bank.usable()) - 128


def test_runs_on_the_same_rows_are_the_same_evidence(evidence, store):
    """The digest of the rows does not depend on who is audited."""
    runs = [audit_model(evidence, FakeClassifier(), QUESTION, store, progress=silent) for _ in range(2)]
    assert len({run.provenance.rows_digest for run in runs}) == 1
