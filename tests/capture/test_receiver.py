"""The HTTP door: what is taken, what is refused with which status, reason and counter."""

import asyncio
import json

import numpy as np
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from audit_plugin.alerts.evaluate import firing
from audit_plugin.capture.receiver import Room, router
from audit_plugin.capture.rows import read_rows
from audit_plugin.core.capture import DROPS, CaptureCounts
from audit_plugin.core.errors import CaptureError
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.metrics.samples import process_samples
from audit_plugin.sources.images import read_image
from tests.capture.made import answer, body, encoded, headers, intake, picture


@pytest.fixture
def door(tmp_path):
    """A client and the intake behind it; bodies up to 64 KiB."""
    with intake(tmp_path, body_mb=1 / 16, pixels=100) as taking:
        app = FastAPI()
        app.include_router(router(taking))
        yield TestClient(app), taking


def post(client, given_headers, data):
    return client.post("/v1/capture", content=data, headers=given_headers)


def test_a_request_and_its_answer_become_a_row_of_the_sample(door, tmp_path):
    """As KServe sends them, one after the other with one id; the event's id is not kept."""
    client, taking = door
    data, pixels = encoded()
    assert post(client, headers(identity="customer 7"), data).status_code == 202
    assert post(client, headers("response", identity="customer 7"), answer([[0.2, 0.8]])).json() == {"captured": 1}
    taking.sink.__exit__()
    (row,) = read_rows(tmp_path / "leaves")
    assert (row.predicted, row.model, len(row.id)) == ("healthy", "leaves", 32)
    np.testing.assert_array_equal(read_image(tmp_path / "leaves" / row.file), pixels)
    assert "customer" not in (tmp_path / "leaves" / "table.csv").read_text()
    counts = taking.sink.counts
    assert (counts.received, counts.sampled, counts.kept) == (2, 2, 1)


@pytest.mark.parametrize(
    ("status", "reason", "given_headers", "data"),
    [
        (400, "malformed", {"content-type": "application/json"}, b"{}"),
        (400, "malformed", headers(), b"{"),
        (413, "too_large", headers(), b" " * 70_000),
        (415, "unsupported", headers(content_encoding="gzip"), encoded()[0]),
        (422, "image", headers(), body(["bm8="], [1], "BYTES")),
        (422, "unknown_model", headers(ce_inferenceservicename="others"), encoded()[0]),
        (422, "audit", headers(ce_metadata='{"X-Audit-Plugin": ["probe"]}'), encoded()[0]),
        (422, "audit", headers(), body([0.0] * 90, [1, 3, 6, 5], parameters={"bias-ignore": "true"})),
    ],
)
def test_refusals_have_a_status_a_sentence_and_a_counter(status, reason, given_headers, data, door):
    """Problem documents whose type is stable."""
    client, taking = door
    refused = post(client, given_headers, data)
    document = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.status_code, document["status"], document["reason"]) == (status, status, reason)
    assert document["type"] == f"urn:audit-plugin:problem:capture-{reason.replace('_', '-')}"
    assert len(document["detail"]) > 20
    assert {name: number for name, number in taking.sink.counts.dropped.items() if number} == {reason: 1}
    assert taking.sink.counts.received == 1


def asgi(taking, receive, **more):
    """What the application answers to a request whose body comes from ``receive``."""
    app, answers = FastAPI(), []
    app.include_router(router(taking, **more))

    async def send(message):
        answers.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/capture",
        "raw_path": b"/v1/capture",
        "query_string": b"",
        "root_path": "",
        "headers": [],
    }
    asyncio.run(app(scope, receive, send))
    return answers


def test_a_body_that_does_not_say_its_length_is_cut_off(tmp_path):
    """Chunks are counted while they come; no more is taken than the limit and a chunk."""
    taken = []

    async def endless():
        taken.append(10_000)
        return {"type": "http.request", "body": b"x" * 10_000, "more_body": True}

    with intake(tmp_path) as taking:
        assert asgi(taking, endless, body_bytes=65_536)[0]["status"] == 413
        assert sum(taken) == 70_000
        assert taking.sink.counts.dropped["too_large"] == 1


