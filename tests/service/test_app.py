"""The service as its users meet it: over HTTP, and by signal."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import pytest

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import RunState
from audit_plugin.findings.findings import conclude
from audit_plugin.findings.policy import default_policy
from audit_plugin.metrics.collector import AuditCollector
from audit_plugin.metrics.process import ProcessHealth
from audit_plugin.service.app import ServiceOptions, running
from audit_plugin.service.logs import json_logger
from audit_plugin.service.pages import Pages
from audit_plugin.store.store import Store
from tests.findings.examples import result

RUN = result().run


@pytest.fixture
def store(tmp_path):
    opened = Store.open(tmp_path / "audit.db", migrate=True)
    opened.save(conclude(result(headline="<b>ham</b> relies on watermark"), default_policy()))
    yield opened
    opened.close()


@pytest.fixture
def url(store):
    options = ServiceOptions(port=0)
    health = ProcessHealth(target_up=True, config_reload_successful=True)
    with running(store, lambda: None, lambda r: f"<p>{r.model}</p>", options, health=lambda: health, log=quiet()) as url:
        yield url


def quiet():
    return json_logger(io.StringIO())


def get(url, **headers):
    """Status, body and headers, whatever the status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode(), answer.headers


@pytest.mark.parametrize(
    ("accept", "kind"), [("*/*", "text/plain"), ("application/openmetrics-text; version=1.0.0", "openmetrics")]
)
def test_metrics_are_negotiated(url, accept, kind):
    """Text 0.0.4 by default, OpenMetrics on request; store, scheduler and wiring all speak."""
    status, body, headers = get(f"{url}/metrics", Accept=accept)
    assert status == HTTPStatus.OK
    assert kind in headers["Content-Type"]
    assert 'audit_plugin_concept_breach{concept="watermark",metric="auroc",model="ham"' in body
    assert "audit_plugin_target_up 1.0" in body
    assert "audit_plugin_interval_seconds 86400.0" in body


def test_the_landing_page_lists_verdicts_alerts_and_reports(url):
    """Untrusted words are escaped, nothing is loaded from elsewhere."""
    _, body, headers = get(url)
    assert "watermark: relies, background: negligible" in body
    assert "Model ham relies on watermark" in body
    assert "<b>ham</b>" not in body
    assert f"/reports/{RUN}" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_a_report_is_rendered_from_the_stored_result(url):
    """The page is whatever the given renderer makes of it."""
    assert get(f"{url}/reports/{RUN}")[:2] == (HTTPStatus.OK, "<p>ham</p>")


@pytest.mark.parametrize("path", ["/nope", "/reports/nope", "/reports/..%2F..%2Fetc%2Fpasswd"])
def test_what_is_not_there_is_404(url, path):
    """Including attempts at other files: runs are looked up in the store, never on disk."""
    assert get(url + path)[0] == HTTPStatus.NOT_FOUND


def test_health_and_version(url):
    """Probes and version answer without asking the audited server."""
    assert get(f"{url}/livez")[:2] == (HTTPStatus.OK, "ok\n")
    assert get(f"{url}/readyz?verbose")[:2] == (HTTPStatus.OK, "rounds: ok\nstore: ok\n")
    assert json.loads(get(f"{url}/version")[1])["audit_plugin"]


def pages(store, **options):
    return Pages(**{"store": store, "collector": AuditCollector(store=store), "render": str, "working": lambda: True, **options})


def test_pages_cannot_be_written(store):
    """Read-only, by method."""
    assert pages(store).respond("POST", "/").status is HTTPStatus.METHOD_NOT_ALLOWED


def test_a_lost_store_is_not_ready_but_alive(tmp_path):
    """A restart would not bring the database back, so only readiness fails."""
    store = Store.open(tmp_path / "audit.db", migrate=True)
    store.close()
    for file in tmp_path.iterdir():
        file.unlink()
    found = {path: pages(store).respond("GET", path).status.value for path in ("/livez", "/readyz", "/", "/reports/x")}
    store.close()
    assert found == {"/livez": 200, "/readyz": 503, "/": 503, "/reports/x": 503}


def test_a_dead_scheduler_is_not_alive(store):
    """Then a restart helps."""
    assert pages(store, working=lambda: False).respond("GET", "/livez").status is HTTPStatus.INTERNAL_SERVER_ERROR


def test_reports_stay_at_home_unless_opened(store):
    """Pictures are not shown to whoever reaches a public port."""
    assert pages(store, reports=False).respond("GET", f"/reports/{RUN}").status is HTTPStatus.FORBIDDEN
    assert "loopback only" in pages(store, reports=False).respond("GET", "/").body


def test_the_empty_store_has_a_landing_page():
    """The first thing a newcomer sees."""
    store = Store.open("sqlite://", migrate=True)
    assert "No data does not mean no bias" in pages(store).respond("GET", "/").body
    store.close()


def test_a_broken_run_has_its_place_on_the_page(store):
    """State and headline are shown as they are."""
    store.save(conclude(result(run="9", state=RunState.FAILED, headline="server gone"), default_policy()))
    assert "server gone" in pages(store).respond("GET", "/").body


def test_a_taken_port_is_a_config_error(store):
    """It names the option to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = ServiceOptions(port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="choose another `host` or `port`"), running(store, print, str, options):
            pass


SERVE = """
import sys, time
from audit_plugin.service.app import ServiceOptions, serve
from audit_plugin.store.store import Store
def run_all():
    time.sleep(0.5)
    print("round done", flush=True)
serve(Store.open(sys.argv[1], migrate=True), run_all, str, ServiceOptions(port=0, interval_seconds=60))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_service_after_the_running_round(tmp_path, number):
    """Exit 0, the round finished, JSON lines on stderr only."""
    command = [sys.executable, "-c", SERVE, str(tmp_path / "audit.db")]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())}) as service:
        first = json.loads(service.stderr.readline())
        service.send_signal(number)
        out, rest = service.communicate(timeout=30)
    events = [first["event"], *(json.loads(line)["event"] for line in rest.splitlines())]
    assert (service.returncode, out) == (0, "round done\n")
    assert events == ["service_started", "round_finished", "service_stopped"]
