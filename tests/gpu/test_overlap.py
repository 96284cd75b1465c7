"""Worker and overlap on a GPU: streams in order, the host not waiting, batches of others beside production."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torch import Tensor

from engines.duty import Sharing
from engines.handover import Handed, on_stream, to_host
from engines.overlap import Stage, overlapped
from engines.pipeline import load_pipeline
from engines.pipelines.sharing import PipelineWorkers, pipeline_workers
from engines.streams import stream_on, tensors_in

GENERATOR = Path(__file__).resolve().parents[2] / "audit_plugin" / "demo" / "assets" / "generator"
CAPTION = "a small blue triangle on sand beside a snowman in dim light"
CUDA = torch.device("cuda")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]


@pytest.fixture(scope="module")
def alone() -> np.ndarray:
    """Sixteen pictures drawn without sharing."""
    return load_pipeline(GENERATOR, backend="torch", device="cuda").generate([CAPTION] * 16, range(16))


@pytest.fixture
def workers() -> Iterator[PipelineWorkers]:
    """Of the shipped generator."""
    with pipeline_workers(load_pipeline(GENERATOR, backend="torch", device="cuda"), sizes=(1, 4, 8, 16, 32)) as made:
        yield made


def heavy(x: Tensor) -> Tensor:
    """About a tenth of a second of work on a large GPU."""
    for _ in range(200):
        x = torch.tanh(x @ x) + 0.1
    return x


def matrices() -> list[Tensor]:
    """Inputs of five batches."""
    generator = torch.Generator(CUDA).manual_seed(0)
    return [torch.randn(2048, 2048, generator=generator, device=CUDA) / 64 for _ in range(5)]


def test_audits_in_threads_draw_their_own_pictures(workers: PipelineWorkers, alone: np.ndarray) -> None:
    """Two audits share the workers' batches; each picture is the one it would be alone."""
    found: dict[int, np.ndarray] = {}

    def audit(half: int) -> None:
        with workers.client(f"audit {half}") as pipeline:
            found[half] = pipeline.generate([CAPTION] * 8, range(8 * half, 8 * half + 8))

    threads = [Thread(target=audit, args=(half,)) for half in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert np.abs(np.concatenate([found[0], found[1]]) - alone).max() < 2e-3
    stats = workers.stats()["unet"]
    assert stats.client_rows == {}
    assert stats.device_seconds > 0


def test_the_share_is_kept(alone: np.ndarray) -> None:
    """Device time by events stays below the share, but for one batch."""
    sharing = Sharing(0.2)
    pipeline = load_pipeline(GENERATOR, backend="torch", device="cuda")
    with pipeline_workers(pipeline, sizes=(1, 16), sharing=sharing) as workers, workers.client("a") as shared:
        start = time.monotonic()
        assert np.abs(shared.generate([CAPTION] * 16, range(16)) - alone).max() < 2e-3
        elapsed = time.monotonic() - start
        stats = workers.stats().values()
    longest = max(bound for each in stats for bound in each.batch_seconds)
    assert sum(each.device_seconds for each in stats) <= 0.2 * elapsed + longest


def test_stages_on_streams_are_in_order_and_the_host_is_not_held_up() -> None:
    """Stage 2 reads what stage 1 wrote, on another stream; enqueuing a batch takes a fraction of computing it."""
    first, second = stream_on(CUDA), stream_on(CUDA)
    inputs = matrices()
    wanted = [(heavy(x) * 2).cpu() for x in inputs]
    torch.cuda.synchronize()
    enqueuing: list[float] = []

    def draw(x: Tensor) -> Tensor:
        start = time.perf_counter()
        result = heavy(x)
        enqueuing.append(time.perf_counter() - start)
        return result

    begin = time.perf_counter()
    found = list(
        overlapped(
            inputs,
            [
                Stage("draw", on_stream(draw, first)),
                Stage("decode", on_stream(lambda x: x * 2, second)),
                Stage("copy", to_host(second)),
            ],
        )
    )
    total = time.perf_counter() - begin
    assert all(torch.equal(ours, right) for ours, right in zip(found, wanted, strict=True))
    assert all(each.is_pinned() for each in found)
    assert sum(enqueuing) < total


def test_a_batch_is_drawn_while_the_one_before_is_asked_about() -> None:
    """The timeline by events: drawing of batch k + 1 begins before the answer for batch k is there."""
    stream = stream_on(CUDA)
    drawn: dict[int, float] = {}
    answered: dict[int, float] = {}

    def draw(numbered: tuple[int, Tensor]) -> tuple[int, Tensor]:
        drawn[numbered[0]] = time.perf_counter()
        return numbered[0], heavy(numbered[1])

    def wait(inbound: Handed) -> tuple[int, float]:
        inbound.event.synchronize()
        time.sleep(0.05)  # a server's answer
        answered[inbound.value[0]] = time.perf_counter()
        return inbound.value[0], float(next(tensors_in(inbound.value)).sum())

    results = list(overlapped(enumerate(matrices()), [Stage("draw", on_stream(draw, stream)), Stage("ask", wait)]))
    assert [number for number, _ in results] == list(range(5))
    assert all(drawn[number + 1] < answered[number] for number in range(4))
