"""Concrete parts from a configuration, with the renderer for an engine."""

import csv
import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from structlog.testing import capture_logs

from audit_plugin import wiring
from audit_plugin.bank.edit_store import edit_store
from audit_plugin.config import GeneratorOptions, load
from audit_plugin.core.diffex_results import ScoreKind
from audit_plugin.core.errors import ConfigError, GeneratorError, StorageFullError
from audit_plugin.demo.truth import ASSETS
from audit_plugin.methods.diffex import DiffexOptions
from audit_plugin.wiring import (
    EngineGenerator,
    Installation,
    asked_of,
    directory_digest,
    fit_generator_solver,
    known_fingerprint,
    learning_rows,
    open_store,
    parted,
    process_health,
    remember_fingerprint,
)
from engines.cache import BuildCache
from tests.bank.world import FakeClassifier, silent
from tests.end_to_end.site import ROOT, RenderedGenerator, make_site
from tests.engines.conftest import write_pipeline

GENERATOR = ASSETS / "generator"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Four rows; pictures come from the renderer."""
    monkeypatch.setattr(wiring, "EngineGenerator", RenderedGenerator)
    site = make_site(tmp_path / "site", 4)
    (site.folder / "generator").mkdir()
    (site.folder / "generator" / "weights").write_text("first")
    return site


def installed(site):
    return Installation(load(site.config, {}), silent)


def test_building_and_auditing_share_the_evidence(site):
    """What ``bank build`` has drawn, ``run`` finds complete."""
    first, second = installed(site).evidence(), installed(site).evidence()
    assert first.built.drawn == len(first.bank.images())
    assert first.backend == "renderer"
    assert (second.built.drawn, second.built.reused, second.backend) == (0, first.built.drawn, "none")
    assert second.bank.digest == first.bank.digest


def test_a_picture_that_was_forgotten_is_not_drawn_for_a_new_bank(site):
    """Whoever deletes the bank draws all but that one again; the audit goes on without it."""
    bank = installed(site).evidence().bank
    sha = bank.usable()[0]
    with open_store(load(site.config, {})) as store:
        store.retention.bury(sha, by="ana", reason="request 12")
    shutil.rmtree(bank.root)
    again = installed(site).evidence().bank
    assert sha in again.planned()
    assert sha not in {*again.usable(), *(name for name, _, _ in again.pictures.listed())}


class Sketches(RenderedGenerator):
    """Draws as its reference does, but darker in the last bit of every pixel; saves a step."""

    savings = ("1 step instead of the generator's own 2",)

    def generate(self, captions, seeds):
        return np.maximum(super().generate(captions, seeds) - 1 / 255, 0)

    def reference(self):
        return RenderedGenerator()


def test_a_bank_that_the_reference_did_not_draw_has_twins(site, monkeypatch):
    """One a row, drawn once; what was saved is remembered with the bank."""
    monkeypatch.setattr(wiring, "EngineGenerator", Sketches)
    first, second = installed(site).evidence(), installed(site).evidence()
    assert len(first.twins) == 4
    assert second.twins == first.twins
    assert second.savings == first.savings == Sketches.savings
    assert not first.reference
    assert installed(site).evidence().built.drawn == 0


def test_a_complete_bank_asks_for_no_engine(site, monkeypatch):
    installed(site).evidence()
    monkeypatch.setattr(wiring, "EngineGenerator", None)
    assert installed(site).evidence().built.evaluations == 0
    assert installed(site).price().draw == 0


LIGHT = """
import sys
from pathlib import Path

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "diffusers", "transformers", "onnx"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
sys.modules["onnxruntime"] = None
from audit_plugin.config import load
from audit_plugin.wiring import Installation
print(Installation(load(Path(sys.argv[1]), {}), print).evidence().built.reused)
"""


def test_a_complete_bank_is_audited_by_the_light_installation(site):
    """Where pictures and readings are there, neither an engine nor ONNX Runtime need be installed."""
    drawn = installed(site).evidence().built.drawn
    done = subprocess.run([sys.executable, "-c", LIGHT, site.config], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(drawn)


def test_more_rows_draw_only_what_is_new(site):
    """A bank that grows keeps its pictures."""
    site.change(source={"rows": 2})
    drawn = installed(site).evidence().built.drawn
    built = installed(site.change(source={"rows": 4})).evidence().built
    assert 0 < built.reused <= drawn
    assert built.drawn > 0


@pytest.mark.parametrize("setting", [{"steps": 4}, {"guidance": 2.0}, {"sampler": "ddim"}])
def test_other_settings_are_another_generator(site, setting):
    """Whatever changes the pictures voids the note; where they are drawn does not."""
    remember(site)
    assert known_fingerprint(load(site.config, {})) == "f1"
    assert known_fingerprint(load(site.change(generator={"device": "cuda", "batch": 3}).config, {})) == "f1"
    assert known_fingerprint(load(site.change(generator=setting).config, {})) is None


def test_other_weights_are_another_generator(site):
    """Changed files void the note; a directory that is not there does not, for the bank may come from elsewhere."""
    remember(site)
    (site.folder / "generator" / "weights").write_text("second")
    assert known_fingerprint(load(site.config, {})) is None
    shutil.rmtree(site.folder / "generator")
    assert known_fingerprint(load(site.config, {})) == "f1"


@pytest.mark.parametrize("note", ["", "{", "[]", "{}", "null"])
def test_a_damaged_note_is_no_note(site, note):
    remember(site)
    (site.folder / "bank" / "generator.json").write_text(note)
    assert known_fingerprint(load(site.config, {})) is None


def test_the_note_is_written_whole(site, monkeypatch):
    """A full disk leaves the old one."""
    remember(site)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageFullError):
        remember_fingerprint(load(site.config, {}), "f2")
    assert json.loads((site.folder / "bank" / "generator.json").read_text())["fingerprint"] == "f1"


def remember(site):
    (site.folder / "bank").mkdir()
    remember_fingerprint(load(site.config, {}), "f1")


def test_a_directory_is_named_by_its_content(site, tmp_path):
    """Names and bytes count; the place does not."""
    first = directory_digest(site.folder / "generator")
    assert directory_digest(shutil.copytree(site.folder / "generator", tmp_path / "copy")) == first
    (tmp_path / "copy" / "graphs" / "a").mkdir(parents=True)
    (tmp_path / "copy" / "graphs" / "a" / "model.onnx").write_bytes(b"a graph")
    assert directory_digest(tmp_path / "copy") == first
    (tmp_path / "copy" / "weights").rename(tmp_path / "copy" / "other")
    assert directory_digest(tmp_path / "copy") != first
    with pytest.raises(GeneratorError, match="is not there; give a diffusers directory"):
        directory_digest(tmp_path / "nowhere")


def test_a_report_shows_edits_where_nothing_was_drawn(site):
    """An audit by exact operators alone has no table of probes; its null edits and edits lie in the same place."""
    installation = installed(site)
    sha = edit_store(installation.loaded.config.bank.path).put(b"png")
    assert not installation.bank_exists
    assert installation.pictures()(sha) == b"png"


def test_reading_a_report_makes_no_bank(site):
    """Pictures that are not there are None."""
    assert installed(site).pictures()("0" * 64) is None
    assert not (site.folder / "bank").exists()


@pytest.mark.parametrize("where", [{}, {"ruler": ["absent", "present"]}])
def test_the_audited_rows_are_not_learnt_from(site, where):
    """Not one of them, whatever the filters look like."""
    site.change(source={"where": {"ruler": "absent"}}, detector={"train": {"where": where}})
    loaded = load(site.config, {})
    with pytest.raises(ConfigError, match=r"rows to train on are audited.*choose rows that are not"):
        learning_rows(loaded, loaded.config.detector.train)


def test_rows_to_learn_from_are_never_cut(site):
    site.change(source={"where": {"ruler": "present"}, "rows": 1}, detector={"train": {"where": {"ruler": "absent"}}})
    loaded = load(site.config, {})
    learnt = learning_rows(loaded, loaded.config.detector.train).rows
    assert {row.values[-1] for row in learnt} == {0}
    assert len(learnt) > 1


def test_a_detector_is_trained_when_there_is_none(tmp_path):
    """From the rows that are named, once; afterwards it is read from its file."""
    site = make_site(tmp_path / "site", 100)
    table = site.folder / "table.csv"
    header, *lines = table.read_text().splitlines()
    lines = [f"{line},{'test' if at < 5 else 'train'}" for at, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},split", *lines]) + "\n")
    learn = {"path": "own.onnx", "train": {"where": {"split": "train"}}, "options": {"epochs": 1}}
    site.change(source={"where": {"split": "test"}}, detector=learn)
    assert installed(site).detector.fingerprint == installed(site).detector.fingerprint
    assert (site.folder / "own.onnx").is_file()


def test_duplicates_need_something_to_compare_with(site):
    site.change(bank={"refuse_duplicates": True})
    with pytest.raises(ConfigError, match=r"name the training rows as `detector\.train\.where`"):
        installed(site).evidence()


def test_an_unknown_model_is_named_before_any_work(site):
    with pytest.raises(ConfigError, match=r"model 'x' is not in the configuration; it has shape_background_100, shape_clean"):
        next(installed(site).attempts(None, only="x"))


def test_results_and_errors_apart():
    error = ConfigError("no")
    assert parted([error]) == ((), (error,))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, r"generator\.train\.where: name the rows"),
        ({"where": {"ruler": "present"}, "recipe": {"image_siz": 64}}, r"generator\.train\.recipe\.image_siz"),
        ({"where": {"ruler": "present"}, "recipe": {"image_size": "big"}}, r"generator\.train\.recipe\.image_size"),
    ],
)
def test_training_that_cannot_start(site, train, message):
    """The recipe is checked before any picture is read."""
    if train:
        site.change(generator={"train": train})
    with pytest.raises(ConfigError, match=message):
        wiring.train_generator(load(site.config, {}), device="cpu", seconds=0, progress=silent)


def test_images_may_lie_in_an_archive(site):
    """The same rows and the same evidence as from the folder."""
    before = installed(site).real.by_row
    shutil.make_archive(str(site.folder / "photos"), "zip", site.folder / "scenes")
    shutil.rmtree(site.folder / "scenes")
    assert installed(site.change(source={"images": "photos.zip"})).real.by_row == before


@pytest.mark.triton
def test_classes_without_scores_are_not_judged_by_a_rank_metric(site, triton_server):
    """A ranking needs scores; the error comes before anything is drawn and names the way out."""
    document = {"model": "colours", "url": triton_server.grpc_url, "label": "label", "output": "class", "version": "1"}
    refused = installed(site.change(models=[document])).refusal(load(site.config, {}).models[0])
    assert isinstance(refused, ConfigError)
    assert "analysis.metric: accuracy" in str(refused)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    """A generator that draws noise in no time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_pipeline(tmp_path_factory.mktemp("miniature"))


