"""The service as its users meet it: over HTTP, and by signal."""

import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from http import HTTPStatus
from pathlib import Path

import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import RunState
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.app import running
from audit_plugin.service.exporter import readiness
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.store import Store
from tests.findings.examples import result
from tests.service.world import backend, opened, serving

RUN = result().run


@pytest.fixture
def store(tmp_path):
    with opened(tmp_path) as store:
        store.save(conclude(result(headline="<b>ham</b> relies on watermark"), default_policy()))
        yield store


@pytest.fixture
def clients(store):
    health = ProcessHealth(target_up=True, config_reload_successful=True)
    with serving(backend(store, health=lambda: health)) as both:
        yield both


@pytest.mark.parametrize(
    ("accept", "kind"), [("*/*", "text/plain"), ("application/openmetrics-text; version=1.0.0", "openmetrics")]
)
def test_metrics_are_negotiated(clients, accept, kind):
    """Text 0.0.4 by default, OpenMetrics on request; store, worker and wiring all speak; refusals exist from the start."""
    answer = clients[1].get("/metrics", headers={"Accept": accept})
    assert answer.status_code == HTTPStatus.OK
    assert kind in answer.headers["Content-Type"]
    assert 'audit_plugin_concept_breach{concept="watermark",metric="auroc",model="ham"' in answer.text
    for line in (
        "audit_plugin_target_up 1.0",
        "audit_plugin_interval_seconds 1e+09",
        'audit_plugin_refused_total{reason="busy"} 0.0',
    ):
        assert line in answer.text


def test_the_exporter_shows_no_pictures_and_no_findings(clients):
    """Whoever scrapes may read it; pages are elsewhere."""
    body = clients[1].get("/").text
    assert str(clients[0].base_url).rstrip("/") in body
    assert "ham (lesion): succeeded_with_findings" in body
    assert clients[1].get(f"/reports/{RUN}").status_code == HTTPStatus.NOT_FOUND


def test_health_and_version(clients):
    """Probes and version answer without asking the audited server."""
    assert clients[1].get("/livez").text == "ok\n"
    assert clients[1].get("/readyz?verbose").text == "worker: ok\nstore: ok\n"
    assert clients[1].get("/version").json()["audit_plugin"]


def test_a_report_is_rendered_from_the_stored_result(clients):
    """With an ETag, so that it is sent once."""
    first = clients[0].get(f"/reports/{RUN}")
    assert (first.status_code, first.text) == (HTTPStatus.OK, "<p>ham</p>")
    again = clients[0].get(f"/reports/{RUN}", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})
    assert (again.status_code, again.text) == (HTTPStatus.NOT_MODIFIED, "")


def test_a_lost_store_is_not_ready_but_alive(tmp_path):
    """A restart would not bring the database back, so only readiness fails; pages and API say so."""
    store = Store.open(tmp_path / "audit.db", migrate=True)
    with serving(backend(store)) as (web, metrics):
        store.close()
        for file in tmp_path.iterdir():
            file.unlink()
        found = {path: metrics.get(path).status_code for path in ("/livez", "/readyz", "/metrics", "/")}
        assert found == {"/livez": 200, "/readyz": 503, "/metrics": 200, "/": 503}
        assert web.get("/v1/runs").json()["type"] == "urn:audit-plugin:problem:store"
        assert "audit_plugin_store_up 0.0" in metrics.get("/metrics").text
    store.close()


def test_readiness_names_what_is_missing():
    """And nothing else, unless it is asked to."""
    assert (
        readiness([("worker", "no more runs are begun"), ("store", "ok")], verbose=False).body
        == b"worker: no more runs are begun\n"
    )


def test_a_broken_run_has_its_place(store):
    """State as it is."""
    store.save(conclude(result(run="9", state=RunState.FAILED, headline="server gone"), default_policy()))
    with serving(backend(store)) as (_, metrics):
        assert "ham (lesion): failed" in metrics.get("/").text


@pytest.mark.parametrize("key", ["port", "web_port"])
def test_a_taken_port_is_a_config_error(store, key):
    """It names the option to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ServeOptions(**{"port": 0, "web_port": 0, key: taken.getsockname()[1]})
        with pytest.raises(ConfigError, match=f"choose another `serve.{key}`"), running(backend(store), options):
            pass


def test_tls(store, tmp_path):
    """Pages and API by a certificate; a bad one is a configuration error."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    options = ServeOptions(port=0, web_port=0, interval_seconds=1e9, tls_cert=str(cert), tls_key=str(key))
    with running(backend(store), options) as where:
        context, (_, _, address) = ssl.create_default_context(cafile=cert), where.web.partition("//")
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            secure.sendall(f"GET /v1/runs HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
            assert secure.recv(15) == b"HTTP/1.1 200 OK"
    cert.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"serve\.tls_cert"), running(backend(store), options):
        pass


SERVE = """
import sys, time
from audit_plugin.service.app import serve
from audit_plugin.service.backend import Backend
from audit_plugin.service_options import ServeOptions
from audit_plugin.store.store import Store
def run(model, progress):
    print("begun", flush=True)
    for step in range(10_000):
        progress(step, 10_000, "score")
        time.sleep(0.01)
store = Store.open(sys.argv[1], migrate=True)
serve(Backend(store=store, audit="tests", audited=(), run=run), ServeOptions(port=0, web_port=0))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_and_the_run_is_resumed(tmp_path, number):
    """Exit 0 within seconds, JSON lines on stderr only; the run waits for the next start."""
    command = [sys.executable, "-c", SERVE, str(tmp_path / "audit.db")]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as service:
        first = json.loads(service.stderr.readline())
        assert service.stdout.readline() == "begun\n"
        service.send_signal(number)
        out, rest = service.communicate(timeout=30)
    events = [first["event"], *(json.loads(line)["event"] for line in rest.splitlines())]
    assert (service.returncode, out) == (0, "")
    assert events == ["service_started", "run_started", "run_stopped", "service_stopped"]
    with opened(tmp_path) as store:
        assert [job.state.value for job in store.jobs.jobs()] == ["queued"]


def test_the_log_has_no_secrets(store):
    """Neither tokens nor headers."""
    log = io.StringIO()
    with serving(backend(store), log=log) as (web, _):
        web.get("/v1/runs", headers={"Authorization": "Bearer very-secret"})
    assert "very-secret" not in log.getvalue()