def test_bodies_together_are_bounded():
    """Room for so many bytes and so many bodies; what is done gives its room back."""
    room = Room(100, most_bodies=2)
    with room.body() as first, room.body() as second:
        first.add(b"x" * 60)
        with pytest.raises(CaptureError, match="too many") as refusal:
            second.add(b"x" * 60)
        assert refusal.value.status == 429
        with pytest.raises(CaptureError), room.body():
            pass
    with room.body() as body_:
        body_.add(b"x" * 100)


def test_a_sender_that_trickles_is_sent_away(tmp_path):
    """A body that does not arrive in time gives its place back; so does one whose sender is gone."""

    async def silent():
        await asyncio.sleep(60)

    async def gone():
        return {"type": "http.disconnect"}

    with intake(tmp_path) as taking:
        assert asgi(taking, silent, read_seconds=0.05)[0]["status"] == 408
        assert asgi(taking, gone)[0]["status"] == 400
        assert taking.sink.counts.dropped["malformed"] == 2


def test_a_full_queue_answers_429(tmp_path):
    """The sender is told to come back; nothing waits."""
    with intake(tmp_path, queue=3) as taking:
        app = FastAPI()
        app.include_router(router(taking))
        taking.sink.__exit__()
        sent = [post(TestClient(app), headers(identity=str(at)), body([0.0] * 90, [1, 3, 6, 5])) for at in range(4)]
    assert [one.status_code for one in sent] == [202, 202, 202, 429]
    assert sent[-1].headers["retry-after"] == "1"
    assert taking.sink.counts.dropped["queue_full"] == 1


def test_the_share_takes_a_request_with_its_answer_or_neither(tmp_path):
    """By the id, so that both decisions are one; about as many as the share says."""
    with intake(tmp_path, share=0.3, queue=1_000) as taking:
        data, _ = encoded()
        took = []
        for at in range(300):
            one = taking.accept(headers(identity=f"e{at}"), data)
            assert taking.accept(headers("response", identity=f"e{at}"), answer([[0.2, 0.8]])) == one
            took.append(one)
    assert 60 < sum(took) < 120
    assert taking.sink.counts.sampled == 2 * sum(took)


def test_services_are_mapped_to_models_and_versions_are_noted(tmp_path):
    """An InferenceService may be called otherwise than the model in it."""
    with intake(tmp_path, services={"leaves-prod": "leaves"}) as taking:
        taking.accept(headers(ce_inferenceservicename="leaves-prod"), encoded()[0])
        taking.accept(headers(identity="b", ce_inferenceservicename=None, ce_model="leaves", ce_modelversion="4"), encoded(1)[0])
        taking.accept(headers(identity="c"), encoded(2)[0])
        taking.accept(headers("response", identity="c"), answer([[0.2, 0.8]]))
    assert [row.version for row in read_rows(tmp_path / "leaves")] == ["", "4", "3"]


def test_a_batch_is_kept_as_single_pictures(tmp_path):
    """Rows of a request and of its answer are joined by their place."""
    with intake(tmp_path) as taking:
        texts = [json.loads(encoded(seed)[0])["inputs"][0]["data"][0] for seed in (1, 2)]
        taking.accept(headers(), body(texts, [2, 1], "BYTES"))
        taking.accept(headers("response"), answer([[0.9, 0.1], [0.1, 0.9]]))
    rows = read_rows(tmp_path / "leaves")
    assert [row.predicted for row in rows] == ["ill", "healthy"]
    np.testing.assert_array_equal(read_image(tmp_path / "leaves" / rows[1].file), picture(2))


def test_metrics_have_every_reason_from_the_first_scrape_and_none_where_capture_is_off():
    """Counters at 0, one gauge a model; losses of our own fire the alert."""
    counts = CaptureCounts(images={"leaves": 0}, dropping=True)
    samples = process_samples(ProcessHealth(capture=counts), version="1", queries={})
    captured = {(one.metric, one.labels): one.value for one in samples if one.metric.startswith("capture_")}
    assert {labels[0] for name, labels in captured if name == "capture_dropped_total"} == set(DROPS)
    assert captured["capture_images", ("leaves",)] == 0
    assert "AuditPluginCaptureDropping" in {one.name for one in firing(samples, now=0)}
    assert not [one for one in process_samples(ProcessHealth(), version="1", queries={}) if one.metric.startswith("capture_")]
