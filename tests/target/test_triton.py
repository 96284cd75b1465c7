"""The classifier against a real Triton: what it answers is what the network computes."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.core.errors import ConfigError, TargetError, TargetOutputError, TargetShapeError, UnknownModelError
from audit_plugin.target.health import check_target
from audit_plugin.target.options import Activation, PreprocessOptions, TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.fixtures.networks import BIAS, LABELS, expected_logits, expected_probabilities

pytestmark = pytest.mark.triton
IMAGES = np.random.default_rng(3).random((21, 3, 16, 16), np.float32)


@pytest.fixture
def colours(triton_server) -> TargetOptions:
    return TargetOptions(model="colours", url=triton_server.grpc_url, version="1", output="probabilities")


def ask(options: TargetOptions, images: np.ndarray = IMAGES) -> np.ndarray:
    with TritonClassifier.connect(options) as target:
        return target.predict(images)


def test_scores_are_the_networks_own(colours):
    """More images than the server takes at once come back complete and in order."""
    np.testing.assert_allclose(ask(colours), expected_probabilities(IMAGES), atol=1e-5)


def test_no_images_no_requests(colours):
    """An empty batch is answered without asking."""
    with TritonClassifier.connect(colours) as target:
        assert target.predict(IMAGES[:0]).shape == (0, len(LABELS))
        assert target.counts.requests == 0


def test_counts_are_exact(colours):
    """21 images at 8 a request are three requests."""
    with TritonClassifier.connect(colours) as target:
        target.predict(IMAGES)
        assert (target.counts.images, target.counts.requests, target.counts.retries) == (21, 3, 0)


def test_activation_turns_logits_into_probabilities(colours):
    """Logits with softmax are the probabilities; without activation they pass through."""
    logits = replace(colours, output="logits")
    np.testing.assert_allclose(ask(replace(logits, activation=Activation.SOFTMAX)), expected_probabilities(IMAGES), atol=1e-5)
    np.testing.assert_allclose(ask(logits), expected_logits(IMAGES), atol=1e-4)


def test_uint8_nhwc_model(colours):
    """A model that takes pixels as they are gets 0..255, channels last."""
    options = replace(colours, model="pixels", output=None, preprocess=PreprocessOptions(layout="NHWC"))
    np.testing.assert_allclose(ask(options), expected_probabilities(IMAGES), atol=1e-5)


def test_other_sizes_are_resized(colours):
    """A uniform picture of any size has the same mean colour."""
    big = np.broadcast_to(np.float32([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1), (2, 3, 40, 30))
    np.testing.assert_allclose(ask(colours, big), expected_probabilities(big), atol=1e-5)


@pytest.mark.parametrize("output", ["class", "name"])
def test_label_only_endpoints_are_one_hot_and_say_so(colours, output):
    """Class numbers and class names both become one-hot rows."""
    with TritonClassifier.connect(replace(colours, output=output)) as target:
        np.testing.assert_array_equal(target.predict(IMAGES), np.eye(4)[expected_logits(IMAGES).argmax(1)])
        assert target.labels_only
        assert any("classes only" in note for note in target.notes)


def test_the_version_is_pinned(colours):
    """Without a version the newest ready one is pinned and noted; a named one is used as named."""
    with TritonClassifier.connect(replace(colours, version=None, output="logits")) as newest:
        assert newest.info.version == "2"
        assert any("not pinned" in note for note in newest.notes)
        np.testing.assert_allclose(newest.predict(IMAGES), expected_logits(IMAGES, bias=BIAS[::-1]), atol=1e-4)
    with TritonClassifier.connect(colours) as pinned:
        assert (pinned.info.version, pinned.info.server, pinned.info.labels) == ("1", "triton 2.51.0", LABELS)
        assert pinned.info.id != newest.info.id
        assert pinned.notes == ()


def test_identity_changes_with_the_scoring_and_only_then(colours):
    """Connecting twice is the same target; another activation is another one."""
    with TritonClassifier.connect(colours) as one, TritonClassifier.connect(colours) as same:
        assert one.info == same.info
    with TritonClassifier.connect(replace(colours, activation=Activation.SOFTMAX)) as other:
        assert other.info.id != one.info.id


def test_operators_choices_are_noted(colours):
    """A response cache and missing priority levels are told, not printed."""
    with pytest.raises(ConfigError, match="does not name the classes"):
        TritonClassifier.connect(replace(colours, model="bare"))
    with TritonClassifier.connect(replace(colours, model="bare", labels=LABELS)) as target:
        assert target.contract.priority == 0
        assert any("no priority levels" in note for note in target.notes)
        assert any("response cache" in note for note in target.notes)


def test_lowest_priority_by_default(colours):
    """The model has two levels: audits ask for the second, and for no level that does not exist."""
    with TritonClassifier.connect(colours) as target:
        assert target.contract.priority == 2
    with pytest.raises(ConfigError, match="must be 1 to 2"):
        TritonClassifier.connect(replace(colours, priority=3))


def test_batches_stream_in_order(colours):
    """The first scores are there before the last batch is taken."""
    taken = []
    batches = (taken.append(i) or IMAGES[i : i + 1] for i in range(10))
    with TritonClassifier.connect(colours) as target:
        scores = target.predict_batches(batches)
        first = next(scores)
        assert len(taken) == target._wire.options.concurrency + 1
        np.testing.assert_allclose(np.concatenate([first, *scores]), expected_probabilities(IMAGES[:10]), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "nobody"}, UnknownModelError, "check `model`"),
        ({"version": "9"}, UnknownModelError, "version"),
        ({"output": None}, TargetError, "name the one to use as `output`"),
        ({"input": "picture"}, TargetError, "name the one to use as `input`"),
        ({"labels": ("a", "b")}, TargetOutputError, "4 classes but there are 2"),
        (
            {"preprocess": PreprocessOptions(size=(8, 8))},
            TargetShapeError,
            r"wants \(3, 16, 16\) but preprocessing makes \(3, 8, 8\)",
        ),
        ({"preprocess": PreprocessOptions(layout="NHWC")}, TargetShapeError, "preprocess.layout"),
        ({"preprocess": PreprocessOptions(dtype="UINT8")}, TargetError, "preprocess.dtype"),
    ],
)
def test_misfits_are_refused_up_front(colours, change, error, message):
    """Nothing is asked of a model that the options do not fit."""
    with pytest.raises(error, match=message):
        TritonClassifier.connect(replace(colours, **change))


def test_nan_is_an_error_not_a_score(colours):
    """A model that answers NaN cannot be audited."""
    with pytest.raises(TargetOutputError, match="NaN or infinity for 8 of 8"):
        ask(replace(colours, model="broken"), IMAGES[:8])


def test_doctor_reads_the_whole_contract(colours):
    """A healthy target passes every check; an unknown model fails the last ones with the cure."""
    checks = check_target(colours)
    assert [check.check for check in checks if check.ok] == ["server live", "server ready", "model ready", "model fits"]
    assert "image FP32 [-1, 3, 16, 16]" in checks[-1].detail
    assert [check.ok for check in check_target(replace(colours, model="nobody"))] == [True, True, False, False]
