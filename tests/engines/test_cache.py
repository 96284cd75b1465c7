import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

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


@pytest.mark.parametrize(
    "manifest", ["", "{}", "[]", '{"files": {"graph": "00"}, "facts": {}}', '{"graph": "00"}', '{"files": {}, "facts": {}}']
)
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
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == {"graph"}


def test_a_killed_build_leaves_nothing_for_long(cache):
    """A process killed in mid-build leaves a partial directory; the next builder of the key clears it and builds."""
    code = (
        "import os, sys; from pathlib import Path; from engines.cache import BuildCache\n"
        "def make(folder):\n    (folder / 'graph').write_bytes(b'01')\n    os.kill(os.getpid(), 9)\n"
        "BuildCache(Path(sys.argv[1])).obtain('k', make)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(cache.root)], check=False).returncode == -9
    assert list(cache.root.glob(".k.*"))
    assert cache.obtain("k", Maker()).joinpath("graph").read_bytes() == b"0123456789"
    assert not list(cache.root.glob(".k.*"))


def test_two_processes_build_one_key_once(cache):
    """The lock holds between processes too."""
    code = (
        "import sys, time; from pathlib import Path; from engines.cache import BuildCache\n"
        "def make(folder):\n    print('made'); (folder / 'graph').write_bytes(b'01'); time.sleep(0.3)\n"
        "BuildCache(Path(sys.argv[1])).obtain('k', make)"
    )
    builders = [subprocess.Popen([sys.executable, "-c", code, str(cache.root)], stdout=subprocess.PIPE, text=True) for _ in "123"]
    assert sorted(one.communicate()[0] for one in builders) == ["", "", "made\n"]


def test_the_least_recently_used_goes_first(cache):
    """Use, not age, decides; the one just built stays whatever its size."""
    for key in "abc":
        cache.obtain(key, Maker())
        os.utime(cache.root / key / "manifest.json", (ord(key), ord(key)))
    cache.obtain("a", Maker())
    size = cache.entries()[0].bytes
    assert [entry.key for entry in cache.collect(2 * size, dry_run=True)] == ["b"]
    assert [entry.key for entry in cache.collect(2 * size)] == ["b"]
    assert {entry.key for entry in cache.entries()} == {"a", "c"}
    replace(cache, max_bytes=1).obtain("d", Maker())
    assert {entry.key for entry in cache.entries()} == {"d"}


def test_old_artifacts_go_when_asked(cache):
    cache.obtain("old", Maker())
    os.utime(cache.root / "old" / "manifest.json", (0, 0))
    cache.obtain("new", Maker())
    assert [entry.key for entry in cache.collect(2**40, older_than_seconds=3600)] == ["old"]


def test_an_artifact_under_construction_is_not_collected(cache):
    """Its lock is taken."""
    cache.obtain("k", Maker())
    with cache._lock("k"):
        assert cache.collect(0) == ()
    assert [entry.key for entry in cache.collect(0)] == ["k"]


def test_entries_say_what_their_maker_said(cache):
    cache.obtain("k", Maker(), {"network": "unet"})
    cache.write_note("k", "certificate-ort-0", {"error": 0.0})
    (entry,) = cache.entries()
    assert (entry.facts, entry.files, entry.notes) == ({"network": "unet"}, ("graph",), ("certificate-ort-0",))
    assert entry.bytes > 10
    assert cache.damage("k") is None


def test_a_plan_that_others_can_write_is_not_run(cache):
    """Compiled plans are code."""
    make = Maker()
    folder = cache.obtain("k", make, code=True)
    cache.obtain("k", make, code=True)
    assert make.calls == 1
    (folder / "graph").chmod(0o666)
    cache.obtain("k", make, code=True)
    assert make.calls == 2


def test_a_size_that_is_no_number_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIT_PLUGIN_CACHE_BYTES", "10 GB")
    with pytest.raises(CacheError, match="whole number of bytes"):
        BuildCache(tmp_path)


def test_the_environment_chooses_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("AUDIT_PLUGIN_CACHE", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("AUDIT_PLUGIN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "audit-plugin"
