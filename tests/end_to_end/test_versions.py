"""A new version of a model is audited on the pictures that are there."""

import shutil

import pytest
import tritonclient.grpc as triton

from audit_plugin.demo.repository import write_model
from audit_plugin.demo.server import TritonServer
from audit_plugin.report.document import read_report
from tests.end_to_end.site import ROOT

pytestmark = pytest.mark.triton
MODEL = "shape_clean"


@pytest.fixture
def deployed(triton_kit, tmp_path):
    """A server on which new versions can be loaded."""
    shutil.copytree(ROOT / "triton_repo" / MODEL, tmp_path / "repository" / MODEL)
    with TritonServer(tmp_path / "repository", kit=triton_kit, log_file=tmp_path / "log", load=[MODEL]) as server:
        yield server
        server.kill()  # a polite end takes seconds


def test_a_new_version_costs_queries_only(deployed, site):
    """No evaluation, one query a picture, the version pinned; the old version's scores stay as they are."""
    site.change(server={"url": deployed.grpc_url}, models=[{"model": MODEL, "label": "label", "positive": "positive"}])
    site.run("run")
    (first,), before = read_report(site.folder / "report").results, site.scores()
    other = ROOT / "triton_repo" / "shape_background_100" / "1" / "model.onnx"
    write_model(deployed.repository, MODEL, other, ("negative", "positive"), version=2)
    with triton.InferenceServerClient(deployed.grpc_url) as client:
        client.load_model(MODEL)
    answer = site.run("run")
    (second,) = read_report(site.folder / "report").results
    assert (first.version, second.version) == ("1", "2")
    assert f"0 network evaluations (the bank was complete, nothing was drawn), {len(before)} classifier queries" in answer.err
    assert set(before) <= set(site.scores())
    assert len(site.scores()) == 2 * len(before)


def test_a_pinned_version_is_the_one_asked(deployed, site):
    """``version`` in the configuration holds against newer ones."""
    other = ROOT / "triton_repo" / "shape_background_100" / "1" / "model.onnx"
    write_model(deployed.repository, MODEL, other, ("negative", "positive"), version=2)
    with triton.InferenceServerClient(deployed.grpc_url) as client:
        client.load_model(MODEL)
    site.change(server={"url": deployed.grpc_url}, models=[{"model": MODEL, "label": "label", "version": 1}])
    site.run("run")
    assert read_report(site.folder / "report").results[0].version == "1"
