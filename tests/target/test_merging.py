"""Audited classes that are made of several of the model's own."""

from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.config import AuditedModel
from audit_plugin.core.errors import ConfigError, GradientError
from audit_plugin.target.guidance import GradientOptions, Rung
from audit_plugin.target.merging import merging
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from tests.fixtures.inference_server import FakeServer
from tests.fixtures.networks import LABELS, expected_probabilities

IMAGES = np.random.default_rng(5).random((6, 3, 4, 4), np.float32)
OWN = ("crane", "tabby", "crane", "car")


def merged(classes, *, total=False) -> list[list[float]]:
    return merging(classes, OWN, total=total, model="m")(np.array([[0.1, 0.2, 0.3, 0.4]])).round(6).tolist()


def test_scores_are_averaged_or_summed():
    """By index or by label; the order is that of the audited classes, and what nobody named counts for nothing."""
    classes = {"vehicle": ("car",), "bird": (0, 2)}
    assert merged(classes) == [[0.4, 0.2]]
    assert merged(classes, total=True) == [[0.4, 0.4]]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ({"a": (4,), "b": (0,)}, r"`classes.a`: model 'm' has no class 4; its 4 classes count from 0"),
        ({"a": ("dog",), "b": (0,)}, r"has no class called 'dog'"),
        ({"a": ("crane",), "b": (1,)}, r"has 2 classes called 'crane'; give the index"),
        ({"a": (1, 3), "b": ("car",)}, r"take its class 3 \('car'\) twice"),
    ],
)
def test_classes_that_the_model_does_not_have_are_refused(classes, said):
    """Each error names the audited class and the cure."""
    with pytest.raises(ConfigError, match=said):
        merged(classes)


@pytest.mark.parametrize(
    ("classes", "said"), [({"a": (1,)}, "needs two at least"), ({"a": (), "b": (1,)}, "`classes.a` .* is empty")]
)
def test_options_are_checked_before_anybody_is_asked(classes, said):
    """A decision needs two classes, each made of something."""
    with pytest.raises(ValueError, match=said):
        TargetOptions(model="m", classes=classes)


def test_classes_that_a_threshold_decides_are_summed():
    """Means over hundreds of classes never reach one half, whatever the model says; several classes may be compared by their means."""
    two = {"animal": (0, 1, 2), "thing": (3,)}
    assert TargetOptions(model="m", classes=two).merge == "sum"
    with pytest.raises(ValueError, match=r"`merge: mean` of model 'm': two classes, .* take `merge: sum`"):
        TargetOptions(model="m", classes=two, merge="mean")
    several = TargetOptions(model="m", classes={**two, "else": (4,)}, merge="mean")
    assert AuditedModel(target=several, label="kind").positive is None
    with pytest.raises(ValueError, match="one that is `positive`"):
        AuditedModel(target=several, label="kind", positive="animal")


def test_a_served_model_answers_the_audited_classes():
    """Classes by index need no labels; other classes, or another way to merge, are another target to the cache of scores."""
    with FakeServer().running() as server:
        plain = TargetOptions(model="fake", url=server.url, retries=0, labels=("first", "second"))
        with TritonClassifier.connect(plain) as one:
            scores, whole = one.predict(IMAGES), one.info
        swapped = replace(plain, labels=(), classes={"B": (1,), "A": (0,)})
        with TritonClassifier.connect(swapped) as two:
            assert two.info.labels == ("B", "A")
            np.testing.assert_allclose(two.predict(IMAGES), scores[:, ::-1])
            ids = {whole.id, two.info.id}
        for other in (replace(swapped, merge="mean"), replace(swapped, classes={"B": (0,), "A": (1,)})):
            with TritonClassifier.connect(other) as three:
                ids.add(three.info.id)
    assert len(ids) == 4


def test_merged_classes_have_no_gradient():
    """A file of the model would speak of its own classes: guidance takes the scores, and says so when more is asked for."""
    ladder = pytest.importorskip("audit_plugin.target.gradients")
    with FakeServer().running() as server:
        options = TargetOptions(model="fake", url=server.url, retries=0, classes={"B": (1,), "A": (0,)})
        with TritonClassifier.connect(options) as target:
            assert ladder.guide(GradientOptions(), target, IMAGES).rung is Rung.FREE
            with pytest.raises(GradientError, match="merged from its scores"):
                ladder.guide(GradientOptions(rung=Rung.ENDPOINT), target, IMAGES)


@pytest.mark.triton
def test_a_real_server_answers_the_audited_classes(triton_server):
    """By the labels that the server itself names."""
    images = np.random.default_rng(3).random((5, 3, 16, 16), np.float32)
    first, *rest = LABELS
    options = TargetOptions(
        model="colours",
        url=triton_server.grpc_url,
        version="1",
        output="probabilities",
        classes={"rest": tuple(rest), "first": (first,)},
        merge="sum",
    )
    with TritonClassifier.connect(options) as target:
        found = target.predict(images)
    own = expected_probabilities(images)
    np.testing.assert_allclose(found, np.stack([own[:, 1:].sum(1), own[:, 0]], 1), atol=1e-5)
