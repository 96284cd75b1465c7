"""Building: everything once, nothing lost."""

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileOpener

from audit_plugin.bank.build import batches, build, draw
from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.errors import BankError, GeneratorError, StorageFullError
from audit_plugin.sources.images import is_marked_synthetic
from tests.bank.world import FakeGenerator, good, new_bank, no_dark, silent, small_plan

ROOT = Path(__file__).parents[2]
BUILDER = """
import pathlib, sys
from audit_plugin.bank.build import build
from tests.bank.world import FakeGenerator, good, new_bank, silent, small_plan
root = pathlib.Path(sys.argv[1])
generator = FakeGenerator(counter=root / "counter", seconds=0.03)
print("ready", flush=True)
build(new_bank(root / "bank"), small_plan(40), generator, good, progress=silent, batch=8)
"""


def test_built_twice_draws_nothing(tmp_path):
    """The second build spends no evaluation and changes no byte."""
    bank, plan = new_bank(tmp_path), small_plan()
    first = build(bank, plan, FakeGenerator(), good, progress=silent, batch=4)
    before = bank.digest
    second = build(bank, plan, FakeGenerator(), good, progress=silent, batch=4)
    assert (first.drawn, first.reused, first.evaluations) == (len(plan.recipes), 0, 7 * len(plan.recipes))
    assert (second.drawn, second.reused, second.evaluations) == (0, len(plan.recipes), 0)
    assert bank.digest == before


def test_a_larger_plan_draws_the_difference(tmp_path):
    """Rows that are there already are not drawn again."""
    bank = new_bank(tmp_path)
    build(bank, small_plan(4), FakeGenerator(), good, progress=silent)
    report = build(bank, small_plan(6), FakeGenerator(), good, progress=silent)
    assert report.drawn < len(small_plan(6).recipes)
    assert small_plan(6).recipes.keys() <= bank.images().keys()


def test_a_row_stays_in_one_batch():
    """Baseline and flips of a row are drawn together wherever they fit."""
    plan = small_plan(20)
    where = {recipe.id: at for at, batch in enumerate(batches(plan, (), 16)) for recipe in batch}
    assert all(len({where[recipe.id] for recipe in row}) == 1 for row in plan.by_row())
    assert sorted(where) == sorted(plan.recipes)
    assert max(Counter(where.values()).values()) <= 16


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_batch_smaller_than_a_row_still_covers_it(size):
    """Rows are cut only when they must be, and then nothing is lost or doubled."""
    plan = small_plan()
    drawn = [recipe.id for batch in batches(plan, (), size) for recipe in batch]
    assert sorted(drawn) == sorted(plan.recipes)


def test_an_executor_gives_the_same_bank(tmp_path):
    """Where the batches are drawn does not matter."""
    build(new_bank(tmp_path / "here"), small_plan(), FakeGenerator(), good, progress=silent)
    with ThreadPoolExecutor(2) as pool:
        build(
            new_bank(tmp_path / "there"), small_plan(), FakeGenerator(), good, progress=silent, batch=5, executor=pool, in_flight=3
        )
    assert ProbeBank.open(tmp_path / "here").digest == ProbeBank.open(tmp_path / "there").digest


def test_several_workers_give_the_same_bank(tmp_path):
    """Two threads draw; batches are stored in the plan's order."""
    build(new_bank(tmp_path / "one"), small_plan(), FakeGenerator(), good, progress=silent)
    build(new_bank(tmp_path / "two"), small_plan(), FakeGenerator(), good, progress=silent, batch=5, workers=2)
    assert ProbeBank.open(tmp_path / "one").digest == ProbeBank.open(tmp_path / "two").digest


def test_refused_pictures_are_kept_and_counted(tmp_path):
    """A refusal is a value: the picture stays as evidence, marked, and is not drawn again."""
    bank = new_bank(tmp_path)
    report = build(bank, small_plan(), FakeGenerator(), no_dark, progress=silent)
    refused = [image for image in bank.images().values() if image.rejected]
    assert 0 < report.rejected == len(refused) < report.drawn
    assert not {image.sha256 for image in refused} & set(bank.usable())
    assert build(bank, small_plan(), FakeGenerator(), good, progress=silent).drawn == 0


def test_nan_is_refused_whatever_the_filter_says():
    """A picture with NaN cannot pass; the file is still a readable, marked PNG."""
    recipes = next(small_plan().by_row())
    generator = FakeGenerator()
    generator._one = lambda *_: np.full((3, 4, 4), np.nan, np.float32)
    pictures = draw(generator, good, recipes)
    assert {picture.rejected for picture in pictures} == {"not finite"}
    assert all(is_marked_synthetic(picture.png) for picture in pictures)


