"""``audit-plugin engines``: what it prints, what it makes, how it ends."""

import json
import shutil
import warnings
from functools import partial

import pytest
import torch
import yaml

from engines.cache import BuildCache
from engines.calibrate import calibrate
from engines.certificate import Certificate, certificate_note
from tests.engines.conftest import write_pipeline
from tests.fixtures.workers import across_workers

COMMANDS = ["build", "bench", "selfcheck", "ls", "gc", "verify", "export-triton", "export-hidden"]
GOOD = Certificate(backend="ort", precision="fp32", error=1e-6, batch_error=0.0, batches=8)


def document(answer, code=0):
    """The JSON on stdout, when the command ended as it should."""
    assert answer.exit_code == code, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def pipeline_directory(tmp_path_factory):
    """A miniature pipeline with random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return write_pipeline(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    """The build cache that tests of engines share between processes: exports take seconds."""
    return across_workers(tmp_path_factory) / "graphs"


@pytest.fixture
def cache(tmp_path):
    """Two artifacts, one with a certificate, and notes on a network that has none."""
    cache = BuildCache(tmp_path / "cache")
    facts = {"network": "unet", "kind": "forward", "backend": "ort", "precision": "fp32"}
    cache.obtain("a" * 32, lambda folder: (folder / "model.onnx").write_bytes(b"0" * 1000) and None, facts)
    cache.obtain("c" * 32, lambda folder: (folder / "model.onnx").write_bytes(b"0" * 1000) and None)
    cache.write_note("a" * 32, "certificate-ort-1", certificate_note(GOOD))
    cache.write_note("b" * 32, "ranking-1", {"torch": 1.0})
    return cache


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(run, name):
    """``--help`` ends with 0 and has a sentence."""
    answer = run("engines", name, "--help")
    assert answer.exit_code == 0
    assert "." in answer.stdout.split("Options")[0].split("Usage")[1]


def test_ls_lists_artifacts_and_their_certificates(run, cache):
    listed = {row["key"][0]: row for row in document(run("engines", "ls", "--cache", cache.root, "-o", "json"))}
    assert (listed["a"]["network"], listed["a"]["backend"], listed["a"]["certificates"]) == (
        "unet",
        "ort",
        "ort fp32 1.0e-06 passed",
    )
    assert {key: row["holds"] for key, row in listed.items()} == {"a": "artifact", "b": "notes", "c": "artifact"}
    assert listed["a"]["bytes"] > 1000


def test_ls_of_nothing_is_nothing(run, tmp_path):
    """Looking makes no directory."""
    answer = run("engines", "ls", "--cache", tmp_path / "none")
    assert (answer.exit_code, answer.stdout) == (0, "")
    assert not (tmp_path / "none").exists()


def test_gc_takes_what_was_not_used_for_longest(run, cache):
    """First only in words, then in fact; what is left is what was used last."""
    cache.obtain("a" * 32, lambda _: pytest.fail("built again"))
    size = {entry.key: entry.bytes for entry in cache.entries()}["a" * 32]
    arguments = ("engines", "gc", "--max-bytes", size, "--cache", cache.root, "-o", "json")
    would = document(run(*arguments, "--dry-run"))
    assert [row["key"][0] for row in would] == ["b", "c"]
    assert len(cache.entries()) == 3
    assert document(run(*arguments)) == would
    assert [entry.key for entry in cache.entries()] == ["a" * 32]


def test_gc_by_age_spares_what_is_young(run, cache):
    """Notes without an artifact have no age and go first."""
    assert [row["key"][0] for row in document(run("engines", "gc", "--older-than", 1, "--cache", cache.root, "-o", "json"))] == [
        "b"
    ]


def test_verify_reports_and_repairs(run, cache):
    """Damage ends with 3 as long as it is there, and is thrown away only when that was asked for."""
    arguments = ("engines", "verify", "--cache", cache.root, "-o", "json")
    assert document(run(*arguments)) == []
    (cache.root / ("a" * 32) / "model.onnx").write_bytes(b"0")
    (found,) = document(run(*arguments), code=3)
    assert (found["key"], found["repaired"]) == ("a" * 32, False)
    assert "model.onnx" in found["why"]
    assert document(run(*arguments, "--repair"))[0]["repaired"] is True
    assert document(run(*arguments)) == []


def test_build_then_bench(run, pipeline_directory, tmp_path, monkeypatch):
    """Networks are built once: the second time everything comes from the cache, and their times stand beside the floor."""
    monkeypatch.setattr("engines.calibrate.calibrate", partial(calibrate, seconds=0.01))
    common = ("--pipeline", pipeline_directory, "--backend", "torch", "--cache", tmp_path, "-o", "json")
    built = document(run("engines", "build", *common))
    assert {row["network"]: (row["backend"], row["tier"]) for row in built} == {
        "unet": ("torch", "exact"),
        "vae_decoder": ("torch", "exact"),
    }
    timed = document(run("engines", "bench", "--batches", "1,2", *common))
    assert [(row["network"], row["batch"]) for row in timed] == [("unet", 1), ("unet", 2), ("vae_decoder", 1), ("vae_decoder", 2)]
    assert all(row["ratio"] == pytest.approx(row["ms"] / row["floor_ms"]) and row["floor_ms"] > 0 for row in timed)
    assert (tmp_path / "calibration").is_dir()


def test_a_configuration_says_what_to_build(run, config, pipeline_directory, tmp_path):
    """Its directory, backend and cache; a generator that is not there is one line."""
    written = yaml.safe_load(config.read_text())
    written["generator"] = {"path": str(pipeline_directory), "backend": "torch", "cache": "engines", "threads": 1}
    (tmp_path / "audit.yaml").write_text(yaml.safe_dump(written))
    assert {row["backend"] for row in document(run("engines", "build", tmp_path / "audit.yaml", "-o", "json"))} == {"torch"}
    answer = run("engines", "build", config, "--cache", tmp_path)
    assert (answer.exit_code, answer.stderr.count("\n")) == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build"], 2, "give a configuration, or --pipeline"),
        (["build", "a.yaml", "--pipeline", "b"], 2, "give a configuration, or --pipeline"),
        (["build", "--pipeline", "b", "--precision", "int4"], 2, "int4"),
        (["bench", "--pipeline", "b", "--batches", "1,0"], 2, "whole numbers from 1 on"),
        (["bench", "--pipeline", "nowhere"], 3, "nowhere"),
        (["export-triton", "--pipeline", "nowhere", "--repo", "r"], 3, "nowhere"),
        (["export-triton", "--pipeline", "nowhere"], 2, "--repo"),
        (["selfcheck", "--device", "tpu"], 2, "tpu"),
        (["selfcheck", "--backend", "nothing"], 2, "there is no backend 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments, code, message):
    """Usage is 2, the rest 3, in one line where it is ours."""
    answer = run("engines", *arguments)
    assert answer.exit_code == code
    assert message in answer.stderr


def test_a_backend_that_is_not_there_is_named_with_those_that_are(run, pipeline_directory, tmp_path):
    answer = run("engines", "bench", "--pipeline", pipeline_directory, "--backend", "abacus", "--cache", tmp_path)
    assert answer.exit_code == 3
    assert "none of that name" in answer.stderr
    assert "torch" in answer.stderr


@pytest.mark.slow
def test_engines_become_models_of_a_server(run, pipeline_directory, graphs, tmp_path):
    """One directory a model, each with its configuration; what was built for it is in the cache, certified, under its name."""
    common = ("--pipeline", pipeline_directory, "--cache", graphs, "-o", "json")
    written = document(run("engines", "export-triton", "--repo", tmp_path / "repo", "--batches", "1,2,4", *common))
    assert {"audit_unet", "audit_vae_decoder", "audit_sampler"} <= {row["model"] for row in written}
    assert all((tmp_path / "repo" / row["model"] / "config.pbtxt").is_file() for row in written)
    listed = [row for row in document(run("engines", "ls", "--cache", graphs, "-o", "json")) if row["network"] == "unet"]
    assert any("passed" in row["certificates"] and row["backend"] == "onnx" for row in listed)


def test_selfcheck_proves_what_is_here(run):
    """Torch on the CPU is right; on a machine without a GPU its other half is refused, which is no failure."""
    checks = document(run("engines", "selfcheck", "--backend", "torch", "--threads", 1, "-o", "json"))
    verdicts = {(check["device"], check["what"]): check["verdict"] for check in checks}
    assert verdicts["cpu", "forward fp32"] == verdicts["cpu", "vjp fp32"] == "ok"
    if not torch.cuda.is_available():
        assert verdicts["cuda", "probe"] == "refused"


def test_built_graphs_are_kept_beside_the_weights(run, pipeline_directory, graphs, tmp_path, monkeypatch):
    """And another machine's build takes them, so that nothing is exported there."""
    copy = shutil.copytree(pipeline_directory, tmp_path / "pipeline")
    common = ("--pipeline", copy, "--backend", "ort", "-o", "json")
    built = document(run("engines", "build", *common, "--cache", graphs, "--keep-graphs"))
    assert {path.name for path in (copy / "graphs").iterdir()} == {row["key"] for row in built}
    for place in ("engines.pipelines.outlines.export", "engines.graphs.maker.export"):
        monkeypatch.setattr(place, None)
    again = document(run("engines", "build", *common, "--cache", tmp_path / "there"))
    assert [row["key"] for row in again] == [row["key"] for row in built]
