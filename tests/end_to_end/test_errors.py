"""What goes wrong for users: one line on stderr that says what to do, the documented exit code, no traceback."""

import csv
import errno
import os
import shutil
import subprocess

import pytest

from audit_plugin import wiring
from audit_plugin.bank import pictures
from tests.end_to_end.site import ASSETS, NOWHERE, make_site

BUILD, RUN = ("bank", "build"), ("run",)


def refused(answer, code, *words):
    """The one complaint, after stages that went well."""
    complaints = [line for line in answer.err.splitlines() if "error" in line.lower()]
    assert answer.code == code, answer.err
    assert len(complaints) == 1, answer.err
    assert complaints[0].startswith("error: ")
    assert all(word in complaints[0] for word in words), complaints[0]
    assert "Traceback" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("command", "change", "code", "words"),
    [
        (RUN, {"souce": {}}, 2, ["souce", "did you mean `source`?"]),
        (BUILD, {"source": {"label_columns": ["label", "klass"]}}, 2, ["table.csv", "no column 'klass'"]),
        (BUILD, {"source": {"label_columns": ["ruler"]}}, 2, ["models.0.label", "`source.label_columns` (ruler)"]),
        (BUILD, {"detector": {"path": "away.onnx"}}, 2, ["detector.path", "away.onnx", "`detector.train.where`"]),
        (BUILD, {"bank": {"path": "table.csv/bank"}}, 3, ["table.csv/bank", "check that the place exists and may be written"]),
        (RUN, {"store": "table.csv/store.sqlite"}, 3, ["store.sqlite", "cannot be written"]),
        (RUN, {}, 3, [NOWHERE, "UNAVAILABLE", "check that the server runs"]),
        (BUILD, {"source": {"where": {"ruler": "presnt"}}}, 2, ["'presnt'", "did you mean 'present'?"]),
    ],
)
def test_configurations_that_do_not_fit(site, command, change, code, words):
    """Found before anything is drawn."""
    refused(site.change(**change).run(*command), code, *words)
    assert site.pictures() == []


def test_a_damaged_image(site):
    """It is named before hours of drawing."""
    (site.folder / "scenes" / "3.png").write_bytes((site.folder / "scenes" / "3.png").read_bytes()[:200])
    refused(site.run(*BUILD), 2, "3.png", "truncated or corrupt", "replace or remove the file")
    assert site.pictures() == []


def test_a_missing_image(site):
    (site.folder / "scenes" / "3.png").unlink()
    refused(site.run(*BUILD), 2, "3.png", "cannot be opened")


def test_a_cell_that_is_no_level(site):
    """The row is named, and what the cell may have meant."""
    table = site.folder / "table.csv"
    lines = list(csv.reader(table.read_text().splitlines()))
    lines[2][-1] = "presen"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    refused(site.run(*BUILD), 2, "'1.png'", "'presen'", "did you mean 'present'?")


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"model": "shape_celan"}, ["shape_celan", "check `model` and `version`"]),
        ({"model": "shape_clean", "version": 7}, ["no ready version '7'", "shape_clean"]),
        ({"model": "shape_clean", "preprocess": {"size": [32, 32]}}, ["(3, 64, 64)", "(3, 32, 32)", "`preprocess.size`"]),
        ({"model": "shape_clean", "output": "logits"}, ["logits", "probabilities"]),
    ],
)
def test_models_that_cannot_be_asked(planted, site, model, words):
    """Found before anything is drawn, for the server is asked first."""
    site.change(server={"url": planted.grpc_url}, models=[{"label": "label", **model}])
    refused(site.run(*RUN), 3, *words)
    assert site.pictures() == []


@pytest.mark.triton
def test_a_label_that_the_model_does_not_know(planted, site):
    """Found before anything is drawn, too."""
    site.change(server={"url": planted.grpc_url}, models=[{"model": "shape_clean", "label": "ruler"}])
    site.change(source={"label_columns": ["ruler"]})
    refused(site.run(*RUN), 2, "ruler", "['absent', 'present']", "['negative', 'positive']")
    assert site.pictures() == []


def test_a_full_disk(site, monkeypatch):
    """What was drawn stays, and the same command goes on once there is space."""
    fsync, calls = os.fsync, []

    def full(file):
        calls.append(file)
        if len(calls) == 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(pictures.os, "fsync", full)
        refused(site.run(*BUILD), 3, "no space left on device", "free space and run the same command again")
    assert len(site.pictures()) >= 16
    assert site.run(*BUILD).code == 0


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of one MiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.triton
@pytest.mark.parametrize("what", ["bank", "store"])
def test_a_disk_that_is_really_full(tiny_disk, planted, site, what):
    """Bank or store on one MiB that something else has filled but for a little."""
    left = 180 if what == "bank" else 20
    (tiny_disk / "ballast").write_bytes(bytes((1024 - left) * 1024))
    place = {"bank": {"bank": {"path": str(tiny_disk / "bank")}}, "store": {"store": str(tiny_disk / "store.sqlite")}}
    refused(
        site.change(server={"url": planted.grpc_url}, **place[what]).run(*RUN),
        3,
        "no space",
        "free space and run the same command again",
    )


class TestRealEngine:
    """The engine itself, on torch."""

    @pytest.fixture
    def site(self, tmp_path, monkeypatch, request):
        monkeypatch.setattr(wiring, "EngineGenerator", request.getfixturevalue("real_engine"))
        site = make_site(tmp_path / "site", 2)
        shutil.copytree(ASSETS / "generator", site.folder / "generator")
        return site

    def test_it_draws(self, site):
        """Two rows by the shipped generator; the second build loads nothing."""
        answer = site.change(bank={"plan": {"placebo_rows": 0, "replicates": 0}}).run(*BUILD)
        assert answer.code == 0, answer.err
        assert "backend                      torch" in answer.out
        assert len(site.pictures()) == 2 * (1 + 2 + 3 + 1)
        again = site.run(*BUILD)
        assert "loading" not in again.err
        assert "nothing was drawn" in again.out

    def test_no_generator(self, site):
        shutil.rmtree(site.folder / "generator")
        refused(site.run(*BUILD), 3, str(site.folder / "generator"), "nothing is ever downloaded")

    def test_damaged_weights(self, site):
        weights = site.folder / "generator" / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:100_000])
        refused(site.run(*BUILD), 3, "diffusion_pytorch_model.safetensors")

    def test_a_caption_that_is_too_long(self, site):
        long = site.document()["template"] + " and" * 100
        refused(site.change(template=long).run(*BUILD), 2, "tokens", "shorten the caption template")
