"""``audit-plugin demo`` at a tiny size: real Triton, real drawing, real verdicts."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from audit_plugin.config import load
from audit_plugin.demo.prometheus import LOCALLY, PrometheusError, installed, locally, scraping
from audit_plugin.demo.truth import ASSETS
from audit_plugin.demo.world import MODELS, World, balanced_values, configuration
from audit_plugin.metrics.sample import Sample
from audit_plugin.sources.folder import open_folder
from audit_plugin.sources.scenes import CONCEPTS
from audit_plugin.studios import LOCK_NAME
from tests.end_to_end.site import cli

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("audit-plugin")
NAMES = {concept.name for concept in CONCEPTS}
ROWS = 4


def command(out):
    return [COMMAND, "demo", "--out", str(out), "--rows", str(ROWS)]


def processes_of(out):
    """Command lines of running processes that name the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if str(out) in words and int(path.parent.name) != os.getpid():
            found.append(words)
    return found


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@pytest.fixture(scope="module")
def first(triton_kit, tmp_path_factory):  # noqa: ARG001
    """The first run, where there is no Prometheus: its directory, what it printed, its summary."""
    folder = tmp_path_factory.mktemp("demo")
    out, tools = folder / "out", folder / "bin"
    tools.mkdir()
    for tool in ("bash", "sh"):  # all that Triton needs
        (tools / tool).symlink_to(shutil.which(tool))
    with (
        pytest.MonkeyPatch.context() as patched
    ):  # in this process, where the libraries are loaded already; later runs are of their own
        patched.setenv("PATH", str(tools))
        done = cli(*map(str, command(out)[1:]))
    assert done.code == 0, done.err[-3000:]
    return out, done.out, json.loads((out / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.triton
def test_the_shipped_strengths_are_those_of_the_shipped_generator(first):
    """No pilot was needed, which would have written another file."""
    assert (first[0] / "bank" / LOCK_NAME).read_bytes() == (ASSETS / LOCK_NAME).read_bytes()


@pytest.mark.slow
@pytest.mark.triton
def test_the_first_run_draws_audits_and_reports(first):
    """Everything promised is written, for both models and all concepts."""
    out, said, summary = first
    assert set(summary["models"]) == set(MODELS)
    for model in summary["models"].values():
        assert set(model["verdicts"]) == NAMES
        assert all(low <= value <= high for value, low, high in model["importance"].values())
        assert set(model["true_importance"]) in (NAMES, set())
    assert summary["unet_evaluations"] > 0
    assert summary["classifier_queries"] / 2 > summary["images"] + ROWS  # the concept tree's edits and some twins besides
    assert {"kit", "server", "build", "score", "estimate", "tree", "report", "alerts", "total"} <= set(summary["seconds"])
    assert (out / "report.html").stat().st_size > 10_000
    assert "shape_background_100" in said
    assert "Changed in the real pictures" in said
    assert not processes_of(out)


@pytest.mark.slow
@pytest.mark.triton
def test_without_prometheus_the_summary_says_who_evaluated(first):
    """Never silently."""
    _, said, summary = first
    assert summary["alerts_evaluated_by"] == f"{LOCALLY} (no `prometheus` on PATH)"
    assert LOCALLY in " ".join(said.split())


@pytest.mark.slow
@pytest.mark.triton
def test_the_second_run_costs_nothing_and_can_be_looked_at(first):
    """Bank and scores are still there; ``--keep`` serves metrics until Ctrl-C and leaves nothing behind."""
    out, _, before = first
    running = subprocess.Popen(
        [*command(out), "--keep"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    with running:
        lines = []
        while not (lines and lines[-1].startswith("Ctrl-C")):
            lines.append(running.stdout.readline())
            assert lines[-1], running.stderr.read()[-3000:]
        said = "".join(lines)
        url = re.search(r"^metrics +(\S+)/metrics$", said, flags=re.MULTILINE)[1]
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            samples = answer.read().decode()
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0
    assert all(f'audit_plugin_audit_state{{model="{model}"' in samples for model in MODELS)
    after = json.loads((out / "summary.json").read_text())
    assert (after["unet_evaluations"], after["classifier_queries"]) == (0, 0)
    assert "no network evaluation: the bank already had all" in said
    assert {name: model["importance"] for name, model in after["models"].items()} == {
        name: model["importance"] for name, model in before["models"].items()
    }
    assert after["alerts_evaluated_by"].startswith("Prometheus " if installed() else LOCALLY)
    if installed():
        assert named(after) == named(before)
    assert not processes_of(out)


def named(summary):
    """What fires for which model."""
    return {(alert["alert"], alert.get("model"), alert.get("concept")) for alert in summary["alerts_firing"]}


@pytest.mark.slow
@pytest.mark.triton
def test_ctrl_c_in_the_middle_leaves_nothing_behind(triton_kit, tmp_path):  # noqa: ARG001
    """The server is up and pictures are being drawn."""
    out = tmp_path / "out"
    with subprocess.Popen(command(out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        assert until(lambda: (out / "audit.yaml").exists() or running.poll() is not None, 120)
        running.send_signal(signal.SIGINT)
        assert running.wait(120) == 130
    assert not processes_of(out)


def test_the_configuration_reads_as_a_users(tmp_path):
    """The YAML text describes the table, the concepts and the shipped weights."""
    world = World(out=tmp_path)
    world.write_scenes(12)
    world.write_config("127.0.0.1:8001")
    loaded = load(world.config)
    rows = open_folder(loaded.config.source, loaded.document.columns).rows
    assert [concept.name for concept in loaded.document.concept_set.concepts] == [concept.name for concept in CONCEPTS]
    assert [row.values for row in rows] == [tuple(values) for values in balanced_values(12).tolist()]
    assert {row.labels["label"] for row in rows} == {"negative", "positive"}
    assert Path(loaded.config.generator.path).is_dir()
    assert Path(loaded.config.detector.path).is_file()


def test_unknown_truth_is_left_out(tmp_path):
    """A planted model that nobody measured is audited like any other."""
    assert "truth:" not in configuration(tmp_path, "127.0.0.1:8001", {"shape_clean": {}})


def test_every_level_has_thirty_rows_in_the_full_demonstration():
    """What gate G0 asks for."""
    values = balanced_values(150)
    assert min(np.bincount(values[:, j], minlength=len(c.levels)).min() for j, c in enumerate(CONCEPTS)) >= 30


def test_local_evaluation_names_model_and_concept():
    """In the form in which Prometheus' alerts are written down."""
    labels = ("m", "1", "label", "background", "auroc")
    alerts = locally([Sample("concept_breach_strong", labels, 1.0)])
    assert [(one["alert"], one["model"], one["concept"]) for one in alerts.firing] == [
        ("AuditPluginReliesOnSpuriousConcept", "m", "background")
    ]


@pytest.mark.skipif(not installed(), reason="prometheus is not installed (Debian: prometheus)")
def test_the_page_that_is_named_is_there(tmp_path):
    """Whichever pages this Prometheus comes with."""
    with scraping("http://127.0.0.1:1", tmp_path / "prometheus") as running, urllib.request.urlopen(running.page) as answer:
        assert answer.status == 200
        assert "alerts" in running.page


@pytest.mark.skipif(not installed(), reason="prometheus is not installed (Debian: prometheus)")
def test_a_prometheus_that_cannot_start_is_an_error_that_names_its_log(tmp_path, monkeypatch):
    """Its configuration is no YAML."""
    monkeypatch.setattr("audit_plugin.demo.prometheus._configuration", lambda _: "nonsense: [")
    with pytest.raises(PrometheusError, match=r"prometheus\.log"), scraping("http://127.0.0.1:1", tmp_path / "prometheus"):
        pass
