"""Where a network's graph comes from: exported from its module, unless somebody has it already."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from engines.graphs.export import export
from engines.spec import EngineSpec


class GraphMaker(Protocol):
    """Fills an empty folder with ``model.onnx`` and ``weights.json`` of a module."""

    def __call__(self, module: nn.Module, spec: EngineSpec, folder: Path, /) -> None:
        """Raises ExportError."""
        ...

    def quick(self, spec: EngineSpec) -> bool:
        """Whether that takes no time to speak of."""
        ...


@dataclass(frozen=True)
class Exporting:
    """Exports every time."""

    def __call__(self, module: nn.Module, spec: EngineSpec, folder: Path, /) -> None:
        """As :func:`engines.graphs.export.export`."""
        export(module, spec, folder)

    def quick(self, spec: EngineSpec) -> bool:
        """Never."""
        return False
