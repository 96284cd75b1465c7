import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event

import numpy as np
import pytest

from engines.cache import BuildCache
from engines.errors import CaptionTooLongError, ClosedEngineError, NotRefittableError, UnsupportedPipelineError
from engines.pipeline import load_pipeline
from engines.pipelines.sharing import PipelineWorkers, pipeline_workers
from engines.shared import shared_engine
from engines.worker import EngineWorker
from tests.engines.workshop import Affine, exact_buckets, interrupt_when, right, rows

CAPTIONS = ["a red circle", "a blue square on the green background", "a photo"]


def load(directory):
    return load_pipeline(directory, backend="torch", steps=3, guidance=3.0, batch=4, threads=1)


@pytest.fixture(scope="module")
def alone(pipeline_directory):
    """Six pictures drawn by a pipeline that shares nothing."""
    return load(pipeline_directory).generate(CAPTIONS * 2, range(6))


@pytest.fixture(scope="module")
def workers(pipeline_directory):
    with pipeline_workers(load(pipeline_directory), sizes=(1, 4, 8)) as made:
        yield made


def test_drawing_through_workers_is_drawing(workers, alone):
    """Text, guidance, decoding, counts and fingerprint as without them."""
    with workers.client("audit") as pipeline:
        np.testing.assert_allclose(pipeline.generate(CAPTIONS * 2, range(6)), alone, atol=2e-5)
        assert pipeline.evaluations == 6 * pipeline.evaluations_per_image
        assert pipeline.fingerprint == workers._pipeline.fingerprint
        with pytest.raises(CaptionTooLongError):
            pipeline.generate(["a photo " * 20], [0])


def test_two_audits_in_two_threads_share_batches(workers, alone):
    """Each gets its own pictures, whoever else was in the batch at other timesteps and prompts; names are free afterwards."""
    together = Barrier(2, timeout=60)
    before = workers.stats()["unet"]

    def audit(name, seeds):
        with workers.client(name) as pipeline:
            together.wait()
            return pipeline.generate([CAPTIONS[seed % 3] for seed in seeds], seeds)

    with ThreadPoolExecutor(2) as threads:
        halves = [threads.submit(audit, name, seeds) for name, seeds in (("first", range(3)), ("second", range(3, 6)))]
        pictures = np.concatenate([half.result() for half in halves])
    np.testing.assert_allclose(pictures, alone, atol=2e-5)
    after = workers.stats()["unet"]
    assert after.rows - before.rows == 6 * workers._pipeline.evaluations_per_image
    assert after.client_rows == {}


def test_closing_ends_threads_and_engines(pipeline_directory):
    before = set(threading.enumerate())
    pipeline = load(pipeline_directory)
    with pipeline_workers(pipeline, sizes=(1,)) as workers, workers.client("a") as shared:
        shared.generate(["a photo"], [1])
    assert set(threading.enumerate()) == before
    with pytest.raises(ClosedEngineError):
        pipeline.generate(["a photo"], [1])


def test_times_are_remembered(pipeline_directory, tmp_path):
    """Beside the graphs, one note per network."""
    cache = BuildCache(tmp_path)
    first, second = (
        pipeline_workers(load(pipeline_directory), sizes=(1, 2), cache=cache, where={"threads": "1"}) for _ in range(2)
    )
    with first, second:
        times = [{name: worker.buckets.times.seconds for name, worker in each._workers.items()} for each in (first, second)]
    assert times[0] == times[1]
    assert len(list(tmp_path.glob("*/buckets-*.json"))) == 2


def test_what_runs_on_no_engine_cannot_be_shared(pipeline_directory):
    pipeline = load(pipeline_directory)
    torchy = replace(pipeline, course=replace(pipeline.course, network=pipeline.differentiable))
    with pytest.raises(UnsupportedPipelineError, match="only a network on an engine"):
        pipeline_workers(torchy)


@pytest.fixture
def affine():
    with EngineWorker(exact_buckets(Affine())) as worker:
        yield worker


def test_a_shared_engine_is_an_engine(affine):
    """Any number of rows, into given tensors, bound and replayed; weights are everybody's."""
    engine = shared_engine(affine, "a")
    assert (engine.run(rows(100))["y"] == right(rows(100))).all()
    feeds, outs = rows(3), {"y": rows(3)["x"]}
    engine.bind(feeds, outs)()
    assert (outs["y"] == right(feeds)).all()
    assert engine.stats().items == 100
    with pytest.raises(NotRefittableError, match="other audits"):
        engine.refit({})


def test_closing_a_shared_engine_leaves_the_worker(affine):
    shared_engine(affine, "a").close()
    assert (shared_engine(affine, "a").run(rows(2))["y"] == right(rows(2))).all()


def test_an_interrupted_audit_takes_its_rows_along():
    """Ctrl-C while it waits behind another one."""
    program = Affine(gate=Event())
    with EngineWorker(exact_buckets(program)) as worker:
        first = worker.client("first").submit(rows(1))
        assert program.entered.wait(10)
        with pytest.raises(KeyboardInterrupt), interrupt_when(lambda: worker.stats().waiting == 2):
            shared_engine(worker, "a").run(rows(2))
        assert worker.stats().waiting == 0
        program.gate.set()
        first.result(10)
    assert program.sizes == [1]


def test_pipelines_without_workers_are_not_made(pipeline_directory):
    """A worker is needed for every network."""
    with pytest.raises(KeyError, match="unet"), PipelineWorkers(load(pipeline_directory), {}).client("a"):
        pass
