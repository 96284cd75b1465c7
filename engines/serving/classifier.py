"""A classifier as gradients need it: RGB images in [0, 1] at the generator's size in, one row of scores each out."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engines.errors import ExportError
from engines.networks import state_digest
from engines.serving.onnx_module import OnnxModule, Port
from engines.spec import digest

Scores = Literal["probabilities", "logits"]
PREFERRED = "logits"
"""Output to take gradients of where a graph has one of this name: probabilities saturate, and their gradients vanish."""
AGREEMENT = 1e-4
"""Largest difference between the module and ONNX Runtime, relative to the largest score."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """Images (n 3 h w) in [0, 1] -> scores (n k)."""

    module: nn.Module
    classes: int
    scores: Scores
    digest: str
    """Of everything that decides the scores."""


class AsServed(nn.Module):
    """Brings images to what an ONNX graph takes: its size, its layout, its range."""

    def __init__(self, graph: OnnxModule, size: tuple[int, int]) -> None:
        super().__init__()
        self.graph, self.size = graph, size
        self.last = len(graph.source.shape) == 4 and graph.source.shape[3] == 3
        self.pixels = graph.source.dtype == "uint8"

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Scores; pixels are not rounded, since a rounded image has no gradient."""
        if x.shape[2:] != torch.Size(self.size):
            x = functional.interpolate(x, self.size, mode="bilinear", antialias=x.shape[2] > self.size[0])
        x = x * 255 if self.pixels else x
        scores: Tensor = self.graph(x.permute(0, 2, 3, 1) if self.last else x)
        return scores


def read_classifier(classifier: Path | nn.Module, image: tuple[int, int, int]) -> Classifier:
    """From an ONNX file or a module that takes images (n *image) in [0, 1].  Raises ExportError."""
    if isinstance(classifier, nn.Module):
        module = classifier.eval().requires_grad_(requires_grad=False)
        told: dict[str, object] = {"state": state_digest(module), "structure": str(module)}
    elif classifier.suffix == ".onnx":
        module = _from_onnx(classifier, image).eval()
        told = {
            "file": hashlib.sha256(classifier.read_bytes()).hexdigest(),
            "output": module.graph.output,
            "size": list(module.size),
        }
    else:
        raise ExportError(
            f"{classifier} is not an .onnx file; other formats run code when they are read, so export the classifier to ONNX, or "
            "give its torch module from Python"
        )
    scores = _ask(module, image)
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ExportError(
            f"the classifier answers {tuple(scores.shape)} for 2 images; one row of two or more scores each is needed"
        )
    sums_to_one = bool((scores >= 0).all()) and torch.allclose(scores.sum(1), torch.ones(2), atol=1e-4)
    kind: Scores = "probabilities" if sums_to_one else "logits"
    return Classifier(module, scores.shape[1], kind, digest({**told, "image": list(image)}))


def _from_onnx(path: Path, image: tuple[int, int, int]) -> AsServed:
    plain = OnnxModule(path)
    graph = OnnxModule(path, _output(plain.outputs))
    module = AsServed(graph, _size(graph.source, image, path))
    _check_agreement(path, graph, module.size)
    return module


def _output(outputs: tuple[Port, ...]) -> str:
    rows = [each.name for each in outputs if len(each.shape) == 2 and each.dtype == "float"]
    return PREFERRED if PREFERRED in rows else (rows or [outputs[0].name])[0]


def _size(source: Port, image: tuple[int, int, int], path: Path) -> tuple[int, int]:
    """Height and width of the graph's input; what it leaves free is the generator's."""
    shape = source.shape
    if len(shape) != 4 or shape[0] is not None or 3 not in {shape[1], shape[3]} or source.dtype not in {"float", "uint8"}:
        raise ExportError(
            f"{path} takes {source.dtype} {list(shape)}; needed are colour images with a free batch, (n 3 h w) or (n h w 3), of type "
            "float or uint8"
        )
    height, width = shape[2:] if shape[1] == 3 else shape[1:3]
    return height or image[1], width or image[2]


def _check_agreement(path: Path, graph: OnnxModule, size: tuple[int, int]) -> None:
    """Our reading of the operators against the runtime's."""
    import onnxruntime

    shape = (2, *size, 3) if graph.source.shape[1] != 3 else (2, 3, *size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    sent = (images * 255).round().to(torch.uint8) if graph.source.dtype == "uint8" else images
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run([graph.output], {graph.source.name: sent.numpy()})[0])
    with torch.no_grad():
        ours = graph(sent.float())
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))
    if ours.shape != theirs.shape or not error < AGREEMENT:
        raise ExportError(
            f"{path}, read as a torch module, answers otherwise than in ONNX Runtime (by {error:.1e}); give the torch module"
        )


def _ask(module: nn.Module, image: tuple[int, int, int]) -> Tensor:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        found: Tensor = module(torch.rand(2, *image, generator=torch.Generator().manual_seed(0)))
    return found
