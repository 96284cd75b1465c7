"""Production's requests at the service's own door: behind its tokens, counted in its metrics."""

from http import HTTPStatus

import pytest

from audit_plugin.capture.receiver import router
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.installed import CAPTURE
from audit_plugin.service.tokens import Role, make_token
from tests.capture.made import answer, encoded, headers, intake
from tests.service.world import backend, opened, serving, until


@pytest.fixture
def door(tmp_path):
    """Clients of both ports, and a token that may send."""
    token = make_token(tmp_path / "tokens", name="kserve", role=Role.RUN)
    with intake(tmp_path / "captured", body_mb=2.0) as taking, opened(tmp_path) as store:
        world = backend(
            store,
            routers=(router(taking),),
            bounded=frozenset({CAPTURE}),
            health=lambda: ProcessHealth(capture=taking.sink.counts),
        )
        with serving(world, tokens=str(tmp_path / "tokens"), body_bytes=1_000) as (web, metrics):
            yield web, metrics, {"Authorization": f"Bearer {token}"}


def test_events_are_taken_with_a_token_and_counted(door):
    """Bodies may be larger there than elsewhere, up to a bound of their own."""
    web, metrics, bearer = door
    assert web.post(CAPTURE, headers=headers(), content=encoded()[0]).status_code == HTTPStatus.UNAUTHORIZED
    assert web.post(CAPTURE, headers=headers() | bearer, content=encoded()[0]).status_code == HTTPStatus.ACCEPTED
    assert web.post(CAPTURE, headers=headers("response") | bearer, content=answer([[0.2, 0.8]])).status_code == HTTPStatus.ACCEPTED
    until(lambda: 'audit_plugin_capture_images{model="leaves"} 1.0' in metrics.get("/metrics").text)


@pytest.mark.parametrize(
    ("status", "reason", "given", "data"),
    [
        (HTTPStatus.BAD_REQUEST, "malformed", {}, b"{"),
        (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", {}, b" " * 2_200_000),
        (HTTPStatus.UNPROCESSABLE_ENTITY, "unknown_model", {"ce-inferenceservicename": "others"}, encoded()[0]),
    ],
)
def test_what_is_refused_there_is_counted_there(door, status, reason, given, data):
    """By a problem document, as everywhere."""
    web, metrics, bearer = door
    refused = web.post(CAPTURE, headers=headers() | given | bearer, content=data)
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert f'audit_plugin_capture_dropped_total{{reason="{reason}"}} 1.0' in metrics.get("/metrics").text
