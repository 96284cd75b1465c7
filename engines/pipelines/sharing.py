"""A pipeline that many audits draw from at once: each has one of its own, and all run on the same workers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self

from engines.bucketed import measured
from engines.buckets import SIZES
from engines.cache import BuildCache
from engines.conditioning import Conditioning
from engines.duty import Sharing
from engines.engine import Engine
from engines.errors import UnsupportedPipelineError
from engines.pipeline import Pipeline
from engines.pipelines.building import NetworkOnEngine
from engines.pipelines.codecs import KlCodec
from engines.protocols import Prompts
from engines.shared import shared_engine
from engines.tally import WorkerStats
from engines.worker import EngineWorker


class PipelineWorkers:
    """One worker per network of a pipeline, which must not be used by itself any more.  Thread safe; close it, or use it as a context."""

    def __init__(self, pipeline: Pipeline, workers: Mapping[str, EngineWorker]) -> None:
        self._pipeline, self._workers = pipeline, workers
        self._text = LockedPrompts(pipeline.text)

    @contextmanager
    def client(self, name: str, weight: float = 1.0) -> Iterator[Pipeline]:
        """The pipeline for one audit, in one thread.  Draws what the original draws, together with what others draw."""
        with ExitStack() as leave:

            def shared(engine: Engine) -> Engine:
                made = shared_engine(self._workers[engine.spec.name], name, weight)
                leave.callback(made.close)
                return made

            spent = [0]
            network, codec = _network(self._pipeline), self._pipeline.codec
            course = replace(self._pipeline.course, network=replace(network, engine=shared(network.engine), spent=spent))
            if isinstance(codec, KlCodec):
                codec = replace(codec, decoder=shared(codec.decoder))
            yield replace(self._pipeline, course=course, codec=codec, text=self._text, spent=spent)

    def stats(self) -> Mapping[str, WorkerStats]:
        """By network."""
        return {name: worker.stats() for name, worker in self._workers.items()}

    def close(self) -> None:
        """End the workers, and with them the pipeline's engines."""
        for worker in self._workers.values():
            worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pipeline_workers(
    pipeline: Pipeline,
    *,
    sharing: Sharing | None = None,
    max_wait_ms: float | None = None,
    sizes: Sequence[int] = SIZES,
    cache: BuildCache | None = None,
    where: Mapping[str, str] | None = None,
) -> PipelineWorkers:
    """Workers for a pipeline's own engines, their batch sizes timed, or remembered from the cache.

    ``sharing`` is for a device that production uses too; without it the device is taken for ours alone.  Raises UnsupportedPipelineError
    for a pipeline that runs on something else than engines.
    """
    engines = [_network(pipeline).engine] + ([pipeline.codec.decoder] if isinstance(pipeline.codec, KlCodec) else [])
    workers = {
        engine.spec.name: EngineWorker(
            measured([engine], sizes=sizes, cache=cache, where=where), max_wait_ms=max_wait_ms, sharing=sharing
        )
        for engine in engines
    }
    return PipelineWorkers(pipeline, workers)


@dataclass(frozen=True, eq=False)
class LockedPrompts:
    """Prompts that many threads ask: what one has encoded the others need not encode again."""

    prompts: Prompts
    lock: AbstractContextManager[bool] = field(default_factory=Lock)

    @property
    def null(self) -> Conditioning | None:
        """The one row that guidance starts from."""
        with self.lock:
            return self.prompts.null

    def check(self, wanted: Sequence[str] | Sequence[int] | None) -> None:
        """As the prompts do."""
        with self.lock:
            self.prompts.check(wanted)

    def encode(self, wanted: Sequence[str] | Sequence[int] | None, rows: int) -> Conditioning:
        """As the prompts do."""
        with self.lock:
            return self.prompts.encode(wanted, rows)

    def examples(self, rows: int) -> Conditioning:
        """As the prompts do."""
        with self.lock:
            return self.prompts.examples(rows)


def _network(pipeline: Pipeline) -> NetworkOnEngine:
    network = pipeline.course.network
    if not isinstance(network, NetworkOnEngine):
        raise UnsupportedPipelineError(f"only a network on an engine can be shared, this one is {type(network).__name__}")
    return network
