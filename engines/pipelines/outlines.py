"""Graphs kept beside the weights they belong to, without those weights: ``graphs/<key>/{model.onnx, weights.json}``.

Exporting takes tens of seconds for a small network and minutes and much memory for a large one; filling an outline takes as long as
copying the weights and running the graph three times.  An outline is found by the whole spec of its network, the weights' digest included.
What it gives is compared with the module like a fresh export, and certified like one; whoever can write into a generator's directory
could still make a graph that betrays both, so that a pinned directory's outlines are not used.
"""

import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from engines.cache import BuildCache
from engines.errors import PipelineError, first_line
from engines.graphs.check import check_batches, check_graph
from engines.graphs.export import export
from engines.graphs.precision import HALVES, at_precision
from engines.graphs.weights import GRAPH, fill, outline
from engines.network import Network
from engines.pipelines.files import OUTLINES, alone
from engines.spec import EngineSpec

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptGraphs:
    """Fills the outlines of a pipeline directory; what it has none of, or none that is right, is exported."""

    directory: Path

    def __call__(self, module: nn.Module, spec: EngineSpec, folder: Path, /) -> None:
        """As a :class:`engines.graphs.maker.GraphMaker`."""
        if self.quick(spec):
            try:
                _fill(self._kept(spec), module, spec, folder)
            except _UnusableError as error:
                LOG.warning("the graph kept in %s cannot be used (%s); exporting it instead", self._kept(spec), error)
            else:
                return
            for left in folder.iterdir():
                left.unlink()
        export(module, spec, folder)

    def quick(self, spec: EngineSpec) -> bool:
        """Whether there is an outline of exactly this network."""
        return os.path.isfile(self._kept(spec) / GRAPH)  # noqa: PTH113  (Path's raises where the folder may not be searched)

    def _kept(self, spec: EngineSpec) -> Path:
        return self.directory / OUTLINES / spec.key()


def check_place(directory: Path) -> None:
    """Raise PipelineError where :func:`keep_outlines` could not write, before anything is built."""
    try:
        with alone(directory), tempfile.TemporaryDirectory(dir=directory, prefix=f".{OUTLINES}."):
            pass
    except OSError as error:
        raise _unwritable(directory, error) from error


def keep_outlines(directory: Path, networks: Sequence[Network], cache: BuildCache) -> tuple[Path, ...]:
    """Write the outline of every network; graphs that the cache lacks are exported.  Outlines of other keys (another precision) stay.

    Safe beside others that do the same.  Raises BackendError where a network cannot be exported, PipelineError where the directory
    cannot be written; what was there stays.
    """
    try:
        with alone(directory):
            for left in directory.glob(f".{OUTLINES}.*"):  # of writers that were killed: under the lock there is no other
                shutil.rmtree(left, ignore_errors=True)
            (directory / OUTLINES).mkdir(exist_ok=True)
            return tuple(_keep(directory, network, cache) for network in networks)
    except OSError as error:
        raise _unwritable(directory, error) from error


def _keep(directory: Path, network: Network, cache: BuildCache) -> Path:
    spec = network.spec
    graph = cache.obtain(spec.key(), lambda empty: export(network.module, spec, empty), spec.about("onnx"))
    final = directory / OUTLINES / spec.key()
    with tempfile.TemporaryDirectory(dir=directory, prefix=f".{OUTLINES}.") as made:
        fresh, before = Path(made, "fresh"), Path(made, "before")
        outline(graph, fresh)
        if final.exists():
            final.rename(before)
        try:
            fresh.rename(final)
        except OSError:
            if before.exists():
                before.rename(final)
            raise
    return final


class _UnusableError(Exception):
    """A graph that was kept is not what it should be."""


def _fill(kept: Path, module: nn.Module, spec: EngineSpec, folder: Path) -> None:
    """Write the graph with its weights into the folder, compared with the module."""
    missing = [library for library in ("onnx", "onnx_ir", "onnxruntime") if importlib.util.find_spec(library) is None]
    if missing:
        raise _UnusableError(f"{', '.join(missing)} not installed")
    try:
        check_graph(kept / GRAPH, spec)
        cast = at_precision(module, spec.precision)
        fill(kept, dict(zip(module.state_dict(), cast.state_dict().values(), strict=True)), folder)
        if spec.precision not in HALVES:
            check_batches(folder / GRAPH, module, spec)
    except Exception as error:  # the libraries raise whatever a damaged file leads them to
        if isinstance(error, OSError) and error.filename is not None and Path(error.filename).is_relative_to(folder):
            raise  # the cache cannot be written, which no other graph mends
        raise _UnusableError(first_line(error)) from error


def _unwritable(directory: Path, error: OSError) -> PipelineError:
    return PipelineError(f"graphs cannot be written into {str(directory)!r}: {error}; they lie beside the weights they belong to")
