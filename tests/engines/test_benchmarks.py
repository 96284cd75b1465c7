"""The benchmarks of engines, as far as they can be tried without a GPU."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from engines.backends.eager import EagerBackend
from engines.cache import BuildCache
from engines.calibrate import calibrate
from engines.desk.place import Place
from engines.roof import Roof, work_of
from tests.bench import engines_gpu
from tests.bench.engines_cases import CASES, _row, figures, measure
from tests.bench.engines_speed import Contender, Subject, compare, race
from tests.bench.report import Report

DRY = ("--cpu-dry-run", "--backend", "torch")
NETWORKS = [case for case in CASES if case.specified_floor_ms is not None]


@pytest.mark.parametrize("make", dict.fromkeys(case.make for case in NETWORKS), ids=lambda make: make.__name__)
def test_small_architectures_are_what_their_specs_say(make):
    """Their inputs fit, and outputs have the shapes that real ones are bound at."""
    network = make(2, small=True)
    results = EagerBackend().build(network.module, network.spec).run(network.batches()[0])
    assert {name: tuple(value.shape) for name, value in results.items()} == {o.name: (2, *o.row) for o in network.spec.outputs}


@pytest.mark.parametrize(
    "case", [case for case in NETWORKS if case.title in {"DDPM-CIFAR", "VAE decode 512 px"}], ids=lambda case: case.title
)
def test_real_architectures_have_the_floors_that_were_specified(case):
    """Counted without weights: at 770 TFLOP/s and 4 TB/s, about what an H200 gives in bf16."""
    with torch.device("meta"):
        network = case.make(case.rows, small=False)
    floor = work_of(network.module, network.spec.at("bf16"), case.rows).seconds(Roof(770e12, 4e12))
    assert 1e3 * floor == pytest.approx(case.specified_floor_ms, rel=0.1)


def test_a_dry_run_measures_on_the_cpu(tmp_path):
    """By the command, in a process of its own; targets of a GPU judge nothing here."""
    engines_gpu.main([*DRY, "--case", "call_b1", "--cache", str(tmp_path), "--json", str(tmp_path / "out.json")])
    done = json.loads((tmp_path / "out.json").read_text())
    (call,) = done["rows"]
    assert (call["state"], call["met"], call["precision"]) == ("ok", None, "fp32")
    assert done["figures"] == {"host_us_torch": pytest.approx(1e3 * call["ms"])}


def test_a_network_is_timed_beside_its_floor(tmp_path, monkeypatch):
    """Floor of this machine and of this batch; the reference has no certificate."""
    monkeypatch.setattr("engines.calibrate.calibrate", partial(calibrate, seconds=0.01))
    (number,) = (at for at, case in enumerate(CASES) if case.figure == "vae_decoder_b1")
    row = measure(number, "torch", Place(BuildCache(tmp_path), "cpu", 1), small=True)
    assert (row["batch"], row["parity_error"], row["state"]) == (1, None, "ok")
    assert row["ratio"] == pytest.approx(row["ms"] / row["floor_ms"])


def test_time_that_is_up_is_said(tmp_path):
    """No network is begun that could not be finished."""
    engines_gpu.main(
        ["--cpu-dry-run", "--backend", "torch", "--minutes", "0", "--cache", str(tmp_path), "--json", str(tmp_path / "out.json")]
    )
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert {row["state"] for row in rows} == {"not run: the time was up"}
    assert len(rows) == len(CASES)


def test_figures_take_the_best_backend():
    """Of those that were measured."""
    case = NETWORKS[0]
    rows = [{"case": case.title, "backend": str(ms), **_row(case, ms=ms, floor_ms=2.0)} for ms in (6.0, 4.0, None)]
    assert figures(rows) == {f"floor_ratio_{case.figure}": 2.0}


def test_the_race_is_run_by_everybody_who_can(pipeline_directory, tmp_path):
    """Diffusers and ours draw the same pictures, give or take what certificates allow; a backend that cannot leaves a note."""
    report = Report(name="race", question="who is fastest?")
    subject, place = Subject(pipeline_directory, "a red circle"), Place(BuildCache(tmp_path), "cpu", 1)
    names = ("torch", "torch-prepared")
    rows = compare(report, place, repeats=1, batches=(2,), subject=subject, backends=names)
    everybody = {f"{name} fp32" for name in ("diffusers", *names)}
    assert {(row["contender"], row["batch"]) for row in rows} == {(name, 2) for name in everybody}
    assert report.figures["max_parity_error"] <= report.figures["parity_bound"]
    assert report.figures["max_image_error"] < 1e-4
    ours = [row["speedup"] for row in rows if not row["contender"].startswith("diffusers")]
    assert report.figures["speedup_over_diffusers_b2"] == pytest.approx(max(ours))


def test_contenders_take_turns():
    """One warms up after the other; then who begins changes, and everybody is timed as often."""
    order = []

    def draw(n, title):
        order.append(title)
        return np.zeros(n)

    racing = [Contender(title=t, precision="fp32", draw=lambda n, t=t: draw(n, t), ours=True) for t in "abc"]
    times, pictures = race(racing, [1], 3)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {key: len(value) for key, value in times.items()} == {(title, 1): 3 for title in "abc"}
    assert {title: len(each) for title, each in pictures.items()} == dict.fromkeys("abc", 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_benchmark_says_what_to_run():
    with pytest.raises(SystemExit, match="engines_cpu measures without one"):
        engines_gpu.main([])
