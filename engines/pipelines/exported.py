"""A noise network that somebody exported to ONNX, with a card that says how it speaks, as a pipeline over pixels.

The directory holds the graph, maybe its schedule, and ``audit.json`` with the card (:mod:`engines.pipelines.cards`).

The network's images lie in a range of its own.  With half its width r, its middle c and its table's sigma_n, an image y in [-1, 1] is to it
r y + c, and noise of level sigma_n is in our units noise of level sigma = sigma_n / r: schedules are converted so, and nothing is trained anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from engines.errors import EngineError, PipelineError, UnsupportedPipelineError
from engines.networks import mean_half
from engines.pipelines.cards import CARD, Card, card_of, exported_files
from engines.pipelines.files import digest_files, read_json
from engines.pipelines.tables import rule_or_table, unit_betas
from engines.precondition import rowwise
from engines.serving.onnx_module import OnnxModule, Port

AGREEMENT = 1e-3
"""Largest difference between our reading of the graph and ONNX Runtime, relative to the largest number."""


class NetworkConfig(dict[str, Any]):
    """What other networks' ``config`` tells, by key and by attribute."""

    def __getattr__(self, name: str) -> Any:
        """None where nothing is said."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self.get(name)


class ExportedDenoiser(nn.Module):
    """Noisy images of unit variance and timesteps, in our units -> the prediction, in our units.

    A time between two entries has a level between theirs, in log sigma.
    """

    log_sigmas: Tensor

    def __init__(self, graph: OnnxModule, card: Card, log_sigmas: Float64[Tensor, " t"], *, content: str) -> None:
        """``log_sigmas``: the network's own levels; ``content``: digest of the graph's file."""
        super().__init__()
        self.graph, self.card = graph, card
        self.register_buffer("log_sigmas", log_sigmas.float())
        self.swapped = graph.sources[0].name != card.image
        self.column = len(_port(graph, card.time).shape) == 2
        self.whole = _port(graph, card.time).dtype == "int64"
        self.config = NetworkConfig(in_channels=card.channels, sample_size=list(card.size), content=content, card=repr(card))

    def forward(self, sample: Float[Tensor, "n c h w"], t: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """One prediction per row."""
        card, (r, c) = self.card, self.card.affine
        if (r, c) == (1.0, 0.0):
            return self._asked(sample, t)
        sigma = rowwise(self._level(t), sample)  # the network's
        alpha, noisy = (1 + sigma**2).rsqrt(), sigma * (1 + sigma**2).rsqrt()
        ours = (1 + (sigma / r) ** 2).rsqrt()
        x = alpha * (r * sample / ours + c)
        out = self._asked(x, t)
        if card.prediction == "sample":
            return (out - c) / r
        if card.prediction == "v_prediction":
            eps, clean = noisy * x + alpha * out, alpha * x - noisy * out
            return ours * eps - ours * sigma / r * (clean - c) / r
        return out

    def _asked(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.card.time_scale * t + self.card.time_offset
        time = time.round().long() if self.whole else time
        told = (x, time[:, None] if self.column else time)
        return mean_half(self.graph(*(told[::-1] if self.swapped else told)), x)

    def _level(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        low = t.floor().clamp(0, len(self.log_sigmas) - 2)
        below = low.long()
        return torch.lerp(self.log_sigmas[below], self.log_sigmas[below + 1], t - low).exp()


class ExportedForward(nn.Module):
    """The denoiser as networks of pipelines are called."""

    def __init__(self, denoiser: ExportedDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, sample: Float[Tensor, "n c h w"], t: Float[Tensor, " n"]) -> Tensor:
        """One prediction per row."""
        answer: Tensor = self.denoiser(sample, t)
        return answer


@dataclass(frozen=True, eq=False, kw_only=True)
class Exported:
    """What a directory of this family holds."""

    denoiser: ExportedDenoiser
    scheduler: Mapping[str, object]
    """As a scheduler_config.json would say it, in our units."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """The plan."""


def read_exported(directory: Path) -> Exported:
    """Read graph and schedule; hold the graph's names and sizes, and our reading of it, against the card.  Raises PipelineError."""
    audit = read_json(directory / "audit.json", "it says how the network speaks")
    card = card_of(directory, audit)
    path = exported_files(directory, card)[0]
    try:
        graph = OnnxModule(path, card.output, inputs=2)
    except (EngineError, KeyError) as error:
        raise PipelineError(f"{path} cannot be read as a noise network of an image and a time: {error}") from error
    check_ports(path, graph, card)
    log_sigmas = rule_or_table(directory, card.schedule)
    denoiser = ExportedDenoiser(graph, card, log_sigmas, content=digest_files(directory, [path])).eval()
    check_reading(path, denoiser)
    scheduler = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": len(log_sigmas),
        "trained_betas": unit_betas(log_sigmas, card.affine[0]),
        "prediction_type": card.prediction,
        "timestep_spacing": "trailing",
        "clip_sample": card.clip,
    }
    return Exported(denoiser=denoiser, scheduler=scheduler, defaults={key: value for key, value in audit.items() if key != CARD})


