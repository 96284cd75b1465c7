"""``audit-plugin generator import``: an exported noise network becomes a directory that draws and edits."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from audit_plugin.cli.command import Output, command
from audit_plugin.cli.console import ExitCode, Form, print_facts
from audit_plugin.cli.engine_cache import engine_errors
from audit_plugin.core.errors import ConfigError


@command
def generator_import(
    file: Annotated[Path, typer.Argument(help="ONNX file: noisy images and a time in, a prediction out.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory to write.", show_default=False)],
    alpha_bars: Annotated[str | None, typer.Option(help="FILE.npz:KEY of the schedule's alpha bars.", show_default=False)] = None,
    betas: Annotated[str | None, typer.Option(help="FILE.npz:KEY of its betas.", show_default=False)] = None,
    beta_schedule: Annotated[
        Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"],
        typer.Option(help="Rule of the schedule, without a file."),
    ] = "linear",
    beta_start: Annotated[float, typer.Option(help="First beta of the rule.")] = 1e-4,
    beta_end: Annotated[float, typer.Option(help="Last beta of the rule.")] = 0.02,
    timesteps: Annotated[int, typer.Option(help="Entries of the rule.", min=2)] = 1000,
    image_range: Annotated[str, typer.Option("--range", help="BLACK,WHITE as the network knows them.")] = "-1,1",
    time_scale: Annotated[float, typer.Option(help="The network is told scale * i + offset at entry i of the schedule.")] = 1.0,
    time_offset: Annotated[float, typer.Option(help="See --time-scale.")] = 0.0,
    prediction: Annotated[
        Literal["epsilon", "v_prediction", "sample"], typer.Option(help="What the output is; epsilon is the noise.")
    ] = "epsilon",
    clip: Annotated[bool, typer.Option(help="Keep clean estimates within the range.")] = True,
    image: Annotated[str | None, typer.Option(help="Input of images, where it cannot be told.", show_default=False)] = None,
    time: Annotated[str | None, typer.Option(help="Input of times, where it cannot be told.", show_default=False)] = None,
    prediction_output: Annotated[
        str | None, typer.Option("--output-name", help="Output to use; the first one by default.", show_default=False)
    ] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHT,WIDTH, where the graph leaves them open.", show_default=False)] = None,
    channels: Annotated[int | None, typer.Option(help="3, or 1 for grey; where it is left open.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps to recommend; 50 of DDIM by default.", min=1, show_default=False)] = None,
    output: Output = Form.TABLE,
) -> int:
    """Make a directory for ``explain.generator`` of a noise network that was exported to ONNX; the network is tried first."""
    schedule: dict[str, Any] = {
        "beta_schedule": beta_schedule, "beta_start": beta_start, "beta_end": beta_end, "num_train_timesteps": timesteps,
    }  # fmt: skip
    table = None
    if alpha_bars is not None or betas is not None:
        table, schedule = _table(alpha_bars, betas)
    low, high = _pair("--range", image_range)
    names = {"image": image, "time": time, "output": prediction_output}
    with engine_errors():
        from engines.pipelines.importing import import_denoiser

        height, width = (None, None) if size is None else _pair("--size", size)
        made = import_denoiser(
            file,
            out,
            schedule=schedule,
            table=table,
            plan={} if steps is None else {"steps": steps},
            names={key: name for key, name in names.items() if name is not None},
            size=None if height is None or width is None else (int(height), int(width)),
            range=(low, high),
            time_scale=time_scale,
            time_offset=time_offset,
            prediction=prediction,
            clip=clip,
            channels=channels,
        )
    print_facts({**asdict(made), "directory": str(made.directory)}, output)
    return ExitCode.CLEAN


def _table(alpha_bars: str | None, betas: str | None) -> tuple[Path, dict[str, Any]]:
    """The file of a schedule, and which of its arrays it is."""
    if alpha_bars is not None and betas is not None:
        raise ConfigError("give --alpha-bars or --betas, not both")
    option, key = ("alpha_bars", alpha_bars) if alpha_bars is not None else ("betas", betas)
    file, colon, array = str(key).rpartition(":")
    if not colon or not file or not array:
        raise ConfigError(f"--{option.replace('_', '-')} {key!r}: give the file and the array's key, such as schedule.npz:{option}")
    return Path(file), {option: array}


def _pair(option: str, text: str) -> tuple[float, float]:
    parts = text.split(",")
    try:
        first, second = (float(part) for part in parts)
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: give two numbers with a comma between them, such as -1,1") from error
    return first, second