@pytest.fixture
def impatient(monkeypatch):
    """How long which batch takes is measured for one row alone: nothing is judged by it here."""
    monkeypatch.setattr("engines.buckets.LONGEST_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("share", [None, 0.9])
def test_several_threads_draw_what_one_draws(miniature, tmp_path, share):
    """By replicas, or by one worker that keeps to a share of the device."""
    options = GeneratorOptions(path=str(miniature), steps=1, batch=2, backend="torch", threads=2, share=share, cache=str(tmp_path))
    generator, captions = EngineGenerator(options), ["a red circle"] * 2
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda seeds: generator.generate(captions, seeds), [[1, 2], [1, 2]])
    np.testing.assert_allclose(first, second, atol=2e-5)
    assert (generator.workers, sum(use.items for use in generator.engines)) == (2, 4 * 3)  # twice for guidance, and the decoder


class Queues(BaseHTTPRequestHandler):
    """Metrics of a server whose queue is long for the first readings."""

    readings: ClassVar[list[float]] = []

    def do_GET(self):
        self.readings.append(time.monotonic())
        pending = 100 if len(self.readings) <= 6 else 0
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f'nv_inference_pending_request_count{{model="a",version="1"}} {pending}\n'.encode())

    def log_message(self, *_):
        """Silent."""


