"""What a misbehaving server does to the audit: it waits, asks again, or stops with a reason."""

import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest
from grpc import StatusCode

from audit_plugin.core.errors import ConfigError, TargetError, TargetOutputError, TargetUnreachableError, UnknownModelError
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.triton import TritonClassifier
from audit_plugin.target.wire import RefusedError
from tests.fixtures.inference_server import FakeServer, empty, fail, lie, slow

IMAGES = np.random.default_rng(5).random((6, 3, 4, 4), np.float32)


@pytest.fixture
def fake():
    with FakeServer().running() as server:
        yield server


def connect(server: FakeServer, **change) -> TritonClassifier:
    return TritonClassifier.connect(
        TargetOptions(**{"model": "fake", "url": server.url, "labels": ("a", "b"), "retries": 2} | change)
    )


@pytest.mark.parametrize("status", [StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED])
def test_an_overloaded_server_is_asked_again(fake, status):
    """A transient refusal costs a retry, not the audit."""
    fake.behaviours = [fail(status)]
    with connect(fake) as target:
        scores = target.predict(IMAGES)
        assert (target.counts.requests, target.counts.retries, target.counts.images) == (3, 1, 6)
    np.testing.assert_allclose(scores[:, 0], IMAGES.mean(axis=(1, 2, 3)), atol=2e-3)


def test_a_late_answer_is_asked_for_again(fake):
    """The deadline holds for each request."""
    fake.behaviours = [slow(1.0)]
    with connect(fake, deadline_seconds=0.4) as target:
        assert len(target.predict(IMAGES[:2])) == 2
        assert target.counts.retries == 1


def test_patience_ends(fake):
    """After the last retry the error names the address and the cure."""
    fake.behaviours = [fail(StatusCode.UNAVAILABLE)] * 9
    with connect(fake, retries=1) as target, pytest.raises(TargetUnreachableError, match="check that the server runs"):
        target.predict(IMAGES[:1])
    assert len(fake.requests) == 2


LEAVING = "Request for unknown model: 'fake' version 1 is not at ready state"
"""What Triton answers while it unloads a model, as it does with all before it ends."""


def test_a_server_that_is_shut_down_midway_is_said_to_be(fake):
    """And what to do; it is asked again first, since a model that is loaded anew is back soon."""
    fake.behaviours = [fail(StatusCode.UNAVAILABLE, LEAVING)]
    with connect(fake) as target:
        assert len(target.predict(IMAGES[:1])) == 1
        fake.behaviours = [fail(StatusCode.UNAVAILABLE, LEAVING)] * 9
        with pytest.raises(TargetUnreachableError) as caught:
            target.predict(IMAGES[:1])
    assert "was shut down, or model 'fake' unloaded, while it was asked" in str(caught.value)
    assert "start the server, or load the model, again" in str(caught.value)
    assert "the same command goes on from where it stopped" in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "error", "message"),
    [
        (lie(rows=1), TargetOutputError, "1 rows for 4 images"),
        (lie(values=3), TargetOutputError, "does not fill its own shape"),
        (lie(version="7"), TargetOutputError, "version 1 was asked but 7 answered"),
        (empty, TargetOutputError, "no output 'y'"),
        (fail(StatusCode.INVALID_ARGUMENT), TargetError, "server's log"),
        (
            fail(StatusCode.NOT_FOUND, "Request for unknown model: 'fake' is not found"),
            UnknownModelError,
            "is no longer: load it again",
        ),
        (fail(StatusCode.UNAUTHENTICATED), RefusedError, "token_file"),
        (fail(StatusCode.UNAVAILABLE, "This protocol is restricted"), RefusedError, "restricted_key"),
    ],
)
def test_what_asking_again_cannot_cure_is_an_error_at_once(fake, behaviour, error, message):
    """Malformed answers and refusals are not retried."""
    fake.behaviours = [behaviour]
    with connect(fake) as target:
        with pytest.raises(error, match=message):
            target.predict(IMAGES[:4])
        assert target.counts.requests == 1


