"""The cache's contents, whole and damaged."""

import pytest

from engines.cache import BuildCache
from engines.certificate import Certificate, certificate_note
from engines.desk.artifacts import certificates, damaged, is_artifact

GOOD = Certificate(backend="ort", precision="fp32", error=1e-6, batch_error=0.0, batches=8)


@pytest.fixture
def cache(tmp_path):
    """An artifact with a certificate, and notes on a network without one."""
    cache = BuildCache(tmp_path)
    cache.obtain("a" * 32, lambda folder: (folder / "model.onnx").write_bytes(b"graph") and None)
    cache.write_note("a" * 32, "certificate-ort-1", certificate_note(GOOD))
    cache.write_note("b" * 32, "ranking-1", {"torch": 1.0})
    return cache


def test_certificates_are_read_from_their_notes(cache):
    """Rankings and notes of another form are none."""
    cache.write_note("a" * 32, "certificate-torch-1", {"error": 0})
    found = {entry.key[0]: certificates(cache, entry) for entry in cache.entries()}
    assert found == {"a": (GOOD,), "b": ()}


def test_notes_alone_are_no_artifact(cache):
    assert {entry.key[0]: is_artifact(cache, entry) for entry in cache.entries()} == {"a": True, "b": False}


def test_nothing_is_damaged(cache):
    assert list(damaged(cache)) == []


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_damage_is_reported_and_stays(cache, name):
    """A truncated graph and a truncated manifest."""
    (cache.root / ("a" * 32) / name).write_bytes(b"")
    (found,) = damaged(cache)
    assert (found.key, found.repaired) == ("a" * 32, False)
    assert (cache.root / found.key / name).exists()


def test_repair_throws_away_what_is_damaged_only(cache):
    (cache.root / ("a" * 32) / "model.onnx").write_bytes(b"")
    (found,) = damaged(cache, repair=True)
    assert found.repaired
    assert [entry.key for entry in cache.entries()] == ["b" * 32]
