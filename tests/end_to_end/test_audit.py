"""An audit from configuration to report, and that every number of it follows from the bank and the scores."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bank.join import load_table
from audit_plugin.bank.store import ProbeBank
from audit_plugin.config import load
from audit_plugin.core.values import Arm
from audit_plugin.methods.depict import audit
from audit_plugin.report.document import read_report
from audit_plugin.store.store import Store
from audit_plugin.target.triton import TritonClassifier
from tests.end_to_end.site import NOWHERE, Site

pytestmark = pytest.mark.triton
BETRAYED, CLEAN = "shape_background_100", "shape_clean"


@pytest.fixture
def results(audited):
    """Model -> what the store holds of its first audit."""
    store = Store.open(audited[0].folder / "audit.sqlite")
    yield {record.model: store.run(record.run) for record in store.runs()}
    store.close()


@pytest.fixture
def copy(audited, tmp_path):
    """The audited installation elsewhere, free to be changed."""
    return Site(shutil.copytree(audited[0].folder, tmp_path / "copy"))


def test_the_planted_shortcut_is_found(audited, results):
    """Findings end with 1; the betrayed model needs the background, the clean one the shape alone."""
    assert audited[1].code == 1, audited[1].err
    assert [finding.concept for finding in results[BETRAYED].findings] == ["background"]
    assert results[CLEAN].findings == ()
    assert {one.concept: one.verdict for one in results[CLEAN].concepts}["shape"] == "relies"


def test_every_audit_judges_its_controls(audited, results):
    """Both models' audits find what is planted in a control of their own, accuse a clean one of nothing, and say so."""
    for result in results.values():
        planted, clean = result.controls.planted, result.controls.clean
        assert (planted.alarmed, planted.accused, planted.concept) == (True, "background", "background")
        assert planted.effect.low > 0.1
        assert (clean.alarmed, clean.concept) == (False, "shape")
    assert audited[1].out.count("controls: planted reliance on background found") == 2
    assert "clean control silent" in (audited[0].folder / "report" / "report.html").read_text()


def test_what_is_said_where(audited):
    """Verdicts and nothing else on stdout; stages, costs and the report's place on stderr, in plain lines."""
    answer = audited[1]
    assert "background" in answer.out
    assert "2 inconclusive" in answer.out  # 40 rows cannot show that anything is negligible
    assert "network evaluations" not in answer.out
    assert "images: 325 in" in answer.err
    assert "325 network evaluations (renderer: drawn by the renderer), 650 classifier queries" in answer.err
    assert "\x1b" not in answer.out + answer.err
    assert "\r" not in answer.err
    assert "warn" not in answer.err.lower()


def test_the_report_is_what_the_store_holds(audited, results):
    """Page, document and card are written, and the document has the stored results."""
    folder = audited[0].folder / "report"
    assert sorted(path.name for path in folder.iterdir()) == ["model_card.md", "report.html", "report.json"]
    assert {result.model: result for result in read_report(folder).results} == results
    assert (folder / "report.html").read_text().count("data:image/png") > 20


def test_every_number_follows_from_the_tables(audited, results):
    """Bank and scores, read back from disk, give the stored results again."""
    site, store = audited[0], Store.open(audited[0].folder / "audit.sqlite")
    bank, options = ProbeBank.open(site.folder / "bank"), load(site.config).config.analysis
    table = load_table(bank, detector=bank.detectors()[0])
    for result in results.values():
        scores = store.scores.get(_target(site, result.model), bank.usable())
        seed, classes = f"end-to-end/{result.model}", ("negative", "positive")
        again = audit(table, scores, label="label", classes=classes, seed=seed, positive="positive", options=options)
        for concept, before in zip(again.concepts, result.concepts, strict=True):
            assert replace(concept, notes=(), validity="") == replace(before, notes=(), validity="")
        assert again.pairs == result.pairs
    store.close()


def test_importance_by_hand(audited, results):
    """The AUROC drop of the background, from the two SQLite files by nothing but numpy."""
    probes, labels = _scored_probes(audited[0])
    rows = sorted(labels)
    positive = np.array([labels[row] == "positive" for row in rows])
    base = np.array([probes[row, "baseline", -1][0] for row in rows])
    own = np.array([probes[row, "baseline", -1][1] for row in rows])
    flips = np.array([[base[i] if own[i] == v else probes[row, "flip", v][0] for v in range(4)] for i, row in enumerate(rows)])
    share = np.bincount(own, minlength=4) / len(rows)
    wins = (flips[positive][:, None, :, None] > flips[~positive][None, :, None, :]).astype(float)
    wins += 0.5 * (flips[positive][:, None, :, None] == flips[~positive][None, :, None, :])
    permuted = np.einsum("ijvw,v,w->", wins, share, share) / (positive.sum() * (~positive).sum())
    whole = (base[positive][:, None] > base[~positive][None]).mean() + 0.5 * (
        base[positive][:, None] == base[~positive][None]
    ).mean()
    found = next(one for one in results[BETRAYED].concepts if one.concept == "background")
    assert found.importance.value == pytest.approx(whole - permuted, abs=1e-9)


def _target(site, model):
    """Key of a model in the score table."""
    options = next(one.target for one in load(site.config).models if one.target.model == model)
    with TritonClassifier.connect(options) as classifier:
        return classifier.info.id


