"""A bundle is what was written, or it is named what is not; anyone can tell with tools of their own."""

import datetime as dt
import json
import shutil
import subprocess
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from audit_plugin.bundling import evidence, verify, write_bundle
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.results import from_json, to_json
from audit_plugin.sources.images import encode_png
from audit_plugin.store.records import Event
from audit_plugin.store.retention import Link
from tests.findings.examples import result
from tests.store.test_retention import pair

NOW = "2026-11-29T12:00:00+00:00"
PICTURES = {sha * 64: encode_png(np.full((4, 4, 3), at, np.uint8), synthetic=marked) for at, (sha, marked) in enumerate(
    [("a", True), ("b", False), ("c", True)]
)}  # fmt: skip


def contents(**changes):
    run = result(pairs=(pair("a" * 64, "b" * 64), pair("c" * 64, "d" * 64)))
    told = {
        "report": {"report.html": b"<!doctype html>"},
        "policy": "{}",
        "policy_digest": run.provenance.policy_digest,
        "events": [Event(at=dt.datetime(2026, 11, 29, tzinfo=dt.UTC), actor="ana", action="held", subject=run.run, detail="x")],
        "before": Link(run="earlier", sha256="e" * 64),
        "pictures": PICTURES.get,
    }
    return run, evidence(run, to_json(run), **(told | changes))


@pytest.fixture(params=["bundle", "bundle.zip"])
def sealed(request, tmp_path):
    return write_bundle(tmp_path / request.param, contents()[1], created_at=NOW)


def names(path):
    if path.suffix == ".zip":
        return zipfile.ZipFile(path).namelist()
    return [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]


def read(path, name):
    return zipfile.ZipFile(path).read(name) if path.suffix == ".zip" else (path / name).read_bytes()


def change(path, name, data):
    """Exchange, add (or with None take out) a file of a directory or zip."""
    if path.suffix != ".zip":
        (path / name).unlink() if data is None else (path / name).write_bytes(data)
        return
    with zipfile.ZipFile(path) as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for entry, old in (files | {name: data}).items():
            if old is not None:
                archive.writestr(entry, old)


def test_a_bundle_is_what_was_written(sealed):
    found = verify(sealed.path)
    assert found.sound
    assert found.manifest_sha256 == sealed.manifest_sha256
    assert found.files == sealed.files == len(names(sealed.path))
    assert found.previous == {"run": "earlier", "sha256": "e" * 64, "sha256_before_reduction": ""}
    assert found.run == result().run


@pytest.mark.parametrize("name", ["result.json", "report.html", f"pictures/{'a' * 64}.png", "SHA256SUMS", "README.md"])
def test_one_flipped_bit_is_named(sealed, name):
    data = read(sealed.path, name)
    change(sealed.path, name, data[:-1] + bytes([data[-1] ^ 1]))
    assert verify(sealed.path).changed == (name,)


def test_missing_and_additional_files_are_named(sealed):
    change(sealed.path, "config.txt", b"new")
    change(sealed.path, "events.json", None)
    found = verify(sealed.path)
    assert (found.missing, found.changed, found.additional) == (("events.json",), (), ("config.txt",))


def test_a_damaged_zip_does_not_pass(tmp_path):
    """A byte that is changed inside the archive, not in a file of it."""
    path = write_bundle(tmp_path / "b.zip", contents()[1], created_at=NOW).path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))
    assert not passes(path)


def passes(path):
    try:
        return verify(path).sound
    except StoreError:
        return False


def test_no_program_of_ours_is_needed(tmp_path):
    """``sha256sum -c`` alone passes, and fails on a changed file."""
    path = write_bundle(tmp_path / "bundle", contents()[1], created_at=NOW).path
    tool = shutil.which("sha256sum")
    assert subprocess.run([tool, "-c", "SHA256SUMS"], cwd=path, check=False, capture_output=True).returncode == 0
    (path / "result.json").write_text("{}")
    assert subprocess.run([tool, "-c", "SHA256SUMS"], cwd=path, check=False, capture_output=True).returncode == 1


def test_the_stored_document_is_in_it_byte_for_byte(tmp_path):
    run, made = contents()
    path = write_bundle(tmp_path / "bundle", made, created_at=NOW).path
    assert from_json((path / "result.json").read_text()) == run
    assert (path / "result.json").read_text() == to_json(run)
    assert json.loads((path / "sbom.json").read_text())["bomFormat"] == "CycloneDX"
    assert json.loads((path / "events.json").read_text())[0]["actor"] == "ana"


def test_unmarked_generated_pictures_stay_behind():
    """What a machine has made must say so; what is lost is told."""
    _, made = contents()
    assert [name for name in made.files if name.startswith("pictures/")] == [f"pictures/{sha * 64}.png" for sha in "ac"]
    assert [why.split(": ")[1] for why in made.left_out if why.startswith("pictures/")] == [
        "it is generated and not marked so in its metadata", "it is no longer stored"
    ]  # fmt: skip
    assert not [name for name in contents(with_pictures=False)[1].files if name.startswith("pictures/")]


def test_a_changed_policy_is_not_passed_off_as_the_one_in_force():
    _, made = contents(policy_digest="other")
    assert "policy.json" not in made.files
    assert any(why.startswith("policy.json: the policy has changed") for why in made.left_out)


def test_evidence_is_not_written_over(sealed):
    with pytest.raises(ConfigError, match="is there already"):
        write_bundle(sealed.path, contents()[1], created_at=NOW)


def test_equal_contents_are_equal_files(tmp_path):
    one, two = (write_bundle(tmp_path / name, contents()[1], created_at=NOW) for name in ("a.zip", "b.zip"))
    assert one.path.read_bytes() == two.path.read_bytes()


def test_a_bundle_that_was_not_written_to_its_end_is_none(tmp_path, monkeypatch):
    """Killed or full: nothing lies at the place, and nothing is left beside it."""
    from pathlib import Path

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(StoreError, match="cannot be written"):
            write_bundle(tmp_path / "bundle", contents()[1], created_at=NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "manifest", [None, "{", '{"kind": "other"}', '{"kind": "audit_plugin.bundle", "files": {"a": 1}, "schema_version": 1}']
)
def test_what_is_no_bundle_is_said_to_be_none(tmp_path, manifest):
    (tmp_path / "x").mkdir()
    if manifest is not None:
        (tmp_path / "x" / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match=r"no bundle|cannot be read|not that of a bundle"):
        verify(tmp_path / "x")


def test_a_run_without_pairs_needs_no_pictures(tmp_path):
    run = replace(result(), pairs=())
    made = evidence(
        run, to_json(run), report={}, policy="{}", policy_digest="", events=[], before=None, pictures=lambda _: None
    )  # fmt: skip
    assert verify(write_bundle(tmp_path / "b", made, created_at=NOW).path).previous is None
