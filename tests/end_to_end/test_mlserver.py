"""An audit of a model on MLServer, the other Open Inference Protocol server."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.build import build
from audit_plugin.bank.plan import plan
from audit_plugin.bank.real import RealImages
from audit_plugin.bank.verify import verify
from audit_plugin.core.results import RunState
from audit_plugin.findings.policy import default_policy
from audit_plugin.methods.depict import DepictOptions
from audit_plugin.runner import Evidence, Question, audit_model
from audit_plugin.sources.images import to_float
from audit_plugin.store.store import Store
from audit_plugin.target.options import PreprocessOptions, TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.bank.world import CONCEPTS, SMALL, FakeDetector, FakeGenerator, good, new_bank, rows, silent
from tests.fixtures.networks import LABELS, expected_probabilities

pytestmark = pytest.mark.slow  # the first run installs the server


@pytest.fixture
def evidence(tmp_path):
    """Pictures of 24 rows whose labels go round."""
    labelled = [replace(row, labels={"label": LABELS[at % len(LABELS)]}) for at, row in enumerate(rows(24))]
    bank, detector = new_bank(tmp_path / "bank"), FakeDetector()
    wanted = plan(labelled, CONCEPTS, generator="fake-1", audit="demo", options=SMALL)
    built = build(bank, wanted, FakeGenerator(size=16), good, progress=silent)
    verify(bank, detector, progress=silent)
    return Evidence(
        audit="demo",
        bank=bank,
        real=RealImages(),
        built=built,
        detector=detector.fingerprint,
        dataset_digest="none",
        backend="fake",
        backend_reason="test",
        config_hash="none",
        config="",
    )


def test_an_audit_end_to_end(mlserver_url, evidence, tmp_path):
    """The run is stored, pinned to the version, and its scores are the network's own."""
    options = TargetOptions(
        model="colours", url=mlserver_url, version="v1", labels=LABELS, preprocess=PreprocessOptions(size=(16, 16))
    )
    question = Question(
        label="label", positive=None, truth={}, options=DepictOptions(resamples=100, adjusted_resamples=10), policy=default_policy()
    )
    store = Store.open(tmp_path / "store.sqlite", migrate=True)
    with TritonClassifier.connect(options) as classifier:
        result = audit_model(evidence, classifier, question, store, progress=silent)
        scores = store.scores.get(classifier.info.id, evidence.bank.usable())
    assert (result.model, result.version, store.run(result.run)) == ("colours", "v1", result)
    assert result.state is RunState.INSUFFICIENT_DATA  # twenty-four rows of noise prove nothing, and the audit says so
    images = to_float([evidence.bank.pictures.pixels(sha) for sha in scores])
    np.testing.assert_allclose(np.stack(list(scores.values())), expected_probabilities(images), atol=1e-5)
    assert result.provenance.classifier_queries == len(scores)
    store.close()
