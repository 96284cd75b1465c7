"""Hidden units of a deployed classifier as differentiable functions of pictures, read from its ONNX file.

The names are those of the audit model's outputs (``<tensor>_mean``, ``<tensor>_max``, or the vector itself): what the file says of a unit
can be held against what the server says.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from audit_plugin.core.errors import GradientError
from audit_plugin.target.contract import Contract
from audit_plugin.target.gradients.reading import Images, prepared, preprocess_of
from audit_plugin.target.options import PreprocessOptions
from engines.errors import EngineError
from engines.serving.hidden import survey
from engines.serving.onnx_module import OnnxModule

CLOSE = 0.05
"""Largest difference between file and server, in standard deviations of a unit over real pictures, at which the file stands in for it."""
_BATCH = 64


class UnitsReading(nn.Module):
    """Pictures (n 3 h w) in [0, 1] -> every unit of one output (n U)."""

    def __init__(self, network: nn.Module, preprocess: PreprocessOptions, space: Sequence[int], *, largest: bool) -> None:
        super().__init__()
        self.network, self.preprocess, self.space, self.largest = network, preprocess, tuple(space), largest

    def forward(self, images: Images) -> Float[Tensor, "n U"]:
        """Reduced over space where the tensor has any."""
        out: Tensor = self.network(prepared(images, self.preprocess))
        if not self.space:
            return out
        return out.amax(self.space) if self.largest else out.mean(self.space)


def read_units(path: Path, contract: Contract, output: str) -> UnitsReading:
    """The output of ``<model>_hidden`` that is called so, from the classifier's own file.

    Raises GradientError for another kind of file, an output that its tensors do not make, or operators that cannot be read.
    """
    if path.suffix != ".onnx":
        raise GradientError(f"hidden units are read from ONNX files, not from {path.name}")
    try:
        found = next(
            (
                (each, reduced)
                for each in survey(path, contract.preprocess.size).tensors
                for name, reduced in each.outputs.items()
                if name == output
            ),
            None,
        )
        if found is None:
            raise GradientError(f"{path} has no tensor that makes {output!r}; give the file that the server runs")
        tensor, reduced = found
        network = OnnxModule(path, tensor.name).eval()
    except EngineError as error:
        raise GradientError(f"hidden units of {path} cannot be differentiated: {error}") from error
    for parameter in network.parameters():
        parameter.requires_grad = False
    return UnitsReading(network, preprocess_of(contract), tensor.space, largest=reduced == "ReduceMax")


def check_units(
    reading: UnitsReading,
    images: NDArray[np.float32],
    served: Float[np.ndarray, "n D"],
    units: Sequence[int],
    sd: Float[np.ndarray, "U"],
) -> str:
    """How well the file says what the server says of these units on the same pictures.  Raises GradientError, with the number, where it does not."""
    with torch.no_grad():
        parts = [reading(torch.from_numpy(images[at : at + _BATCH])).numpy() for at in range(0, len(images), _BATCH)]
    ours = np.concatenate(parts)
    if ours.shape != served.shape:
        raise GradientError(f"the file has {ours.shape[1]} units where the server has {served.shape[1]}")
    worst = float((np.abs(ours - served)[:, list(units)] / sd).max())
    if not worst <= CLOSE:
        raise GradientError(
            f"the file's units differ from the server's by up to {worst:.2g} standard deviations on {len(images)} pictures (allowed: {CLOSE})"
        )
    return f"units of the file are within {worst:.1g} standard deviations of the server's on {len(images)} pictures"
