"""The page in a real browser: no complaint on the console, no request but the file itself, nothing wider than a phone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from audit_plugin.report.html import render
from tests.methods.counterfactuals.flips import told
from tests.report import factory, finds, woods

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
OF_THE_BROWSER = re.compile(r"^https?://[a-z0-9.-]*\.(google|googleapis|gvt1)\.com/")
"""What Chromium asks for by itself, whatever page it shows; nothing of it gets through."""


def browse(page: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    gallery = factory.Gallery()
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(
        render(
            [
                factory.planted(gallery, diffex=woods.grown(gallery), counterfactuals=told(20), discovery=finds.found(gallery)),
                factory.clean(gallery),
                factory.broken(gallery),
            ],
            gallery,
        )
    )
    return file


def test_the_browser_has_nothing_to_complain_about(page, tmp_path):
    """The policy admits the style sheet and every picture, and the page asks the network for nothing."""
    log = tmp_path / "net.json"
    done = browse(page, tmp_path, "--dump-dom", f"--log-net-log={log}")
    assert "CONSOLE" not in done.stderr, done.stderr
    asked = set(re.findall(r'"url":"([^"]+)"', log.read_text()))
    assert not [url for url in asked if url.startswith(("http:", "https:", "ws")) and not OF_THE_BROWSER.search(url)]
    assert "scenes_planted" in done.stdout


def test_a_phone_needs_no_sideways_scrolling(page, tmp_path):
    """In a frame as wide as a phone the page is as wide as the frame; the frame's own script measures it."""
    measure = tmp_path / "phone.html"
    text = page.read_text()
    script = "<script>addEventListener('load', () => document.title = 'width ' + document.documentElement.scrollWidth)</script>"
    (tmp_path / "copy.html").write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]+>', script, text))
    measure.write_text(
        "<iframe src='copy.html' style='width:390px;height:900px;border:0'></iframe>"
        "<script>addEventListener('load', () => document.title = frames[0].document.title)</script>"
    )
    done = browse(measure, tmp_path, "--dump-dom", "--allow-file-access-from-files")
    assert "<title>width 390</title>" in done.stdout, json.dumps(re.findall("<title>.*?</title>", done.stdout))
