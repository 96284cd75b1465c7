"""``audit-plugin serve`` as operators run it: a process, its port, its signals."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from itertools import product
from urllib.error import URLError

import pytest

from audit_plugin.demo.server import Ports
from tests.end_to_end.site import NOWHERE, ROOT, Site
from tests.end_to_end.slow_cli import wait_until

pytestmark = pytest.mark.triton


def read(url):
    """The page, or nothing while it is not there."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except (URLError, ConnectionError):
        return ""


@pytest.fixture
def serve(audited, tmp_path):
    """Starts the service on an audited installation with an empty store; configured by the environment."""
    site, port = Site(shutil.copytree(audited[0].folder, tmp_path / "served")), Ports.free().http
    (site.folder / "audit.sqlite").unlink()
    started = []

    def start(**environment):
        changes = {f"AUDIT_PLUGIN__{name}": value for name, value in {"SERVE__PORT": str(port), **environment}.items()}
        command = [sys.executable, "-c", "from audit_plugin.cli import main; main()", "serve", str(site.config)]
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | changes, **output))
        return started[0], f"http://127.0.0.1:{port}"

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_round_and_a_clean_end(serve):
    """The importance of every concept is scraped after the first round; SIGTERM ends with 0 and nothing on stdout."""
    process, url = serve()
    wait_until(lambda: 'model="shape_clean"' in read(f"{url}/metrics"), process)
    shown = [line for line in read(f"{url}/metrics").splitlines() if line.startswith("audit_plugin_concept_importance_ratio{")]
    for model, concept in product(("shape_clean", "shape_background_100"), ("shape", "background", "ruler")):
        assert any(f'model="{model}"' in line and f'concept="{concept}"' in line for line in shown)
    wait_until(lambda: "audit_plugin_target_up 1.0" in read(f"{url}/metrics"), process)
    assert "data:image/png" in read(f"{url}/reports/" + read(url).partition("/reports/")[2].partition('"')[0])
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert out == ""
    assert "round_finished" in said


def test_a_server_that_is_away(serve):
    """Metrics and health answer at once all the same, and say that the target is down."""
    process, url = serve(SERVER__URL=NOWHERE)
    wait_until(lambda: "audit_plugin_target_up 0.0" in read(f"{url}/metrics"), process)
    assert read(f"{url}/livez") == "ok\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
