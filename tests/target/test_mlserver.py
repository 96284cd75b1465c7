"""The classifier against MLServer: the protocol is enough, Triton's own extensions are not needed."""

import numpy as np
import pytest

from audit_plugin.core.errors import UnknownModelError
from audit_plugin.target.health import check_target
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.fixtures.networks import BIAS, LABELS, expected_logits, expected_probabilities

pytestmark = pytest.mark.slow  # the first run installs the server
IMAGES = np.random.default_rng(11).random((70, 3, 16, 16), np.float32)


def test_scores_are_the_networks_own(mlserver_url):
    """Seventy images at 32 a request come back complete and in order."""
    with TritonClassifier.connect(TargetOptions(model="colours", url=mlserver_url, version="v1", labels=LABELS)) as target:
        np.testing.assert_allclose(target.predict(IMAGES), expected_probabilities(IMAGES), atol=1e-5)
        assert target.counts.requests == 3


def test_its_identity_rests_on_metadata(mlserver_url):
    """MLServer shows no model configuration; that is noted, and the version is pinned all the same."""
    with TritonClassifier.connect(TargetOptions(model="colours", url=mlserver_url, version="v2", labels=LABELS)) as target:
        assert target.info.server.startswith("mlserver 1.")
        assert target.info.version == "v2"
        assert any("no model configuration" in note for note in target.notes)
        logits = expected_logits(IMAGES, bias=BIAS[::-1])
        np.testing.assert_array_equal(target.predict(IMAGES).argmax(1), logits.argmax(1))


def test_unknown_models_and_versions(mlserver_url):
    """Both are told apart from a server that is away."""
    for change in ({"model": "nobody"}, {"model": "colours", "version": "v9"}):
        with pytest.raises(UnknownModelError):
            TritonClassifier.connect(TargetOptions(url=mlserver_url, labels=LABELS, **change))


def test_doctor(mlserver_url):
    """Every check passes."""
    options = TargetOptions(model="colours", url=mlserver_url, version="v1", labels=LABELS)
    assert [check for check in check_target(options) if not check.ok] == []
