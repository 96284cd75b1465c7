"""Solvers of a directory's plans: fitted on its own pictures, kept in a file beside its weights, found again by plan and steps."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import NamedTemporaryFile, mkstemp
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engines.errors import PipelineError
from engines.fitted import Fit, FittedSolver, FullRun, fit_solver, full_run
from engines.pipelines.files import SOLVERS, alone, read_json
from engines.plan import SamplingPlan
from engines.samplers import SAMPLERS

if TYPE_CHECKING:
    from engines.pipeline import Pipeline, Wanted

Progress = Callable[[int, int, str], None]
"""Told how much of how much was done, and of what."""


def plan_note(plan: SamplingPlan) -> dict[str, Any]:
    """A plan as JSON holds it; without a solver there is no word of one, so that what is digested is what it was before there were any."""
    note = asdict(plan)
    if plan.solver is None:
        del note["solver"]
    return note


def fit_plan(pipeline: "Pipeline", wanted: "Wanted", seeds: Sequence[int], steps: int, progress: Progress) -> Fit:
    """Draw pictures by the pipeline's plan in full, and fit a solver of so many steps.

    One picture per seed, in whole batches of the pipeline's; a quarter of the batches, at least one, measures the error and is not fitted
    to.  Raises PipelineError, before anything is drawn, for a plan without a solver of that length or for fewer than two batches.
    """
    plan, full = pipeline.plan, len(pipeline.sigmas) - 1
    if plan.solver is not None or plan.sampler not in SAMPLERS:
        raise PipelineError(f"a solver is fitted to a whole plan of a sampler without fresh noise ({', '.join(SAMPLERS)})")
    if full != plan.steps:
        raise PipelineError(f"this schedule visits {full} levels in {plan.steps} steps; a solver is fitted where both are the same")
    if not 1 <= steps < full:
        raise PipelineError(f"a solver for a plan of {full} steps has 1 to {full - 1} of its own, got {steps}")
    batches = len(seeds) // pipeline.batch
    if batches < 2:
        raise PipelineError(
            f"a solver is fitted to two batches or more, that is, {2 * pipeline.batch} pictures, got {len(seeds)}; "
            "ask for more pictures, or set a smaller generator.batch"
        )
    asked: dict[FullRun, Wanted] = {}
    for start in range(0, batches * pipeline.batch, pipeline.batch):
        rows = slice(start, start + pipeline.batch)
        some = None if wanted is None else wanted[rows]
        denoise = pipeline.denoiser(some, pipeline.batch)
        asked[full_run(denoise, pipeline.start(seeds[rows]), pipeline.sigmas, SAMPLERS[plan.sampler])] = some
        progress(start + pipeline.batch, batches * pipeline.batch, "pictures of the whole plan")
    fewer, course = replace(plan, steps=steps), pipeline.course

    def plain(run: FullRun) -> Tensor:
        """The plan's own sampler, told the timesteps of its own fewer steps; states of the whole plan are not multiplied by its end."""
        start = course.path(fewer).start / course.path(plan).start
        denoise = course.denoiser(fewer, pipeline.told(asked[run], pipeline.batch), pipeline.null)
        return course.draw(fewer, denoise, start * run.states[0]) / course.path(plan).end

    return fit_solver(
        list(asked),
        pipeline.sigmas,
        steps,
        held_out=max(batches // 4, 1),
        plain=plain,
        progress=lambda done, total: progress(done, total, "candidates"),
    )


def check_place(directory: Path, key: str) -> None:
    """Raise PipelineError where :func:`keep_solver` would, so that it is known before anything is drawn."""
    _entries(directory, key)
    try:
        with NamedTemporaryFile(dir=directory, prefix=SOLVERS):
            pass
    except OSError as error:
        raise _unwritable(directory, error) from error


def keep_solver(directory: Path, key: str, plan: SamplingPlan, fit: Fit) -> Path:
    """Write it beside the weights that ``key`` (:attr:`Pipeline.solver_key`) stands for, in place of one of the same plan and length and of those with another key.

    Safe beside others that do the same.  Raises PipelineError where that cannot be written; what was there stays.
    """
    path = directory / SOLVERS
    try:
        with alone(directory):
            others = [
                one for one in _entries(directory, key) if one["plan"] != plan_note(plan) or len(one["weights"]) != fit.solver.steps
            ]
            entry = {"plan": plan_note(plan), "levels": fit.solver.levels, "weights": _rounded(fit), "error": round(fit.error, 5)}
            text = json.dumps({"key": key, "solvers": [*others, entry]}, indent=1) + "\n"
            _replaced(path, text)
    except OSError as error:
        raise _unwritable(directory, error) from error
    return path


def with_solver(plan: SamplingPlan, steps: int, directory: Path, key: str) -> SamplingPlan:
    """The plan by its solver of so many steps.  Raises PipelineError when none was fitted for it and these weights."""
    for entry in _entries(directory, key):
        if entry["plan"] == plan_note(plan) and len(entry["weights"]) == steps:
            return _with(plan, entry, directory)
    raise PipelineError(
        f"{directory} has no solver of {steps} steps for this plan ({plan.steps} steps of {plan.sampler}, guidance {plan.guidance:g}) "
        "and these weights; fit one with `audit-plugin generator solver`"
    )


def _entries(directory: Path, key: str) -> list[dict[str, Any]]:
    path = directory / SOLVERS
    if not path.is_file():
        return []
    note: Mapping[str, Any] = read_json(path, "")
    found = note.get("solvers")
    if not isinstance(found, list) or not all(map(_is_entry, found)):
        raise PipelineError(f"{path} is not a list of solvers; delete it and fit them again with `audit-plugin generator solver`")
    return [_as_planned(one) for one in found] if note.get("key") == key else []


def _is_entry(one: object) -> bool:
    kinds = {"plan": dict, "levels": list, "weights": list}
    return isinstance(one, dict) and all(isinstance(one.get(key), kind) for key, kind in kinds.items())


def _as_planned(entry: dict[str, Any]) -> dict[str, Any]:
    """Lists where a plan has tuples compare unequal."""
    interval = entry["plan"].get("guidance_interval")
    return {**entry, "plan": {**entry["plan"], "guidance_interval": tuple(interval) if isinstance(interval, list) else interval}}


def _replaced(path: Path, text: str) -> None:
    """By one rename, so that readers never see half of it; nothing is left behind when it fails."""
    number, name = mkstemp(dir=path.parent, prefix=SOLVERS)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _unwritable(directory: Path, error: OSError) -> PipelineError:
    return PipelineError(f"solvers cannot be written into {str(directory)!r}: {error}; they lie beside the weights they belong to")


def _rounded(fit: Fit) -> list[list[float]]:
    return [[float(f"{weight:.9g}") for weight in row] for row in fit.solver.weights]


def _with(plan: SamplingPlan, entry: Mapping[str, Any], directory: Path) -> SamplingPlan:
    try:
        weights = tuple(tuple(map(float, row)) for row in entry["weights"])
        return replace(plan, solver=FittedSolver(tuple(map(int, entry["levels"])), weights))
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{directory / SOLVERS} holds a solver that cannot be used: {error}") from error