@pytest.mark.usefixtures("impatient")
def test_drawing_waits_while_production_does(miniature, tmp_path):
    """No picture is drawn while the server's metrics show requests that wait."""
    with HTTPServer(("127.0.0.1", 0), Queues) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        options = GeneratorOptions(
            path=str(miniature), steps=1, batch=2, backend="torch", threads=1, production=address, cache=str(tmp_path)
        )
        generator = EngineGenerator(options)
        generator.generate(["a red circle"], [1])
        server.shutdown()
    assert len(Queues.readings) > 6
    assert sum(use.items for use in generator.engines) == 3


@pytest.mark.parametrize(("served", "reason"), [(None, "no server is configured"), ("127.0.0.1:1", "cannot be reached")])
def test_a_served_generator_needs_its_server(served, reason):
    with pytest.raises(GeneratorError, match=reason):
        EngineGenerator(GeneratorOptions(path=str(GENERATOR), backend="triton", served=served))


def test_a_solver_is_fitted_on_captions_of_the_audit_and_found_again(tmp_path):
    """Beside the generator's weights, by the plan that is configured; the reference takes none."""
    site = make_site(tmp_path / "site", 4).change(generator={"batch": 8})
    generator = shutil.copytree(GENERATOR, site.folder / "generator")
    (generator / "solvers.json").unlink()
    with pytest.raises(GeneratorError, match="has no solver of 2 steps"):
        EngineGenerator(GeneratorOptions(path=str(generator), solver=2, backend="torch"))
    shown = []
    report = fit_generator_solver(
        load(site.config, {}), steps=2, pictures=16, progress=lambda done, total, what: shown.append((done, total, what))
    )
    assert (report.steps, report.own_steps, len(report.levels)) == (2, 8, 3)
    assert report.error < report.plain_error
    assert (16, 16, "pictures of the whole plan") in shown
    assert shown[-1] == (7, 7, "candidates")
    drawn = EngineGenerator(GeneratorOptions(path=str(generator), solver=2, backend="torch"))
    assert (drawn.evaluations_per_image, drawn.reference().evaluations_per_image) == (2, 8)
    assert drawn.savings == ("2 steps instead of the generator's own 8",)