def _scored_probes(site):
    """(row, arm, level) -> (positive score by the betrayed model, own background), and row -> label."""
    target = _target(site, BETRAYED)
    with closing(sqlite3.connect(site.folder / "audit.sqlite")) as database:
        scores = dict(database.execute("SELECT sha256, vector FROM scores WHERE target = ?", [target]))
    with closing(sqlite3.connect(site.folder / "bank" / "bank.sqlite")) as database:
        query = "SELECT p.document, i.sha256 FROM probes p JOIN images i ON i.recipe = p.recipe"
        drawn = [(json.loads(document), sha) for document, sha in database.execute(query)]
        rows = [json.loads(document) for (document,) in database.execute("SELECT document FROM rows")]
    wanted = [(p, sha) for p, sha in drawn if p["arm"] == Arm.BASELINE or (p["arm"], p["concept"]) == (Arm.FLIP, "background")]
    probes = {(p["row"], p["arm"], p["level"]): (np.frombuffer(scores[sha])[1], p["values"][1]) for p, sha in wanted}
    return probes, {row["id"]: row["labels"]["label"] for row in rows}


def test_a_second_audit_costs_nothing(copy):
    """Same bank, same version: no evaluation, no query, the same numbers; and it says so."""
    before = {result.model: result for result in read_report(copy.folder / "report").results}
    answer = copy.run("run")
    assert "0 network evaluations (the bank was complete, nothing was drawn), 0 classifier queries" in answer.err
    for result in read_report(copy.folder / "report").results:
        assert result.concepts == before[result.model].concepts
        assert result.provenance.unet_evaluations == 0
    assert len(read_report(copy.folder / "report").history) == 2


def test_a_bank_from_elsewhere_needs_no_generator(copy):
    """Where the generator's directory is missing, a complete bank is audited all the same."""
    shutil.rmtree(copy.folder / "generator")
    assert copy.run("run", "--model", CLEAN).code == 0


def test_another_generator_draws_anew(copy):
    """Changed settings are never taken for the old ones."""
    copy.change(generator={"steps": 3})
    assert "loading the generator" in copy.run("bank", "build").err


def test_reports_need_no_real_images(copy):
    """Source, generator and server are gone: the report of the last runs can still be written, with its pictures."""
    for name in ("scenes", "generator", "report"):
        shutil.rmtree(copy.folder / name)
    copy.change(server={"url": NOWHERE})
    answer = copy.run("report")
    assert answer.code == 0, answer.err
    assert (copy.folder / "report" / "report.html").read_text().count("data:image/png") > 20
    assert answer.out.splitlines()[-1] == str(copy.folder / "report" / "report.html")


def test_one_run_in_one_form(copy, results):
    """``--run`` and a file name give that run's document alone."""
    run, document = results[CLEAN].run, copy.folder / "one.json"
    assert copy.run("report", "--run", run, "--out", str(document)).out == f"{document}\n"
    assert [result.run for result in read_report(document).results] == [run]


def test_damaged_pictures_are_drawn_again(copy):
    """``bank verify`` names a bent picture and exits with 3; the next build heals the bank."""
    before, victim = copy.pictures(), next((copy.folder / "bank" / "images").rglob("*.png"))
    victim.write_bytes(b"bent")
    answer = copy.run("bank", "verify")
    assert answer.code == 3
    assert "corrupt                      1" in answer.out
    assert copy.run("bank", "build").code == 0
    assert sorted(copy.pictures()) == sorted(before)


def test_status_and_doctor(copy):
    """The last verdicts are told with the run's exit code, and every part is there."""
    status = copy.run("status", "--output", "json")
    assert status.code == 1
    assert [result["model"] for result in json.loads(status.out)] == [BETRAYED, CLEAN]
    doctor = copy.run("doctor", "--output", "json")
    assert doctor.code == 0, doctor.out
    assert {check["subject"] for check in json.loads(doctor.out)} >= {"source", "generator", "bank", "store", f"model {CLEAN}"}


def test_doctor_compares_table_and_classes(copy):
    """Class names that the table does not spell are found before a run refuses them."""
    copy.change(server={"labels": ["no", "yes"]})
    doctor = copy.run("doctor", "--output", "json")
    refused = [check for check in json.loads(doctor.out) if not check["ok"]]
    assert (doctor.code, {check["check"] for check in refused}) == (3, {"classes"})
    assert all("that are not among the model's classes" in check["detail"] for check in refused)


def test_a_generator_to_be_trained_is_said_first(copy):
    """Before a detector is trained: the command that makes the generator is named."""
    shutil.rmtree(copy.folder / "generator")
    shutil.rmtree(copy.folder / "bank")
    copy.change(generator={"train": {"where": {"split": "train"}}}, detector={"path": "nowhere.onnx", "train": {}})
    answer = copy.run("bank", "build")
    assert answer.code == 3
    assert "`audit-plugin generator train` makes it" in answer.err
    assert not (copy.folder / "nowhere.onnx").exists()


def test_a_dry_run_of_a_complete_bank(copy):
    """Nothing to draw: the price is nought and no engine is loaded."""
    answer = copy.run("run", "--dry-run", "--output", "json")
    price = json.loads(answer.out)
    assert (answer.code, price["images"], price["images_reused"], price["unet_evaluations"]) == (0, 0, 325, 0)
    assert price["classifier_queries_at_most"] == 2 * (325 + 40)
    assert "loading" not in answer.err


def test_one_model_that_cannot_be_asked(copy):
    """The other is audited and reported; the error comes last, with its exit code."""
    copy.change(models=[copy.document()["models"][1], {"model": "nobody", "label": "label"}])
    answer = copy.run("run")
    assert answer.code == 3
    assert CLEAN in answer.out
    assert answer.err.splitlines()[-1].startswith("error: ")
    assert "nobody" in answer.err.splitlines()[-1]