def test_every_request_is_tagged_four_ways(fake):
    """Request id, two parameters and a header, with the lowest priority, a queue timeout and the pinned version."""
    with connect(fake, deadline_seconds=5.0) as target:
        target.predict(IMAGES[:1])
    (request,), (headers,) = fake.requests, fake.headers
    assert request.id.startswith("audit-plugin-")
    assert request.parameters["audit-plugin"].string_param == "probe"
    assert request.parameters["bias-ignore"].string_param == "true"
    assert headers["x-audit-plugin"] == "probe"
    assert request.parameters["priority"].uint64_param == 3
    assert request.parameters["timeout"].int64_param == 5_000_000
    assert request.model_version == "1"


def test_no_priority_without_a_configuration(fake):
    """A server that shows no configuration gets neither priority nor timeout, and that is noted."""
    fake.with_config, fake.versions = False, ()
    with connect(fake) as target:
        target.predict(IMAGES[:1])
        assert target.info.version == "unlisted"
        assert [note.split(":")[0] for note in target.notes] == [
            "the server lists no versions",
            "the server shows no model configuration",
        ]
    assert not {"priority", "timeout"} & set(fake.requests[0].parameters)


def test_few_requests_are_under_way(fake):
    """Never more than ``concurrency`` at a time."""
    fake.behaviours = [slow(0.05)] * 8
    with connect(fake, max_batch=1, concurrency=2) as target:
        target.predict(IMAGES)
    assert fake.most_under_way == 2


def test_scores_that_arrived_survive_a_later_failure(fake):
    """A stream hands out every batch that was answered before the one that fails."""
    fake.behaviours = [slow(0), slow(0), slow(0), fail(StatusCode.INVALID_ARGUMENT)]
    arrived = []
    with connect(fake, concurrency=1) as target, pytest.raises(TargetError):
        arrived.extend(target.predict_batches(IMAGES[i : i + 1] for i in range(6)))
    with connect(fake, concurrency=1) as target:
        fake.behaviours = [slow(0), slow(0), slow(0), fail(StatusCode.INVALID_ARGUMENT)]
        stream = target.predict_batches(IMAGES[i : i + 1] for i in range(6))
        assert [len(next(stream)) for _ in range(3)] == [1, 1, 1]
        with pytest.raises(TargetError):
            next(stream)


def test_secrets_travel_as_headers_and_are_read_anew(fake, tmp_path):
    """A token that is rotated while the audit runs is used from the next request on."""
    token, key = tmp_path / "token", tmp_path / "key"
    token.write_text("first\n")
    key.write_text("sesame\n")
    with connect(fake, token_file=token, restricted_key="audit", restricted_key_file=key, headers={"X-Team": "ml"}) as target:
        target.predict(IMAGES[:1])
        token.write_text("second\n")
        target.predict(IMAGES[:1])
        assert [headers["authorization"] for headers in fake.headers] == ["Bearer first", "Bearer second"]
        assert (fake.headers[0]["triton-grpc-protocol-audit"], fake.headers[0]["x-team"]) == ("sesame", "ml")
        token.unlink()
        with pytest.raises(ConfigError, match="`token_file`"):
            target.predict(IMAGES[:1])


def test_closing_ends_the_waiting(fake):
    """An audit that is cancelled does not sit out its retries."""
    fake.behaviours = [fail(StatusCode.UNAVAILABLE)] * 99
    with connect(fake, retries=50) as target, ThreadPoolExecutor(1) as caller:
        answer = caller.submit(target.predict, IMAGES[:1])
        while len(fake.requests) < 2:
            time.sleep(0.01)
        target.close()
        with pytest.raises((TargetError, CancelledError)):
            answer.result(10)
    assert len(fake.requests) < 5


@pytest.mark.parametrize(("shape", "requests"), [((1, 3, 4, 4), 6), ((3, 4, 4), 6), ((-1, 3, 4, 4), 2)])
def test_models_without_a_batch_get_one_image_at_a_time(fake, shape, requests):
    """A fixed batch of one, no batch axis at all, and the usual case give the same scores."""
    fake.shape = shape
    with connect(fake) as target:
        np.testing.assert_allclose(target.predict(IMAGES)[:, 0], IMAGES.mean(axis=(1, 2, 3)), atol=2e-3)
    assert len(fake.requests) == requests


def test_nobody_there():
    """A closed port is reported with the address."""
    with pytest.raises(TargetUnreachableError, match=r"127\.0\.0\.1:9"):
        TritonClassifier.connect(TargetOptions(model="m", url="127.0.0.1:9", retries=0, deadline_seconds=2))
