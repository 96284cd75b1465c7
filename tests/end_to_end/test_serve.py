"""``audit-plugin serve`` as operators run it: a process, its port, its signals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from itertools import product
from urllib.error import URLError

import pytest

from audit_plugin.demo.server import free_ports
from tests.end_to_end.site import NOWHERE, ROOT, Site
from tests.end_to_end.slow_cli import wait_until

pytestmark = pytest.mark.triton
PATIENT = {"seconds": 120, "pause": 0.3}


def read(url):
    """The page, or nothing while it is not there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except (URLError, ConnectionError):
        return ""


@pytest.fixture
def site_of(audited, tmp_path):
    """A copy of an audited installation with an empty store."""
    site = Site(shutil.copytree(audited[0].folder, tmp_path / "served"))
    (site.folder / "audit.sqlite").unlink()
    return lambda: site


@pytest.fixture
def serve(site_of):
    """Starts the service there; configured by the environment."""
    site, (port, web), started = site_of(), free_ports(2), []

    def start(**environment):
        ports = {"SERVE__PORT": str(port), "SERVE__WEB_PORT": str(web)}
        changes = {f"AUDIT_PLUGIN__{name}": value for name, value in (ports | environment).items()}
        command = [sys.executable, "-c", "from audit_plugin.cli import main; main()", "serve", str(site.config)]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | changes, **output))
        return started[0], f"http://127.0.0.1:{port}", f"http://127.0.0.1:{web}"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_an_audit_and_a_clean_end(serve):
    """The importance of every concept is scraped after the first audit; its report is there; SIGTERM ends with 0 and nothing on stdout."""
    process, url, web = serve()
    wait_until(lambda: 'model="shape_clean"' in read(f"{url}/metrics"), process, **PATIENT)
    shown = [line for line in read(f"{url}/metrics").splitlines() if line.startswith("audit_plugin_concept_importance_ratio{")]
    for model, concept in product(("shape_clean", "shape_background_100"), ("shape", "background", "ruler")):
        assert any(f'model="{model}"' in line and f'concept="{concept}"' in line for line in shown)
    wait_until(lambda: "audit_plugin_target_up 1.0" in read(f"{url}/metrics"), process, **PATIENT)
    wait_until(lambda: '"finished_at":null' not in read(f"{web}/v1/runs"), process, **PATIENT)
    (run,) = json.loads(read(f"{web}/v1/runs"))["items"]
    assert (run["cause"], len(run["results"])) == ("interval", 2)
    assert "data:image/png" in read(web + run["results"][0]["report"])
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert out == ""
    assert "run_finished" in said


def test_sighup_reads_the_configuration_again(serve, site_of):
    """What cannot be used changes nothing and is told; what can is served within seconds, by the same process."""
    process, url, web = serve(SERVER__URL=NOWHERE, SERVE__INTERVAL_SECONDS="1000000")
    wait_until(lambda: "audit_plugin_config_last_reload_successful 1.0" in read(f"{url}/metrics"), process, **PATIENT)
    good = site_of().config.read_text()
    site_of().config.write_text(good.replace("version: 1", "version: 2"))
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "audit_plugin_config_last_reload_successful 0.0" in read(f"{url}/metrics"), process, **PATIENT)
    site_of().config.write_text(good.replace("model: shape_clean", "model: shape_new"))
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "shape_new" in read(f"{web}/v1/models"), process, **PATIENT)
    assert "audit_plugin_config_last_reload_successful 1.0" in read(f"{url}/metrics")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_server_that_is_away(serve):
    """Metrics and health answer at once all the same, and say that the target is down; the API says why."""
    process, url, web = serve(SERVER__URL=NOWHERE)
    wait_until(lambda: "audit_plugin_target_up 0.0" in read(f"{url}/metrics"), process, **PATIENT)
    assert read(f"{url}/livez") == "ok\n"
    assert [model["up"] for model in json.loads(read(f"{web}/v1/models"))["items"]] == [False, False]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
