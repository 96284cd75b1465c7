"""Whoever talks slowly, or not at all, keeps nobody else from being answered."""

import socket
import time
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import pytest

from audit_plugin.service import connections, security
from audit_plugin.service.tokens import Role, make_token
from tests.service.world import backend, opened, serving, until


@pytest.fixture
def service(tmp_path, monkeypatch):
    """With little patience."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.4)
    monkeypatch.setattr(security, "_SIGNED_SECONDS", 0.6)
    token = make_token(tmp_path / "tokens", name="ann", role=Role.RUN)
    (tmp_path / "secret").write_text("s3cret")
    options = {"tokens": str(tmp_path / "tokens"), "webhook_secret_file": str(tmp_path / "secret")}
    with opened(tmp_path) as store, serving(backend(store), **options) as (web, metrics):
        yield web, metrics, {"Authorization": f"Bearer {token}"}


@contextmanager
def talking(client, *parts, count=1):
    """Connections that have said these bytes, and stay."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(socket.create_connection((client.base_url.host, client.base_url.port), 5)) for _ in range(count)
        ]
        for each in made:
            for part in parts:
                each.sendall(part)
        yield made


def closed(connection):
    """Whether the other side has hung up, without an answer or after it."""
    connection.settimeout(0.01)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("said", [(), (b"GET /metrics HT",), (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /met")])
def test_a_head_that_does_not_come_is_not_waited_for(service, said):
    """On a new connection or on one that was used before."""
    with talking(service[1], *said) as (slow,):
        begun = time.monotonic()
        until(lambda: closed(slow), 5)
        assert time.monotonic() - begun < 4


def test_connections_beyond_the_bound_are_closed_and_the_others_answered(service, monkeypatch):
    """Before the process runs out of descriptors."""
    monkeypatch.setattr(connections, "MOST", 20)
    with talking(service[1], count=40) as made:
        until(lambda: sum(map(closed, made)) >= 20, 5)
    until(lambda: service[1].get("/livez").status_code == HTTPStatus.OK)


def test_a_slow_webhook_keeps_nobody_with_a_token_waiting(service):
    """What bears no token has few places of its own, little room and little time."""
    web, _, bearer = service
    head = b"POST /v1/hooks/model-version HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
    with talking(web, head, count=12) as made:
        for _ in range(3):
            assert web.get("/v1/runs", headers=bearer).status_code == HTTPStatus.OK
        until(lambda: all(map(closed, made)) or web.post("/v1/hooks/model-version", json={"model": "ham"}).status_code == 401)
    assert web.post("/v1/hooks/model-version", content=b"x" * 20_000).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_two_lengths_of_one_body_are_refused(service):
    """And the connection is closed, so that nothing hides behind."""
    head = b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with talking(service[0], head + b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n") as (one,):
        one.settimeout(5)
        told = b""
        while data := one.recv(65_536):
            told += data
    assert told.startswith(b"HTTP/1.1 400")
    assert told.count(b"HTTP/1.1") == 1
