"""Fitted solvers of real directories: fitted, kept, found again, refused where they do not belong."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.errors import PipelineError
from engines.fitted import Fit, FittedSolver
from engines.pipeline import load_pipeline
from engines.pipelines.files import SOLVERS
from engines.pipelines.solvers import fit_plan, keep_solver
from engines.plan import SamplingPlan

CAPTIONS = ["a red circle", "a blue square on the green background"] * 4
SEEDS = range(8)


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "steps": 6, "guidance": 2.0, "batch": 4, **options})


def silent(_done, _total, _what):
    """No progress bar."""


@pytest.fixture(scope="module")
def fitted(family_directory, tmp_path_factory):
    """A directory with solvers of two and three steps, the whole pipeline, and the last of the solvers."""
    directory = Path(shutil.copytree(family_directory("stable_diffusion"), tmp_path_factory.mktemp("fitted") / "pipeline"))
    whole = load(directory)
    for steps in (2, 3):
        fit = fit_plan(whole, CAPTIONS, SEEDS, steps, silent)
        keep_solver(directory, whole.solver_key, whole.plan, fit)
    return directory, whole, fit


def test_a_kept_solver_draws_nearly_the_same_for_less(fitted):
    directory, whole, _ = fitted
    short = load(directory, solver=3)
    assert (short.evaluations_per_image, whole.evaluations_per_image) == (6, 12)
    assert short.savings == ("3 steps instead of the generator's own 20",)
    assert short.tier == "approximate"
    few = load(directory, steps=3)
    pictures = [each.generate(CAPTIONS[:4], range(100, 104)) for each in (whole, short, few)]
    distances = [float(np.sqrt(((one - pictures[0]) ** 2).mean())) for one in pictures[1:]]
    assert distances[0] < distances[1]


def test_a_solver_is_never_exact(fitted, tmp_path):
    """Not even one of more steps than the directory recommends, whose plan was finer still."""
    whole, directory = fitted[1], Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    fine = load(directory, steps=24)
    solver = FittedSolver((*range(22), 24), ((0.5, 0.5), *[(0.5, 0.5, 0.0)] * 21))
    keep_solver(directory, fine.solver_key, fine.plan, Fit(solver, error=0.1))
    short = load(directory, steps=24, solver=22)
    assert (short.tier, short.savings) == ("approximate", ("22 fitted steps instead of the plan's 24",))
    assert not short.reference
    assert whole.digest == short.digest


def test_fingerprints_tell_them_apart_and_nothing_else_changes(fitted, family_directory):
    directory, whole, _ = fitted
    assert load(directory).fingerprint == load(family_directory("stable_diffusion")).fingerprint == whole.fingerprint
    assert len({whole.fingerprint, *(load(directory, solver=steps).fingerprint for steps in (2, 3))}) == 3


def test_fitting_again_replaces_what_was_there(fitted, tmp_path):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    whole = load(directory)
    keep_solver(directory, whole.solver_key, whole.plan, fit_plan(whole, CAPTIONS[::-1], SEEDS, 3, silent))
    note = json.loads((directory / SOLVERS).read_text())
    assert sorted(len(entry["weights"]) for entry in note["solvers"]) == [2, 3]
    assert {path.suffix for path in directory.iterdir() if path.name.startswith("solvers")} == {".json"}


@pytest.mark.parametrize("change", [{"steps": 7}, {"guidance": 3.0}, {"sampler": "ddim"}, {"solver": 4}, {"schedule": "karras"}])
def test_a_solver_of_another_plan_is_not_taken(fitted, change):
    with pytest.raises(PipelineError, match="audit-plugin generator solver"):
        load(fitted[0], **{"solver": 3, **change})


def test_a_solver_of_other_weights_is_not_taken(fitted, family_directory, tmp_path):
    directory = Path(shutil.copytree(family_directory("stable_diffusion", layers_per_block=2), tmp_path / "other"))
    shutil.copy(fitted[0] / SOLVERS, directory / SOLVERS)
    with pytest.raises(PipelineError, match="and these weights"):
        load(directory, solver=3)


@pytest.mark.parametrize("text", ["[]", '{"solvers": 3}', '{"solvers": [{}]}', "{"])
def test_a_damaged_file_is_one_clear_error(fitted, tmp_path, text):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    (directory / SOLVERS).write_text(text)
    with pytest.raises(PipelineError, match=SOLVERS):
        load(directory, solver=3)


@pytest.mark.parametrize(
    "damage", [{"levels": [0, 5]}, {"weights": [["x"]]}, {"weights": 3}, {"plan": 3}, {"levels": 3}, {"levels": [0, 2, 4, 5]}]
)
def test_a_damaged_entry_is_one_clear_error(fitted, tmp_path, damage):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    note = json.loads((directory / SOLVERS).read_text())
    for entry in note["solvers"]:
        entry.update(damage)
    (directory / SOLVERS).write_text(json.dumps(note))
    with pytest.raises(PipelineError, match=f"{SOLVERS}|has no solver"):
        load(directory, solver=3)


def test_a_recommended_plan_names_no_solver(fitted, tmp_path):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    (directory / "audit.json").write_text('{"solver": 3}')
    with pytest.raises(PipelineError, match="unknown solver"):
        load(directory)


def test_many_may_keep_solvers_at_once(fitted, tmp_path):
    """None of them is lost, and nothing is left behind."""
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    _, whole, fit = fitted
    plans = [replace(whole.plan, guidance=float(2 + at)) for at in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda plan: keep_solver(directory, whole.solver_key, plan, fit), plans))
    assert len(json.loads((directory / SOLVERS).read_text())["solvers"]) == 13  # one of which replaced its like
    assert [path.name for path in directory.iterdir() if path.name.startswith(SOLVERS)] == [SOLVERS]


def test_a_disk_that_is_full_keeps_what_was_there(fitted, tmp_path, monkeypatch):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    before = (directory / SOLVERS).read_text()
    _, whole, fit = fitted

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(PipelineError, match=r"cannot be written .* No space left"):
        keep_solver(directory, whole.solver_key, whole.plan, fit)
    assert (directory / SOLVERS).read_text() == before
    assert [path.name for path in directory.iterdir() if path.name.startswith(SOLVERS)] == [SOLVERS]


def test_damaged_numbers_are_one_clear_error(fitted, tmp_path):
    directory = Path(shutil.copytree(fitted[0], tmp_path / "pipeline"))
    note = json.loads((directory / SOLVERS).read_text())
    for entry in note["solvers"]:
        entry["levels"] = entry["levels"][::-1]
    (directory / SOLVERS).write_text(json.dumps(note))
    with pytest.raises(PipelineError, match=r"cannot be used: .* rise from 0"):
        load(directory, solver=3)


def test_flows_have_solvers_too(family_directory, tmp_path):
    directory = Path(shutil.copytree(family_directory("stable_diffusion_3"), tmp_path / "flow"))
    whole = load(directory, guidance=1.0)
    fit = fit_plan(whole, CAPTIONS, SEEDS, 2, silent)
    keep_solver(directory, whole.solver_key, whole.plan, fit)
    short = load(directory, guidance=1.0, solver=2)
    assert short.evaluations_per_image == 2
    assert fit.error < fit.plain
    assert np.isfinite(short.generate(CAPTIONS[:2], [1, 2])).all()


def test_native_schedules_have_solvers_too(family_directory, tmp_path):
    """The network is told the timesteps that the scheduler decrees at the levels that are left."""
    directory = Path(shutil.copytree(family_directory("stable_diffusion_xl"), tmp_path / "native"))
    whole = load(directory, schedule="native", sampler="euler", guidance=1.0)
    fit = fit_plan(whole, CAPTIONS, SEEDS, 3, silent)
    keep_solver(directory, whole.solver_key, whole.plan, fit)
    short = load(directory, schedule="native", sampler="euler", guidance=1.0, solver=3)
    latents = whole.draw(CAPTIONS[:4], range(40, 44))
    assert (short.draw(CAPTIONS[:4], range(40, 44)) - latents).norm() < 2 * fit.error * latents.norm() + 1e-3


def test_the_plain_error_is_that_of_the_sampler_in_fewer_steps(family_directory, pipeline_like):
    """Also where a schedule decrees timesteps and its last level is not 0."""
    directory = pipeline_like(family_directory("stable_diffusion_2"))
    options = {"schedule": "native", "sampler": "ddim", "guidance": 1.0}
    whole, few = load(directory, **options), load(directory, **{**options, "steps": 3})
    assert whole.course.path(whole.plan).end != 1
    fit = fit_plan(whole, CAPTIONS, SEEDS, 3, silent)
    asked, seeds = CAPTIONS[-4:], SEEDS[-4:]
    latents, wanted = few.draw(asked, seeds), whole.draw(asked, seeds)
    assert fit.plain == pytest.approx(float((latents - wanted).norm() / wanted.norm()), rel=1e-3)


def test_the_class_that_stands_for_none_is_part_of_what_a_solver_belongs_to(family_directory, tmp_path):
    """Guidance away from another class is another course."""
    directory = Path(shutil.copytree(family_directory("ddpm", num_class_embeds=3), tmp_path / "classes"))
    classes = {"sampler": "ddim", "schedule": "trailing", "guidance": 2.0, "null_class": 2}
    whole = load(directory, **classes)
    keep_solver(directory, whole.solver_key, whole.plan, fit_plan(whole, [0, 1] * 4, SEEDS, 3, silent))
    assert load(directory, **classes, solver=3).evaluations_per_image == 6
    with pytest.raises(PipelineError, match="has no solver"):
        load(directory, **{**classes, "null_class": 1}, solver=3)


def test_fresh_noise_cannot_be_cut_short(family_directory):
    turbo = load(family_directory("stable_diffusion"), sampler="euler_ancestral")
    with pytest.raises(PipelineError, match="without fresh noise"):
        fit_plan(turbo, CAPTIONS, SEEDS, 3, silent)


def test_it_takes_two_batches_and_fewer_steps(fitted):
    _, whole, _ = fitted
    before = whole.evaluations
    with pytest.raises(PipelineError, match=r"8 pictures, got 7; .* generator.batch"):
        fit_plan(whole, CAPTIONS[:7], SEEDS[:7], 3, silent)
    with pytest.raises(PipelineError, match="1 to 5 of its own, got 6"):
        fit_plan(whole, CAPTIONS, SEEDS, 6, silent)
    assert whole.evaluations == before  # said before anything is drawn


def test_a_plan_takes_no_solver_of_another_length():
    with pytest.raises(ValueError, match="fitted to 8 steps, the plan has 20"):
        SamplingPlan(solver=FittedSolver((0, 8), ((0.0, 1.0),)))
