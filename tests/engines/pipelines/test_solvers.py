"""Fitted solvers of real directories: fitted, kept, found again, refused where they do not belong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engines.errors import PipelineError
from engines.fitted import FittedSolver
from engines.pipeline import load_pipeline
from engines.pipelines.solvers import FILE, fit_plan, keep_solver
from engines.plan import SamplingPlan

CAPTIONS = ["a red circle", "a blue square on the green background"] * 8
SEEDS = range(16)


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "steps": 6, "guidance": 2.0, "batch": 4, **options})


def silent(_done, _total, _what):
    """No progress bar."""


@pytest.fixture(scope="module")
def fitted(family_directory, tmp_path_factory):
    """A directory with solvers of two and three steps, and the whole pipeline."""
    directory = Path(shutil.copytree(family_directory("stable_diffusion"), tmp_path_factory.mktemp("fitted") / "pipeline"))
    whole = load(directory)
    for steps in (2, 3):
        keep_solver(directory, whole.digest, whole.plan, fit_plan(whole, CAPTIONS, SEEDS, steps, silent))
    return directory, whole


def test_a_kept_shortcut_draws_nearly_the_same_for_less(fitted):
    directory, whole = fitted
    short = load(directory, solver=3)
    assert (short.evaluations_per_image, whole.evaluations_per_image) == (6, 12)
    assert short.savings == ("3 steps instead of the generator's own 20", "guidance in 3 of 3 steps instead of 20 of 20")[:1]
    assert short.tier == "approximate"
    few = load(directory, steps=3)
    pictures = [each.generate(CAPTIONS[:4], range(100, 104)) for each in (whole, short, few)]
    distances = [float(np.sqrt(((one - pictures[0]) ** 2).mean())) for one in pictures[1:]]
    assert distances[0] < distances[1]


def test_fingerprints_tell_them_apart_and_nothing_else_changes(fitted, family_directory):
    directory, whole = fitted
    assert load(directory).fingerprint == load(family_directory("stable_diffusion")).fingerprint == whole.fingerprint
    assert len({whole.fingerprint, *(load(directory, solver=steps).fingerprint for steps in (2, 3))}) == 3


def test_fitting_again_replaces_what_was_there(fitted, tmp_path):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    whole = load(directory)
    keep_solver(directory, whole.digest, whole.plan, fit_plan(whole, CAPTIONS[::-1], SEEDS, 3, silent))
    note = json.loads((directory / FILE).read_text())
    assert sorted(len(entry["weights"]) for entry in note["solvers"]) == [2, 3]
    assert {path.suffix for path in directory.iterdir() if path.name.startswith("solvers")} == {".json"}


@pytest.mark.parametrize("change", [{"steps": 7}, {"guidance": 3.0}, {"sampler": "ddim"}, {"solver": 4}, {"schedule": "karras"}])
def test_a_shortcut_of_another_plan_is_not_taken(fitted, change):
    with pytest.raises(PipelineError, match="audit-plugin generator solver"):
        load(fitted[0], **{"solver": 3, **change})


def test_a_shortcut_of_other_weights_is_not_taken(fitted, family_directory, tmp_path):
    directory = Path(shutil.copytree(family_directory("stable_diffusion", layers_per_block=2), tmp_path / "other"))
    shutil.copy(fitted[0] / FILE, directory / FILE)
    with pytest.raises(PipelineError, match="and these weights"):
        load(directory, solver=3)


@pytest.mark.parametrize("text", ["[]", '{"solvers": 3}', '{"solvers": [{}]}', "{"])
def test_a_damaged_file_is_one_clear_error(fitted, tmp_path, text):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    (directory / FILE).write_text(text)
    with pytest.raises(PipelineError, match=FILE):
        load(directory, solver=3)


def test_damaged_numbers_are_one_clear_error(fitted, tmp_path):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    note = json.loads((directory / FILE).read_text())
    for entry in note["solvers"]:
        entry["levels"] = entry["levels"][::-1]
    (directory / FILE).write_text(json.dumps(note))
    with pytest.raises(PipelineError, match=r"cannot be used: .* rise from 0"):
        load(directory, solver=3)


def test_flows_have_shortcuts_too(family_directory, tmp_path):
    directory = Path(shutil.copytree(family_directory("stable_diffusion_3"), tmp_path / "flow"))
    whole = load(directory, guidance=1.0)
    fit = fit_plan(whole, CAPTIONS, SEEDS, 2, silent)
    keep_solver(directory, whole.digest, whole.plan, fit)
    short = load(directory, guidance=1.0, solver=2)
    assert short.evaluations_per_image == 2
    assert fit.error < fit.plain
    assert np.isfinite(short.generate(CAPTIONS[:2], [1, 2])).all()


def test_native_schedules_have_shortcuts_too(family_directory, tmp_path):
    """The network is told the timesteps that the scheduler decrees at the levels that are left."""
    directory = Path(shutil.copytree(family_directory("stable_diffusion_xl"), tmp_path / "native"))
    whole = load(directory, schedule="native", sampler="euler", guidance=1.0)
    fit = fit_plan(whole, CAPTIONS, SEEDS, 3, silent)
    keep_solver(directory, whole.digest, whole.plan, fit)
    short = load(directory, schedule="native", sampler="euler", guidance=1.0, solver=3)
    latents = whole.draw(CAPTIONS[:4], range(40, 44))
    assert (short.draw(CAPTIONS[:4], range(40, 44)) - latents).norm() < 2 * fit.error * latents.norm() + 1e-3


def test_fresh_noise_cannot_be_cut_short(family_directory):
    turbo = load(family_directory("stable_diffusion"), sampler="euler_ancestral")
    with pytest.raises(PipelineError, match="without fresh noise"):
        fit_plan(turbo, CAPTIONS, SEEDS, 3, silent)


def test_it_takes_two_batches_and_fewer_steps(fitted):
    _, whole = fitted
    with pytest.raises(PipelineError, match="8 pictures, got 7"):
        fit_plan(whole, CAPTIONS[:7], SEEDS[:7], 3, silent)
    with pytest.raises(PipelineError, match="1 to 5 of its own, got 6"):
        fit_plan(whole, CAPTIONS, SEEDS, 6, silent)


def test_a_plan_takes_no_shortcut_of_another_length():
    with pytest.raises(ValueError, match="fitted to 8 steps, the plan has 20"):
        SamplingPlan(solver=FittedSolver((0, 8), ((0.0, 1.0),)))
