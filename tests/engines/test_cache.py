import json
import threading

import pytest

from engines.cache import BuildCache, default_root
from engines.errors import CacheError


class Maker:
    """Writes one file, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self, folder):
        self.calls += 1
        (folder / "graph").write_bytes(b"0123456789")


@pytest.fixture
def cache(tmp_path):
    return BuildCache(tmp_path / "cache")


def test_an_artifact_is_made_once(cache):
    make = Maker()
    assert cache.obtain("k", make) == cache.obtain("k", make)
    assert make.calls == 1


@pytest.mark.parametrize("content", [b"01234", b"0123456780", None])
def test_a_damaged_artifact_is_made_again_once(cache, content):
    """Truncated, tampered with, or gone."""
    make = Maker()
    graph = cache.obtain("k", make) / "graph"
    graph.unlink() if content is None else graph.write_bytes(content)
    assert cache.obtain("k", make).joinpath("graph").read_bytes() == b"0123456789"
    assert make.calls == 2


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"graph": "00"}'])
def test_a_damaged_manifest_is_not_believed(cache, manifest):
    make = Maker()
    (cache.obtain("k", make) / "manifest.json").write_text(manifest)
    cache.obtain("k", make)
    assert make.calls == 2


def test_a_failed_build_leaves_nothing(cache):
    """Readers never see half an artifact, and the next attempt starts afresh."""

    def fail(folder):
        (folder / "graph").write_bytes(b"01")
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        cache.obtain("k", fail)
    assert [path.name for path in cache.root.iterdir()] == ["k.lock"]
    assert cache.obtain("k", Maker()).is_dir()


def test_two_builders_of_one_key_build_once(cache):
    """The second waits for the first and takes its artifact."""
    make = Maker()
    threads = [threading.Thread(target=cache.obtain, args=("k", make)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert make.calls == 1


def test_notes_outlive_verification(cache):
    """A certificate written later does not make the artifact look damaged."""
    make = Maker()
    cache.obtain("k", make)
    cache.write_note("k", "certificate", {"error": 1e-7})
    cache.obtain("k", make)
    assert make.calls == 1
    assert cache.read_note("k", "certificate") == {"error": 1e-7}


def test_an_unreadable_note_is_none(cache):
    (cache.obtain("k", Maker()) / "certificate.json").write_text("{")
    assert cache.read_note("k", "certificate") is None
    assert cache.read_note("k", "other") is None


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="file"):
        BuildCache(tmp_path / "file").obtain("k", Maker())


def test_the_manifest_lists_every_file(cache):
    folder = cache.obtain("k", Maker())
    assert set(json.loads((folder / "manifest.json").read_text())) == {"graph"}


def test_the_environment_chooses_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIT_PLUGIN_CACHE", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("AUDIT_PLUGIN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "audit-plugin"
