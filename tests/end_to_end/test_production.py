"""Everything at once, as in production: Triton, the service, Prometheus and Alertmanager with the shipped configuration, a webhook receiver.

Only durations of the shipped rules and routes are shortened, all by the same measure, and addresses filled in: what takes a quarter of an hour
there takes seconds here.
"""

import json
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import tritonclient.grpc as triton
import yaml

from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer, free_ports
from audit_plugin.findings.history import LifeCycle
from audit_plugin.store.store import Store
from tests.end_to_end.site import ROOT, Site, rows_of
from tests.end_to_end.slow_cli import start, wait_until

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("prometheus-alertmanager")),
        reason="needs prometheus and prometheus-alertmanager",
    ),
]
MODEL = "shape_background_100"
CLEAN = ROOT / "triton_repo" / "shape_clean" / "1" / "model.onnx"
SHORTER = 150
"""A quarter of an hour becomes six seconds."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def shortened(text):
    """The durations of a configuration, divided; none below a second."""

    def shorter(found):
        return f"{max(1, round(int(found[1]) * _UNITS[found[2]] / SHORTER))}s"

    return re.sub(r"(?<=[\s\[])(\d+)([smhdw])(?=[\]\s]|$)", shorter, text)


class Receiver:
    """What Alertmanager posts, alert by alert."""

    def __init__(self):
        self.told, receiver = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.told += [(alert["status"], alert["labels"]) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/tickets"

    def last(self, **labels):
        """The last word on an alert with these labels: firing, resolved or nothing."""
        said = [status for status, told in self.told if labels.items() <= told.items()]
        return said[-1] if said else None


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


@contextmanager
def child(command, log, ready):
    """A process of the monitoring, ended with the test."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: answers(ready), process, seconds=30)
        yield
    finally:
        process.terminate()
        process.wait(20)


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture
def monitoring(tmp_path, receiver):
    """Prometheus and Alertmanager with the files that are shipped; yields the port that the service is scraped on."""
    port, prometheus, alertmanager = free_ports(3)
    files = {
        name: (ROOT / "deploy" / name).read_text()
        for name in ("prometheus/prometheus.yml", "prometheus/rules.yml", "alertmanager/alertmanager.yml")
    }
    scraping = shortened(files["prometheus/prometheus.yml"]).replace("127.0.0.1:18877", f"127.0.0.1:{port}")
    (tmp_path / "prometheus.yml").write_text(scraping.replace("127.0.0.1:9093", f"127.0.0.1:{alertmanager}"))
    (tmp_path / "rules.yml").write_text(shortened(files["prometheus/rules.yml"]))
    routing = shortened(files["alertmanager/alertmanager.yml"]).replace("http://127.0.0.1:9094/tickets", receiver.url)
    (tmp_path / "alertmanager.yml").write_text(routing)
    assert yaml.safe_load(routing)["route"]["group_wait"] == "1s"
    with (
        child(
            [
                "prometheus-alertmanager",
                f"--config.file={tmp_path / 'alertmanager.yml'}",
                f"--storage.path={tmp_path / 'alerts'}",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ],
            tmp_path / "alertmanager.log",
            f"http://127.0.0.1:{alertmanager}/-/ready",
        ),
        child(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{prometheus}",
            ],
            tmp_path / "prometheus.log",
            f"http://127.0.0.1:{prometheus}/-/ready",
        ),
    ):
        yield port


@pytest.fixture
def deployed(triton_kit, tmp_path):
    """The planted model, on a server on which new versions can be loaded."""
    shutil.copytree(ROOT / "triton_repo" / MODEL, tmp_path / "repository" / MODEL)
    with TritonServer(tmp_path / "repository", kit=triton_kit, log_file=tmp_path / "log", load=[MODEL]) as server:
        yield server
        server.kill()


@pytest.fixture
def installed(audited, deployed, monitoring, tmp_path):
    """An installation whose pictures are drawn, with an empty store; the service looks at the server every second."""
    site, web = Site(shutil.copytree(audited[0].folder, tmp_path / "site")), free_ports(1)[0]
    (site.folder / "audit.sqlite").unlink()
    site.change(
        server={"url": deployed.grpc_url},
        models=[{"model": MODEL, "label": "label", "positive": "positive"}],
        serve={"port": monitoring, "web_port": web, "watch_seconds": 1.0},
    )
    return site, f"http://127.0.0.1:{web}"


@pytest.fixture
def service(installed):
    """Starts the service; whatever is left of it is ended with the test."""
    started = []

    def starting():
        started.append(start(installed[0], "serve", pause=0.0))
        return started[-1]

    yield starting
    for process in started:
        process.kill()
        process.communicate()


def test_from_a_planted_model_to_a_ticket_and_back(installed, service, deployed, receiver):
    """A planted model's alert reaches the webhook; its clean successor is audited by itself and the alert resolves; a service that is killed is
    missed, loses nothing, and says after its return what it said before.
    """
    site, web = installed
    alarm = {"alertname": "AuditPluginReliesOnSpuriousConcept", "model": MODEL, "concept": "background"}
    process = service()
    wait_until(lambda: receiver.last(**alarm) == "firing", process, seconds=180, pause=0.1)

    write_model(deployed.repository, MODEL, CLEAN, ("negative", "positive"), version=2)
    with triton.InferenceServerClient(deployed.grpc_url) as client:
        client.load_model(MODEL)
    wait_until(lambda: receiver.last(**alarm) == "resolved", process, seconds=180, pause=0.1)
    runs = httpx.get(f"{web}/v1/runs").json()["items"]
    assert next(run["cause"] for run in runs) == f"version {MODEL}:2"
    assert {finding["state"] for finding in httpx.get(f"{web}/v1/findings").json()["items"]} == {"resolved"}

    before = rows_of(site.folder / "audit.sqlite", "SELECT run, document FROM runs ORDER BY run")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: receiver.last(alertname="AuditPluginAbsent") == "firing", seconds=120, pause=0.1)
    assert rows_of(site.folder / "audit.sqlite", "SELECT run, document FROM runs ORDER BY run") == before
    store = Store.open(site.folder / "audit.sqlite")
    assert {finding.state for finding in store.findings()} == {LifeCycle.RESOLVED}
    store.close()

    process = service()
    wait_until(lambda: receiver.last(alertname="AuditPluginAbsent") == "resolved", process, seconds=120, pause=0.1)
    shown = httpx.get(f"http://127.0.0.1:{site.document()['serve']['port']}/metrics").text
    assert re.search(rf'concept_importance_ratio{{concept="background",.*model="{MODEL}",.*version="2"', shown)
    time.sleep(3)  # longer than the watch takes to look again
    assert len(httpx.get(f"{web}/v1/runs").json()["items"]) == len(runs)
    assert receiver.last(**alarm) == "resolved"
