"""One pipeline for several threads of a CPU: the networks are shared, what is counted and remembered is not."""

from dataclasses import replace

from engines.errors import UnsupportedPipelineError
from engines.pipeline import Pipeline
from engines.pipelines.building import NetworkOnEngine
from engines.pipelines.codecs import KlCodec
from engines.pipelines.sharing import LockedPrompts

MOST_WORKERS = 4
"""Batches that are drawn at once on a CPU; each needs memory of its own."""


def shared_out(threads: int) -> tuple[int, int]:
    """How many replicas draw at once on so many threads of a CPU, and the threads of each.

    >>> shared_out(2), shared_out(9)
    ((2, 1), (4, 2))
    """
    workers = min(threads, MOST_WORKERS)
    return workers, threads // workers


def replicas(pipeline: Pipeline, count: int) -> tuple[Pipeline, ...]:
    """As many pipelines, each for one thread at a time.  They draw what the original draws, which must not be used by itself any more.

    Raises UnsupportedPipelineError on a GPU, where one worker for all is faster (:mod:`engines.pipelines.sharing`).
    """
    if pipeline.device.type != "cpu":
        raise UnsupportedPipelineError(f"replicas are for CPUs, this pipeline runs on {pipeline.device}; use pipeline_workers")
    text = LockedPrompts(pipeline.text)
    return tuple(_replica(pipeline, text) for _ in range(count))


def _replica(pipeline: Pipeline, text: LockedPrompts) -> Pipeline:
    network, codec, spent = pipeline.course.network, pipeline.codec, [0]
    if not isinstance(network, NetworkOnEngine):
        raise UnsupportedPipelineError(f"only a network on an engine has replicas, this one is {type(network).__name__}")
    own = replace(network, engine=replace(network.engine), spent=spent)
    if isinstance(codec, KlCodec):
        codec = replace(codec, decoder=replace(codec.decoder))
    return replace(pipeline, course=replace(pipeline.course, network=own), codec=codec, text=text, spent=spent)
