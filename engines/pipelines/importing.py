"""Write the directory of an exported noise network from its ONNX file (:mod:`engines.pipelines.exported`), and try it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from engines.errors import EngineError, PipelineError
from engines.noise import start_noise
from engines.pipelines.cards import CARD, Card
from engines.pipelines.exported import ExportedDenoiser, read_exported
from engines.precondition import estimates, noise_levels, prediction_of, rowwise
from engines.serving.onnx_module import OnnxModule, Port

WORST = 0.25
"""Mean squared error of the noise, at almost nothing else than noise, beyond which the network was told something wrong."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was written, and what a network told so answers."""

    directory: Path
    image: str
    time: str
    output: str
    channels: int
    height: int
    width: int
    timesteps: int
    noise_error: float
    """Mean squared error of the noise that it finds in almost nothing else (1 for one that finds nothing)."""


def import_denoiser(
    file: Path,
    out: Path,
    *,
    schedule: Mapping[str, Any],
    table: Path | None = None,
    plan: Mapping[str, object] | None = None,
    names: Mapping[str, str] | None = None,
    size: tuple[int, int] | None = None,
    **told: Any,
) -> Imported:
    """Copy the graph and the file of its schedule (``table``) to ``out``, with an ``audit.json``.

    ``names`` of image, time and output, and the size, are needed only where the graph leaves them open; ``told`` are further fields of
    :class:`engines.pipelines.cards.Card`; ``plan`` what is to be recommended (steps, sampler, …).  Nothing is written unless the network
    finds the noise in almost pure noise, which one that is told the time in other units does not.  Raises PipelineError.
    """
    if out.exists():
        raise PipelineError(f"{out} is there already; remove it, or name another directory")
    card = _card(file, dict(names or {}), size, {**schedule, **({} if table is None else {"file": table.name})}, told)
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as made:
        folder = Path(made) / "made"
        folder.mkdir()
        for source, name in ((file, "denoiser.onnx"), *([] if table is None else [(table, table.name)])):
            if not source.is_file():
                raise PipelineError(f"there is no file {source}")
            shutil.copyfile(source, folder / name)
        text = json.dumps({CARD: card, **(plan or {})}, indent=2)
        (folder / "audit.json").write_text(text + "\n", encoding="utf-8")
        read = read_exported(folder)
        error = noise_error(read.denoiser, read.scheduler)
        if not error < WORST:
            raise PipelineError(
                f"{file} does not find the noise in almost nothing else (mean squared error {error:.2f}, of 1 for guessing none); it is told "
                "the time in other units than it was trained with (time_scale, time_offset), another schedule, or predicts something else"
            )
        folder.rename(out)
    channels, height, width = read.denoiser.card.shape
    found = read.denoiser.card
    return Imported(
        directory=out,
        image=found.image,
        time=found.time,
        output=found.output,
        channels=channels,
        height=height,
        width=width,
        timesteps=len(read.denoiser.log_sigmas),
        noise_error=round(error, 4),
    )


def noise_error(denoiser: ExportedDenoiser, scheduler: Mapping[str, object], rows: int = 4) -> float:
    """Mean squared error of the noise found in grey images at the last tenth of the schedule."""
    levels, prediction = noise_levels(scheduler), prediction_of(scheduler)
    count = len(levels.log_sigmas)
    t = torch.linspace(0.9 * (count - 1), count - 1, rows).round().long()
    alpha_bar = levels.alpha_bars[t].float()
    noise = start_noise(range(rows), denoiser.card.shape)
    x = rowwise((1 - alpha_bar).sqrt(), noise) * noise
    with torch.no_grad():
        found, _ = estimates(prediction, x, denoiser(x, t.float()), alpha_bar)
    return float((found - noise).square().mean())


def _card(
    file: Path, names: dict[str, str], size: tuple[int, int] | None, schedule: Mapping[str, Any], told: Mapping[str, Any]
) -> dict[str, Any]:
    """The card as JSON, names and sizes filled in from the graph."""
    try:
        graph = OnnxModule(file, names.get("output"), inputs=2)
    except (EngineError, KeyError) as error:
        raise PipelineError(f"{file} cannot be read as a noise network of an image and a time: {error}") from error
    image, time = _image_and_time(file, graph, names)
    height, width = size or image.shape[2:]
    channels = told.get("channels") or image.shape[1]
    if channels is None or height is None or width is None:
        raise PipelineError(f"{file} leaves the size of its images open; give --size and --channels")
    card: dict[str, Any] = {
        "image": image.name,
        "time": time.name,
        "output": graph.output,
        "channels": channels,
        "size": [height, width],
    }
    card |= {name: list(value) if isinstance(value, tuple) else value for name, value in told.items() if value is not None}
    card["schedule"] = dict(schedule)
    try:
        Card(**{**card, "size": (height, width), **({"range": tuple(card["range"])} if "range" in card else {})})
    except (TypeError, ValueError) as error:
        raise PipelineError(f"{file}: {error}") from error
    return card


def _image_and_time(file: Path, graph: OnnxModule, names: Mapping[str, str]) -> tuple[Port, Port]:
    """By name, else the input with four axes and the other one."""
    ports = {port.name: port for port in graph.sources}
    if unknown := [name for key in ("image", "time") if (name := names.get(key)) is not None and name not in ports]:
        raise PipelineError(f"{file} has no input {unknown[0]!r}; it has {', '.join(ports)}")
    four = [port.name for port in graph.sources if len(port.shape) == 4]
    image = names.get("image") or (four[0] if len(four) == 1 else None)
    if image is None:
        raise PipelineError(f"{file} has the inputs {', '.join(ports)}; say which takes the image (--image) and which the time")
    time = names.get("time") or next(name for name in ports if name != image)
    if time == image:
        raise PipelineError(f"{file}: {image!r} cannot be both image and time")
    return ports[image], ports[time]
