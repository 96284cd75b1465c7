"""Counterfactuals from the command line: a real server, a miniature editor of 8 pixels, an installation that was audited before."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from audit_plugin import wiring
from audit_plugin.report.document import read_report
from engines.serving import export as exporting
from tests.end_to_end.site import ASSETS, Site
from tests.engines.pipelines import miniatures

pytestmark = pytest.mark.triton
MODEL = "shape_background_100"
SMALL = {
    "images": 1, "free": 1, "kept": 4, "signal": 0.6, "bisections": 0, "particles": 2,
    "steps": 2, "paths": 1,
}  # fmt: skip


@pytest.fixture
def copy(audited, tmp_path, monkeypatch, real_engine):
    """The audited installation elsewhere, with a real engine for the editor."""
    monkeypatch.setattr(wiring, "EngineGenerator", real_engine)
    site = Site(shutil.copytree(audited[0].folder, tmp_path / "copy"))
    return site.change(explain={"generator": str(miniatures.save(miniatures.ddpm, tmp_path / "editor"))})


def test_explain_reports_counterfactuals_of_the_last_run(copy):
    """By scores alone, as the server offers no gradient; a second time costs no picture and no question.

    Another model of the server is the witness, and its output stands for features.
    """
    copy.change(explain={**SMALL, "runs": 2, "witness": {"model": "shape_clean"}, "features": {"model": "shape_clean", "size": 64}})
    answer = copy.run("explain", "--model", MODEL)
    assert answer.code == 0, answer.err
    assert "ensemble" in answer.out
    assert "gradient_free" in answer.out
    assert "report.html" in answer.err
    (result,) = read_report(copy.folder / "report").results
    told = result.counterfactuals
    assert (result.model, told.rung, len(told.items)) == (MODEL, "gradient_free", 1)
    assert "no gradient model 'shape_background_100_vjp'" in told.passed_over[0]
    assert all(item.queries > 0 and item.original != item.target for item in told.items)
    assert told.witness.startswith("shape_clean version ")
    assert all((item.witness is not None) == item.flipped for item in told.items)
    assert {(one.name, one.network) for one in told.sets} == {
        (name, "shape_clean:probabilities") for name in ("FID", "sFID", "KID")
    }
    assert all(one.refused for one in told.sets)
    assert (told.diversity.runs, told.diversity.distance) == (2, "l1")
    assert "Counterfactual" in (copy.folder / "report" / "report.html").read_text()
    scores = len(copy.scores())
    other = copy.folder / "again.json"
    assert copy.run("explain", "--model", MODEL, "--out", str(other)).code == 0
    (again,) = read_report(other).results
    assert again.counterfactuals == replace(told, figures=replace(told.figures, seconds=None))
    assert len(copy.scores()) == scores


def test_one_class_is_explained_by_its_presence_and_absence(copy):
    """Whatever else the model answers; `doctor` looks at what is configured."""
    copy.change(explain={**SMALL, "gradients": {MODEL: {"rung": "gradient_free", "of_class": "positive"}}})
    assert copy.run("explain", "--model", MODEL).code == 0
    (result,) = read_report(copy.folder / "report").results
    told = result.counterfactuals
    assert told.positive == "positive"
    assert [{item.original, item.target} for item in told.items] == [{"not positive", "positive"}]
    checks = json.loads(copy.run("doctor", "--output", "json").out)
    found = {(check["subject"], check["check"]): check["ok"] for check in checks if check["subject"].startswith("explain")}
    assert found == {("explain", "editor"): True, (f"explain {MODEL}", "class"): True}


def test_explain_says_what_is_missing(copy, tmp_path):
    """Nothing configured, a class that there is not, a model that was not audited; each in one line, with 2."""
    answer = copy.change(explain=None).run("explain")
    assert (answer.code, "explain: this key is required" in answer.err) == (2, True)
    editor = {"generator": str(copy.folder.parent / "editor")}
    copy.change(explain={**editor, **SMALL, "likeness": {"model": "shape_clean"}})
    answer = copy.run("explain", "--model", MODEL)
    assert (answer.code, "takes pictures of (64, 64), not (8, 8); set the network's `size`" in answer.err) == (3, True)
    copy.change(explain={"likeness": None, "targets": {"positiv": "negative"}})
    answer = copy.run("explain", "--model", MODEL)
    assert (answer.code, "explain.targets: the model has no class 'positiv'; " in answer.err) == (2, True)
    copy.change(explain={**editor, **SMALL, "targets": {"positive": "negative"}}, store=str(tmp_path / "empty.sqlite"))
    answer = copy.run("explain", "--model", MODEL)
    assert (answer.code, "was not audited yet" in answer.err) == (2, True)


def test_a_gradient_model_is_written_beside_the_classifier(copy, tmp_path, monkeypatch):
    """Only of the file that the server runs, for pictures of the editor's size; how it is written is tested with the engines."""
    written = []

    def export(network, repository, **settings):
        written.append((network, repository, settings))
        return [repository / settings["name"]]

    monkeypatch.setattr(exporting, "export_classifier", export)
    copy.change(explain={**SMALL, "images": 12})
    options = ("--model", MODEL, "--repo", str(tmp_path / "models"), "--batches", "1,4")
    answer = copy.run("engines", "export-vjp", *options, "--file", str(ASSETS / "planted" / f"{MODEL}.onnx"))
    assert answer.code == 0, answer.err
    assert f"{MODEL}_vjp" in answer.out
    assert f"--load-model={MODEL}_vjp" in answer.err
    ((network, repository, settings),) = written
    assert (repository, settings["image"], settings["buckets"]) == (tmp_path / "models", (3, 8, 8), (1, 4))
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    answer = copy.run("engines", "export-vjp", *options, "--file", str(ASSETS / "planted" / "colour_alone.onnx"))
    assert answer.code == 3
    assert "the file is not the deployed model" in answer.err
    answer = copy.run("engines", "export-vjp", "--model", "nobody", "--repo", str(tmp_path), "--file", "x.onnx")
    assert (answer.code, "no audited model is called 'nobody'" in answer.err) == (2, True)
    assert len(written) == 1
