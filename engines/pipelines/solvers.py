"""Solvers of a directory's plans: fitted on its own pictures, kept in a file beside its weights, found again by plan and steps."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engines.errors import PipelineError
from engines.fitted import Fit, FittedSolver, FullRun, fit_solver, full_run
from engines.pipelines.files import read_json
from engines.plan import SamplingPlan
from engines.samplers import SAMPLERS

if TYPE_CHECKING:
    from engines.pipeline import Pipeline, Wanted

FILE = "solvers.json"
"""Not part of the directory's digest: without being asked for, a solver changes no picture."""

Progress = Callable[[int, int, str], None]
"""Told how much of how much was done, and of what."""


def plan_note(plan: SamplingPlan) -> dict[str, Any]:
    """A plan as JSON holds it; without a solver there is no word of one, so that what is digested is what it was before there were any."""
    note = asdict(plan)
    if plan.solver is None:
        del note["solver"]
    return note


def fit_plan(pipeline: "Pipeline", wanted: "Wanted", seeds: Sequence[int], steps: int, progress: Progress) -> Fit:
    """Draw pictures by the pipeline's plan in full, and fit a solver of so many steps; a quarter of the batches measures its error.

    Raises PipelineError for a plan that has no solver of that length, or for fewer pictures than fill two batches.
    """
    plan = pipeline.plan
    if plan.solver is not None or plan.sampler not in SAMPLERS:
        raise PipelineError(f"a solver is fitted to a whole plan of a sampler without fresh noise ({', '.join(SAMPLERS)})")
    if len(seeds) < 2 * pipeline.batch:
        raise PipelineError(f"a solver is fitted to two batches or more, that is, {2 * pipeline.batch} pictures, got {len(seeds)}")
    runs: list[FullRun] = []
    for start in range(0, len(seeds), pipeline.batch):
        rows = slice(start, start + pipeline.batch)
        asked = None if wanted is None else wanted[rows]
        denoise = pipeline.denoiser(asked, len(seeds[rows]))
        runs.append(full_run(denoise, pipeline.start(seeds[rows]), pipeline.sigmas, SAMPLERS[plan.sampler]))
        progress(min(start + pipeline.batch, len(seeds)), len(seeds), "pictures of the whole plan")
    try:
        fewer = replace(plan, steps=steps)

        def plain(run: FullRun) -> Tensor:
            start = pipeline.course.path(fewer).start / pipeline.course.path(plan).start
            return pipeline.course.draw(fewer, run.denoise, start * run.states[0])

        return fit_solver(
            runs,
            pipeline.sigmas,
            steps,
            held_out=max(len(runs) // 4, 1),
            plain=plain,
            progress=lambda done, total: progress(done, total, "ways tried"),
        )
    except ValueError as error:
        raise PipelineError(str(error)) from error


def keep_solver(directory: Path, parts: str, plan: SamplingPlan, fit: Fit) -> Path:
    """Write it beside the weights of digest ``parts``, in place of one of the same plan and length and of those of other weights."""
    known = [one for one in _entries(directory, parts) if one["plan"] != plan_note(plan) or len(one["weights"]) != fit.solver.steps]
    entry = {"plan": plan_note(plan), "levels": fit.solver.levels, "weights": _rounded(fit), "error": round(fit.error, 5)}
    path = directory / FILE
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"parts": parts, "solvers": [*known, entry]}, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def with_solver(plan: SamplingPlan, steps: int, directory: Path, parts: str) -> SamplingPlan:
    """The plan cut short to so many steps.  Raises PipelineError when none was fitted for it and these weights."""
    for entry in _entries(directory, parts):
        if entry["plan"] == plan_note(plan) and len(entry["weights"]) == steps:
            return replace(plan, solver=_solver(entry, directory))
    raise PipelineError(
        f"{directory} has no solver of {steps} steps for this plan ({plan.steps} steps of {plan.sampler}, guidance {plan.guidance:g}) "
        "and these weights; fit one with `audit-plugin generator solver`"
    )


def _entries(directory: Path, parts: str) -> list[dict[str, Any]]:
    path = directory / FILE
    if not path.is_file():
        return []
    note: Mapping[str, Any] = read_json(path, "")
    found = note.get("solvers")
    if not isinstance(found, list) or not all(isinstance(one, dict) and {"plan", "levels", "weights"} <= set(one) for one in found):
        raise PipelineError(f"{path} is not a list of solvers; delete it and fit them again with `audit-plugin generator solver`")
    return [_as_planned(one) for one in found] if note.get("parts") == parts else []


def _as_planned(entry: dict[str, Any]) -> dict[str, Any]:
    """Lists where a plan has tuples compare unequal."""
    interval = entry["plan"].get("guidance_interval")
    return {**entry, "plan": {**entry["plan"], "guidance_interval": None if interval is None else tuple(interval)}}


def _rounded(fit: Fit) -> list[list[float]]:
    return [[float(f"{weight:.9g}") for weight in row] for row in fit.solver.weights]


def _solver(entry: Mapping[str, Any], directory: Path) -> FittedSolver:
    try:
        return FittedSolver(tuple(map(int, entry["levels"])), tuple(tuple(map(float, row)) for row in entry["weights"]))
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{directory / FILE} holds a solver that cannot be used: {error}") from error
