"""Pictures of prompts: each drawn once, whatever interrupts it."""

import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from audit_plugin.bank.edit_store import edit_store
from audit_plugin.bank.prompted import PromptStudio
from tests.bank.world import FakeGenerator, silent
from tests.end_to_end.site import ROOT

PROMPTS = tuple(f"a {thing} on {place}" for thing in ("cat", "dog", "cow") for place in ("sand", "grass")) * 5
SEEDS = tuple(at // 6 for at in range(30))
DRAWS = """
import sys
from pathlib import Path
from tests.bank.test_prompted import PROMPTS, SEEDS, studio
from tests.bank.world import FakeGenerator
root = Path(sys.argv[1])
generator = FakeGenerator(counter=root / "counter", seconds=0.03)
print("started", flush=True)
studio(root, generator).shas(PROMPTS, SEEDS, "pictures")
"""


def studio(root, generator, **changes):
    settings = {"fingerprint": generator.fingerprint, "batch": 4, "progress": silent}
    return PromptStudio(draw=lambda: generator.generate, store=edit_store(root / "bank"), **{**settings, **changes})


def test_no_picture_is_drawn_twice(tmp_path):
    """Not within a call, nor by another studio of the same generator; another generator draws its own."""
    generator = FakeGenerator()
    first = studio(tmp_path, generator)
    shas = first.shas([*PROMPTS, PROMPTS[0]], [*SEEDS, SEEDS[0]], "pictures")
    assert (first.drawn, sum(map(len, generator.batches))) == ([30], 30)
    assert max(map(len, generator.batches)) == 4
    assert len(set(shas)) == 30
    assert shas[-1] == shas[0]
    assert studio(tmp_path, generator).shas(PROMPTS[::-1], SEEDS[::-1], "pictures") == shas[-2::-1]
    assert sum(map(len, generator.batches)) == 30
    other = FakeGenerator("fake-2")
    studio(tmp_path, other).shas(PROMPTS[:2], SEEDS[:2], "pictures")
    assert sum(map(len, other.batches)) == 2


def test_pictures_are_those_that_were_asked_for(tmp_path):
    """In the order of the prompts, in 8 bits."""
    generator = FakeGenerator()
    one = studio(tmp_path, generator)
    images = one.images(one.shas(PROMPTS, SEEDS, "pictures"))
    assert np.abs(images - generator.generate(PROMPTS, SEEDS)).max() <= 0.5 / 255 + 1e-6


def test_a_budget_is_asked_before_every_batch(tmp_path):
    """What was drawn before it ends stays."""

    class SpentError(Exception):
        pass

    generator, asked = FakeGenerator(), []

    def allow(pictures):
        asked.append(pictures)
        if sum(asked) > 10:
            raise SpentError

    with pytest.raises(SpentError):
        studio(tmp_path, generator, allow=allow).shas(PROMPTS, SEEDS, "pictures")
    assert asked == [4, 4, 4]
    assert sum(map(len, generator.batches)) == 8
    later = studio(tmp_path, generator)
    later.shas(PROMPTS, SEEDS, "pictures")
    assert later.drawn == [22]


def test_pictures_that_are_gone_are_drawn_again(tmp_path):
    generator = FakeGenerator()
    shas = studio(tmp_path, generator).shas(PROMPTS, SEEDS, "pictures")
    (gone,) = [file for file in (tmp_path / "bank").rglob("*") if shas[3] in file.name]
    gone.unlink()
    again = studio(tmp_path, generator)
    assert again.shas(PROMPTS, SEEDS, "pictures") == shas
    assert again.drawn == [1]


def test_killed_it_goes_on_from_the_last_batch(tmp_path):
    """A kill costs the batch in flight at most, and the pictures are the same as without it."""
    counter = tmp_path / "counter"
    with subprocess.Popen([sys.executable, "-c", DRAWS, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        worker.stdout.readline()
        while worker.poll() is None and (not counter.exists() or counter.read_text().count("\n") < 12):
            time.sleep(0.01)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL
    shas = studio(tmp_path, FakeGenerator(counter=counter)).shas(PROMPTS, SEEDS, "pictures")
    drawn = Counter(counter.read_text().splitlines())
    assert len(drawn) == 30
    assert sum(drawn.values()) <= 34
    assert shas == studio(tmp_path / "whole", FakeGenerator()).shas(PROMPTS, SEEDS, "pictures")