def test_what_keeps_a_solver_from_being_kept_is_said_before_anything_is_drawn(tmp_path, monkeypatch):
    from engines.pipelines import solvers

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    site = make_site(tmp_path / "site", 4)
    shutil.copytree(GENERATOR, site.folder / "generator")
    monkeypatch.setattr(solvers, "NamedTemporaryFile", full)
    monkeypatch.setattr(solvers, "fit_plan", None)  # is not reached
    with pytest.raises(GeneratorError, match=r"cannot be written .* No space left on device"):
        fit_generator_solver(load(site.config, {}), steps=2, pictures=32, progress=silent)


def test_the_shipped_solvers_belong_to_the_shipped_weights():
    for steps in (4, 5):
        drawn = EngineGenerator(GeneratorOptions(path=str(GENERATOR), solver=steps, backend="torch"))
        assert drawn.evaluations_per_image == steps


def test_a_process_tells_its_cache_and_its_share(tmp_path):
    """Of the configured directory; one that cannot be read is not told."""
    site = make_site(tmp_path / "site", 4)
    builds = BuildCache(tmp_path / "builds")
    builds.obtain("key", lambda folder: (folder / "graph").write_bytes(bytes(1000)))
    site.change(generator={"path": "generator", "cache": str(tmp_path / "builds"), "share": 0.3})
    told = process_health(load(site.config, {}), target_up=True)
    assert (told.target_up, told.engine_share) == (True, 0.3)
    assert 1000 <= told.engine_cache_bytes < 3000
    (tmp_path / "file").write_text("")
    site.change(generator={"cache": str(tmp_path / "file"), "share": None})
    told = process_health(load(site.config, {}), target_up=None)
    assert (told.engine_cache_bytes, told.engine_share) == (None, 1.0)


def test_fitting_a_solver_leaves_banks_known_that_use_none(tmp_path):
    """One that uses it is drawn anew."""
    site = make_site(tmp_path / "site", 4)
    generator = shutil.copytree(GENERATOR, site.folder / "generator")

    site.change(generator={"path": "generator"})
    remember_fingerprint(load(site.config, {}), "plain")
    (generator / "solvers.json").write_text("other")
    assert known_fingerprint(load(site.config, {})) == "plain"
    site.change(generator={"path": "generator", "solver": 4})
    assert known_fingerprint(load(site.config, {})) is None
    remember_fingerprint(load(site.config, {}), "fitted")
    assert known_fingerprint(load(site.config, {})) == "fitted"
    (generator / "solvers.json").write_text("yet another")
    assert known_fingerprint(load(site.config, {})) is None