def check_ports(path: Path, graph: OnnxModule, card: Card) -> None:
    """Raise PipelineError where names or sizes of the graph are not the card's."""
    inputs, outputs = [port.name for port in graph.sources], [port.name for port in graph.outputs]
    for kind, name, there in (("image", card.image, inputs), ("time", card.time, inputs), ("output", card.output, outputs)):
        if name not in there:
            raise PipelineError(f"{path} has no {kind} {name!r}; it has {', '.join(there)}: set `{CARD}.{kind}` to one of them")
    image, time = _port(graph, card.image), _port(graph, card.time)
    odd = len(image.shape) != 4 or any(has not in {None, want} for has, want in zip(image.shape[1:], card.shape, strict=False))
    if odd or image.dtype != "float":
        raise PipelineError(
            f"{path} takes {image.dtype} {_sizes(image)} as {image.name!r}, its card says (n, {', '.join(map(str, card.shape))}) float; "
            f"set `{CARD}.channels` and `.size` to what the graph takes"
        )
    if len(time.shape) not in {1, 2} or time.dtype not in {"float", "int64"} or (len(time.shape) == 2 and time.shape[1] != 1):
        raise UnsupportedPipelineError(
            f"{path} takes {time.dtype} {_sizes(time)} as {time.name!r}; supported are times (n) or (n, 1), float or int64"
        )


def check_reading(path: Path, denoiser: ExportedDenoiser) -> None:
    """Raise PipelineError where the graph cannot be run, or runs otherwise in ONNX Runtime than as it was read here."""
    import onnxruntime

    graph, card, rows = denoiser.graph, denoiser.card, 1 if denoiser.graph.source.shape[:1] == (1,) else 2
    noise = torch.randn(rows, *card.shape, generator=torch.Generator().manual_seed(0))
    time = card.time_scale * torch.arange(1, rows + 1) * (len(denoiser.log_sigmas) // 3) + card.time_offset
    told = {card.image: noise, card.time: time.round().long() if denoiser.whole else time}
    told[card.time] = told[card.time][:, None] if denoiser.column else told[card.time]
    try:
        with torch.no_grad():
            ours = graph(*(told[port.name] for port in graph.sources))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        theirs = torch.from_numpy(session.run([card.output], {name: value.numpy() for name, value in told.items()})[0])
    except Exception as error:  # both raise whatever a wrong shape leads them to
        raise PipelineError(f"{path} cannot be run on {rows} images (n, {', '.join(map(str, card.shape))}): {error}") from error
    if ours.shape not in {noise.shape, torch.Size([rows, 2 * card.channels, *card.size])}:
        raise PipelineError(f"{path} answers {tuple(ours.shape)} for {tuple(noise.shape)}; a prediction has the shape of its image")
    apart = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
    if not apart < AGREEMENT:
        raise PipelineError(f"{path}, read as a torch module, answers otherwise than in ONNX Runtime (by {apart:.1e})")


def _port(graph: OnnxModule, name: str) -> Port:
    return next(port for port in graph.sources if port.name == name)


def _sizes(port: Port) -> str:
    return f"({', '.join('n' if size is None else str(size) for size in port.shape)})"
