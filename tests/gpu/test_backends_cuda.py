"""Every backend on a GPU: the numbers of the CPU's reference, recorded bindings, no waiting of the host, what a replay costs it."""

import statistics
import time
from contextlib import contextmanager

import pytest
import torch

from engines.backends.compiled import CompiledBackend
from engines.backends.eager import EagerBackend
from engines.backends.ort import OrtBackend, OrtTensorrtBackend
from engines.cache import BuildCache
from engines.parity import certify
from engines.spec import Profile
from tests.engines.conformance.networks import Denoiser, make_cases

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]

BACKENDS = {
    "torch": lambda _: EagerBackend("cuda"),
    "torch-compiled": lambda cache: CompiledBackend(cache, "cuda"),
    "ort": lambda cache: OrtBackend(cache, "cuda"),
    "ort-tensorrt": OrtTensorrtBackend,
}
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
STATIC = Profile(4, 4, 4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return BuildCache(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(params=list(BACKENDS))
def backend(request, cache):
    made = BACKENDS[request.param](cache)
    reason = made.probe().reason
    if reason is not None:
        pytest.skip(reason)
    return made


def built(backend, kind="forward", precision="fp32", profile=None):
    """An engine and its case, from a module of its own."""
    case = make_cases()[kind]
    case = case if profile is None else case.at(profile)
    reason = backend.unusable(case.spec.at(precision))
    if reason is not None:
        pytest.skip(reason)
    return backend.build(case.module, case.spec.at(precision)), case


def on_gpu(tensors):
    return {name: value.cuda() for name, value in tensors.items()}


@contextmanager
def host_must_not_wait():
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["forward", "vjp", "guided"])
def test_is_certified_at_each_precision(backend, kind, precision):
    """Against float32 on the CPU."""
    engine, case = built(backend, kind, precision)
    reference = EagerBackend().build(case.module, case.spec)
    certificate = certify(engine, reference, [case.feeds(rows) for rows in (12, 4, 3, 1)])
    assert certificate.failure is None


@pytest.mark.parametrize("profile", [None, STATIC])
@pytest.mark.parametrize("kind", ["forward", "guided"])
def test_a_replay_gives_the_bits_of_a_run(backend, kind, profile):
    """Forward and backward recorded together, of feeds that change in place."""
    engine, case = built(backend, kind, profile=profile)
    feeds, outs = on_gpu(case.feeds(4)), on_gpu(case.outs(4))
    replay = engine.bind(feeds, outs)
    for seed in (1, 2):
        for name, value in case.feeds(4, seed).items():
            feeds[name].copy_(value)
        replay()
        right = engine.run(on_gpu(case.feeds(4, seed)))
        assert all(torch.equal(outs[name], right[name]) for name in outs)
    recorded = not backend.name.startswith("ort") or profile is STATIC
    assert engine.stats().captures == recorded


def test_replays_of_two_bindings_alternate(backend):
    """Each has a graph of its own."""
    engine, case = built(backend, profile=STATIC)
    both = [(on_gpu(case.feeds(4, seed)), on_gpu(case.outs(4))) for seed in (1, 2)]
    replays = [engine.bind(*each) for each in both]
    for replay in (*replays, *replays):
        replay()
    for feeds, outs in both:
        assert torch.equal(outs["y"], engine.run(feeds)["y"])


@pytest.mark.parametrize("name", ["torch", "torch-compiled"])
def test_a_recorded_graph_computes_with_new_weights(cache, name):
    engine, case = built(BACKENDS[name](cache))
    feeds, outs = on_gpu(case.feeds(4)), on_gpu(case.outs(4))
    replay = engine.bind(feeds, outs)
    before = outs["y"].clone()
    engine.refit(dict(Denoiser(seed=2).named_parameters()))
    replay()
    assert torch.equal(outs["y"], engine.run(feeds)["y"])
    assert not torch.equal(outs["y"], before)


def test_the_host_does_not_wait(backend):
    """Neither in a run, with buffers and without, nor in a replay."""
    engine, case = built(backend, profile=STATIC)
    feeds, outs = on_gpu(case.feeds(4)), on_gpu(case.outs(4))
    replay = engine.bind(feeds, outs)
    engine.run(feeds)
    with host_must_not_wait():
        engine.run(feeds)
        engine.run(feeds, outs)
        replay()


def test_results_are_in_the_order_of_the_stream(backend):
    """On a stream of the caller's, behind work that is still running there."""
    engine, case = built(backend)
    feeds, stream = on_gpu(case.feeds(4)), torch.cuda.Stream()
    right = engine.run(feeds)["y"]
    busy = torch.randn(4096, 4096, device="cuda")
    late = {name: torch.zeros_like(value) for name, value in feeds.items()}
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(20):
            busy = busy @ busy.softmax(0)
        for name, value in feeds.items():
            late[name].copy_(value)
    found = engine.run(late, stream=stream)["y"]
    stream.synchronize()
    assert torch.equal(found, right)


def test_results_are_written_on_the_device_where_asked(backend):
    engine, case = built(backend)
    out = on_gpu(case.outs(3, fill=-1.0))
    assert engine.run(on_gpu(case.feeds(3)), out)["y"].data_ptr() == out["y"].data_ptr()
    assert torch.equal(out["y"], engine.run(case.feeds(3))["y"])


def test_what_a_replay_costs_the_host(backend, record_property):
    """Time to enqueue, not to compute: to be 20 microseconds, and never a millisecond."""
    engine, case = built(backend, profile=STATIC)
    replay = engine.bind(on_gpu(case.feeds(4)), on_gpu(case.outs(4)))
    times = []
    for _ in range(200):
        torch.cuda.synchronize()
        start = time.perf_counter()
        replay()
        times.append(time.perf_counter() - start)
    microseconds = 1e6 * statistics.median(times)
    record_property(f"replay_host_microseconds_{backend.name}", microseconds)
    print(f"{backend.name}: {microseconds:.1f} us of the host for a replay")
    assert microseconds < 1000


def test_memory_is_given_back_when_the_last_engine_of_a_module_is_closed():
    """Engines of one module share a copy."""
    backend, case = EagerBackend("cuda"), make_cases()["forward"]
    before = torch.cuda.memory_allocated()
    first, second = (backend.build(case.module, each.spec) for each in (case, case.at(STATIC)))
    one = torch.cuda.memory_allocated() - before
    first.close()
    assert torch.cuda.memory_allocated() - before == one > 0
    second.close()
    assert torch.cuda.memory_allocated() == before