def test_a_generator_that_is_another_or_broken_is_refused(tmp_path):
    """Fingerprint and shape are checked before anything is stored."""
    with pytest.raises(BankError, match="plan is for generator fake-1 but fake-2"):
        build(new_bank(tmp_path), small_plan(), FakeGenerator("fake-2"), good, progress=silent)
    generator = FakeGenerator()
    generator.generate = lambda *_: np.zeros((1, 3, 4, 4), np.float32)
    with pytest.raises(GeneratorError, match=r"asked for \d+ RGB images, got an array \(1, 3, 4, 4\)"):
        build(new_bank(tmp_path), small_plan(), generator, good, progress=silent)


def test_a_full_disk_stops_the_build_and_loses_nothing(tmp_path, monkeypatch):
    """The error says that it resumes, what was committed stays, and the next build finishes."""
    bank, plan, left = new_bank(tmp_path), small_plan(), iter(range(9))

    def write(self, data, _write=LocalFileOpener.write):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return _write(self, data)

    monkeypatch.setattr(LocalFileOpener, "write", write)
    with pytest.raises(StorageFullError, match=r"no space left .* it resumes"):
        build(bank, plan, FakeGenerator(), good, progress=silent, batch=4)
    monkeypatch.undo()
    kept = bank.images()
    assert kept
    assert not list(tmp_path.rglob("*.tmp"))
    assert build(bank, plan, FakeGenerator(), good, progress=silent).drawn == len(plan.recipes) - len(kept)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_the_kernels_own_refusal_is_understood(tmp_path):
    """Not only a simulated error: the picture's file is a device that is always full."""
    bank, plan = new_bank(tmp_path), small_plan(1)
    first = draw(FakeGenerator(), good, list(plan.recipes.values()))[0]
    sha = bank.pictures.put(first.png)
    Path(f"{bank.pictures.path(sha)}.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageFullError):
        build(bank, plan, FakeGenerator(), good, progress=silent)
    build(bank, plan, FakeGenerator(), good, progress=silent)
    assert bank.images().keys() == plan.recipes.keys()


TINY_DISKS = """
import pathlib, shutil, subprocess, sys
from audit_plugin.bank.build import build
from audit_plugin.core.errors import StorageFullError
from tests.bank.world import FakeGenerator, good, new_bank, no_dark, silent, small_plan
disk, digests = pathlib.Path(sys.argv[1]), set()
for size in (20, 60, 100, 180, 260, 340, 500, 900):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
    try:
        build(new_bank(disk / "bank"), small_plan(150), FakeGenerator(size=32), good, progress=silent, batch=8)
        print("enough")
    except StorageFullError:
        print("full")
    subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
    bank = new_bank(disk / "bank")
    build(bank, small_plan(150), FakeGenerator(size=32), good, progress=silent, batch=8)
    digests.add(bank.digest)
    subprocess.run(["umount", disk], check=True)
print(len(digests))
"""


ALONE = ["unshare", "--map-root-user", "--mount"]


def _can_mount(folder):
    mount = [*ALONE, "mount", "-t", "tmpfs", "tmpfs", folder]
    return bool(shutil.which("unshare")) and subprocess.run(mount, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_disks_that_fill_up_at_any_moment(tmp_path):
    """Real file systems of many sizes: always the one error, and after growing the disk always the same bank."""
    if not _can_mount(tmp_path):
        pytest.skip("no private mounts on this system")
    done = subprocess.run(
        [*ALONE, sys.executable, "-c", TINY_DISKS, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full"] * 8 + ["1"]


def _build_and_kill(root, seconds):
    """Whether the kill came before the end."""
    with subprocess.Popen([sys.executable, "-c", BUILDER, str(root)], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        time.sleep(seconds)
        worker.kill()
        return worker.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_again_and_again_it_ends_with_the_same_bank(tmp_path):
    """SIGKILL at random moments: nothing committed is drawn twice, and each kill costs at most the batch in flight."""
    build(new_bank(tmp_path / "whole"), small_plan(40), FakeGenerator(), good, progress=silent, batch=8)
    moments = np.random.default_rng(0).uniform(0.02, 0.4, 4)
    kills = sum(_build_and_kill(tmp_path, seconds) for seconds in moments)
    subprocess.run([sys.executable, "-c", BUILDER, str(tmp_path)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    drawn = Counter((tmp_path / "counter").read_text().splitlines())
    assert kills >= 2
    assert ProbeBank.open(tmp_path / "bank").digest == ProbeBank.open(tmp_path / "whole").digest
    assert len(drawn) == len(small_plan(40).recipes) == len(ProbeBank.open(tmp_path / "bank").images())
    assert sum(drawn.values()) - len(drawn) <= 8 * kills