def test_placebos_of_the_configuration_are_the_ones_asked(site):
    """By default they are said in the audit's own words; a model that answers with labels alone is judged by labels."""
    loaded = load(site.config, {})
    words = loaded.document.concept_set.placebo_words
    assert asked_of(DiffexOptions(), loaded, labels_only=False).placebos == words[:3]
    assert asked_of(DiffexOptions(placebos=("photo",)), loaded, labels_only=False).placebos == ("photo",)
    assert asked_of(DiffexOptions(), loaded, labels_only=True).score is ScoreKind.LABELS


EXACT = {
    "concepts": False,
    "operator": "none",
    "options": {
        "race": {"keep": 2},
        "combine": {"size": 1},
        "images_per_class": 4,
        "dose_nodes": 0,
        "hit_nodes": 0,
        "agreement_images": 0,
    },
}
"""A tree of exact operators alone."""


def explained(site, classifier):
    """What one model says to the tree of the site, and the log."""
    installation = installed(site)
    with open_store(installation.loaded) as store, capture_logs() as told:
        explain = installation._explain(installation.loaded.models[0], store)
        return explain(classifier), [one for one in told if "limit" in one]


class Binary(FakeClassifier):
    info = replace(FakeClassifier.info, labels=("negative", "positive"))


def test_the_rows_of_a_tree_lie_beside_the_report(tmp_path):
    """One line per edit, named in the result; where they cannot be written the log says so and the result stands without them."""
    site = make_site(tmp_path / "site", 8, diffex=EXACT, generator=None, concepts=None, template=None, placebo_words=None)
    told, _ = explained(site, Binary())
    file = Path(installed(site).loaded.config.report) / told.result.rows_file
    assert told.result.rows_file == f"diffex-rows-{Binary.info.model}-{Binary.info.version}.csv.gz"
    lines = list(csv.DictReader(gzip.decompress(file.read_bytes()).decode().splitlines()))
    nodes = {one.node: one for one in told.result.classes[0].nodes}
    assert nodes
    for path, one in nodes.items():
        used = [
            line for line in lines if (line["nodes"], line["counted"], line["strength"]) == (path, "1", "1.0") and line["effect"]
        ]
        assert len({line["image"] for line in used}) == one.images
    file.unlink()
    file.mkdir()
    installation = installed(site)
    with open_store(installation.loaded) as store, capture_logs() as log:
        explain = installation._explain(installation.loaded.models[0], store)
        again = explain(Binary())
    assert (again.result.rows_file, again.result.classes) == ("", told.result.classes)
    assert any("atomic rows" in one["event"] for one in log)


def test_a_tree_is_priced_and_stopped_by_its_limits(tmp_path):
    """The price is no less than what is made and asked; a limit is told in the log, and a later run goes on from the bank."""
    site = make_site(tmp_path / "site", 8, diffex=EXACT, generator=None, concepts=None, template=None, placebo_words=None)
    price, queries = installed(site).price_edits(only="shape_clean")
    assert (price.reuse, price.network_rows, price.seconds) == (0, 0, 0.0)
    assert not (site.folder / "bank").exists()
    cut, log = explained(site.change(diffex={"limits": {"classifier_queries": 20}}), Binary())
    assert (cut.result.stopped, log[0]["limit"]) == ("classifier_queries", "diffex.limits.classifier_queries")
    assert 0 < cut.queries <= 20
    whole, log = explained(site.change(diffex={"limits": {"classifier_queries": None}}), Binary())
    assert (whole.result.stopped, log) == ("", [])
    with closing(sqlite3.connect(site.folder / "bank" / "edits.sqlite")) as db:
        (made,) = db.execute("SELECT COUNT(*) FROM edits").fetchone()
    assert cut.result.edits < made <= price.edits
    assert cut.queries + whole.queries <= queries
    again, _ = installed(site).price_edits(only="shape_clean")
    assert again.edits < price.edits
    assert again.reuse == made
