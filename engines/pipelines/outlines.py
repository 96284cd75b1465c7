"""Graphs kept beside the weights they belong to, without those weights: ``graphs/<key>/{model.onnx, weights.json}``.

Exporting takes tens of seconds for a small network and minutes and much memory for a large one; filling an outline takes as long as
copying the weights.  An outline is found by the whole spec of its network, the weights' digest included, and what it gives is checked and
certified like any other graph, so that a wrong one costs time and never a wrong picture.
"""

import logging
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from engines.cache import BuildCache
from engines.errors import BackendError, PipelineError
from engines.graphs.check import check_graph
from engines.graphs.export import export
from engines.graphs.weights import GRAPH, fill, outline
from engines.network import Network
from engines.pipelines.files import OUTLINES

LOG = logging.getLogger(__name__)


def keep_outlines(directory: Path, networks: Sequence[Network], cache: BuildCache) -> tuple[Path, ...]:
    """Write the outline of every network; graphs that the cache lacks are exported.  Outlines of other keys (another precision) stay.

    Raises BackendError where a network cannot be exported, PipelineError where the directory cannot be written; what was there stays.
    """
    graphs = {each.spec.key(): _graph(each, cache) for each in networks}
    kept = tuple(directory / OUTLINES / key for key in graphs)
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=f".{OUTLINES}.") as made:
            for key, graph in graphs.items():
                outline(graph, Path(made, key))
            (directory / OUTLINES).mkdir(exist_ok=True)
            for folder in kept:
                if folder.exists():
                    folder.rename(Path(made, f"{folder.name}.before"))
                Path(made, folder.name).rename(folder)
    except OSError as error:
        raise PipelineError(
            f"graphs cannot be written into {str(directory)!r}: {error}; they lie beside the weights they belong to"
        ) from error
    return kept


def take_outlines(directory: Path, networks: Sequence[Network], cache: BuildCache) -> None:
    """Put the graphs of these networks into the cache where it has none and the directory has their outlines.

    An outline that cannot be used is left alone, with a warning: the network is exported as if there were none.
    """
    for network in networks:
        key = network.spec.key()
        kept = directory / OUTLINES / key
        if cache.has(key) or not kept.is_dir():
            continue
        try:
            cache.obtain(key, partial(_filled, kept, network), network.spec.about("onnx"))
        except _UnusableError as error:
            LOG.warning("the graph kept in %s cannot be used (%s); exporting it instead", kept, error)


def _graph(network: Network, cache: BuildCache) -> Path:
    spec = network.spec
    return cache.obtain(spec.key(), lambda empty: export(network.module, spec, empty), spec.about("onnx"))


class _UnusableError(Exception):
    """A graph that was kept is not what it should be."""


def _filled(kept: Path, network: Network, empty: Path) -> None:
    try:
        check_graph(kept / GRAPH, network.spec)
        fill(kept, network.module.state_dict(), empty)
    except FileNotFoundError as error:
        raise _UnusableError(f"{error.filename} is missing") from error
    except (BackendError, ValueError) as error:
        raise _UnusableError(str(error)) from error
