"""TensorRT itself: parity, replays, capture from outside, new weights, plans for others, plans without weights."""

from dataclasses import replace

import pytest
import torch

from engines.backends.eager import EagerBackend
from engines.backends.trt.backend import TensorrtBackend, Ways
from engines.backends.trt.plan import PLAN, read_facts
from engines.backends.trt.request import BuildOptions
from engines.cache import BuildCache
from engines.capture import record_cuda
from engines.certificate import FORWARD_LIMITS
from engines.graphs.gradients import Vjp
from engines.parity import certify, relative_error
from engines.spec import Profile, TensorSpec
from tests.engines.trt.networks import BLOCK, Block, Still, block_feeds

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]

BATCHES = [block_feeds(rows) for rows in (8, 3, 1)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Builds take tens of seconds each, so tests share them."""
    reason = TensorrtBackend(BuildCache(tmp_path_factory.mktemp("none"))).probe().reason
    if reason is not None:
        pytest.skip(reason)
    return BuildCache(tmp_path_factory.mktemp("plans"))


@pytest.fixture(scope="module")
def engine(cache):
    return TensorrtBackend(cache).build(Block(), BLOCK)


def reference(module, spec=BLOCK):
    return EagerBackend("cuda").build(module, spec.at("fp32"))


def on_gpu(rows):
    return {name: value.cuda() for name, value in block_feeds(rows).items()}


def plan_of(cache, spec, **facts):
    """Folder of the one plan of a network that was built so."""
    folders = [path.parent for path in cache.root.glob(f"*/{PLAN}")]
    (found,) = [
        each
        for each in folders
        if (known := read_facts(each)).fingerprint == spec.fingerprint and all(getattr(known, n) == v for n, v in facts.items())
    ]
    return found


def agree(found, module, given, precision="fp32"):
    right = reference(module).run(given)["y"]
    assert relative_error(found.cpu(), right.cpu()) <= FORWARD_LIMITS[precision]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_a_forward_is_certified(cache, precision):
    """At several batches, the smallest alone; the graph's types are the precision."""
    backend, spec = TensorrtBackend(cache), BLOCK.at(precision)
    if backend.unusable(spec):
        pytest.skip(backend.unusable(spec))
    assert certify(backend.build(Block(), spec), reference(Block()), BATCHES).failure is None


@pytest.mark.parametrize("profile", [Profile(4, 4, 4), Profile(1, 4, 8)], ids=["static", "dynamic"])
def test_a_gradient_is_certified(cache, profile):
    """Outputs and gradients of a classifier, smaller batches padded where the batch is fixed."""
    inputs = (BLOCK.inputs[0], TensorSpec("cotangent", "float32", ("B", 4)))
    outputs = (BLOCK.outputs[0], TensorSpec("gradient", "float32", BLOCK.inputs[0].shape))
    spec = replace(BLOCK, kind="vjp", inputs=inputs, outputs=outputs, gradients=("gradient",), profile=profile)
    batches = [{"x": block_feeds(rows)["x"], "cotangent": torch.randn(rows, 4)} for rows in (4, 3)]
    module = Vjp(Still())
    assert certify(TensorrtBackend(cache).build(module, spec), reference(module, spec), batches).failure is None


def test_a_plan_is_opened_from_the_cache(cache, engine):
    """Without a builder."""
    again = TensorrtBackend(cache, ways=Ways(build=lambda *_: pytest.fail("built again"))).build(Block(), BLOCK)
    assert torch.equal(again.run(on_gpu(4))["y"], engine.run(on_gpu(4))["y"])


def test_a_replay_gives_the_numbers_of_a_run(engine):
    """From what is in the feeds then, on the default stream and on another."""
    given, out = on_gpu(4), {"y": torch.zeros(4, 4, device="cuda")}
    replay = engine.bind(given, out)
    given["x"].mul_(2)
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        out["y"].zero_()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            replay()
        torch.cuda.synchronize()
        assert torch.equal(out["y"], engine.run(given)["y"])


def test_a_run_and_a_replay_become_part_of_a_graph(engine):
    """As a captured trajectory has them; activations are that graph's own memory."""
    given, out, bound = on_gpu(4), torch.zeros(4, 4, device="cuda"), {"y": torch.zeros(4, 4, device="cuda")}
    replay = engine.bind(given, bound)

    def work():
        out.copy_(engine.run(given)["y"])
        replay()

    recorded = record_cuda(work, torch.device("cuda", torch.cuda.current_device()))
    given["x"].mul_(-1)
    recorded()
    torch.cuda.synchronize()
    right = engine.run(given)["y"]
    assert torch.equal(out, right)
    assert torch.equal(bound["y"], right)


def test_streams_run_side_by_side(engine):
    """Each with its own context and memory."""
    streams = [torch.cuda.Stream() for _ in range(2)]
    batches = [on_gpu(8), {name: 2 * value for name, value in on_gpu(8).items()}]
    right = [engine.run(each)["y"] for each in batches]
    torch.cuda.synchronize()
    found = [[engine.run(each, None, stream)["y"] for each, stream in zip(batches, streams, strict=True)] for _ in range(20)]
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for pair in found for a, b in zip(pair, right, strict=True))


def test_new_weights_are_used_by_runs_and_replays(cache):
    """All of them, then some, in another type; the graph is recorded again."""
    engine = TensorrtBackend(cache, options=BuildOptions(refit=True)).build(Block(), BLOCK)
    given, out = on_gpu(4), {"y": torch.zeros(4, 4, device="cuda")}
    replay = engine.bind(given, out)
    other = Block(1)
    engine.refit(dict(other.named_parameters()))
    replay()
    agree(engine.run(given)["y"], other, given)
    agree(out["y"], other, given)
    other.mix.weight.mul_(0.5)
    engine.refit({"mix.weight": other.mix.weight.double().cuda()})
    agree(engine.run(given)["y"], other, given)
    assert engine.stats().captures == 2


@pytest.mark.parametrize("portable", ["same_compute_capability", "ampere_plus"])
def test_portable_plans_compute_the_same(cache, portable):
    backend = TensorrtBackend(cache, options=BuildOptions(portable=portable))
    backend.build(Block(), BLOCK).close()
    loaded = TensorrtBackend(cache).load(plan_of(cache, BLOCK, portable=portable), BLOCK)
    agree(loaded.run(on_gpu(4))["y"], Block(), on_gpu(4))


def test_a_plan_without_weights_takes_them_from_the_graph(cache):
    """And computes the same."""
    stripped = TensorrtBackend(cache, options=BuildOptions(strip=True)).build(Block(), BLOCK)
    agree(stripped.run(on_gpu(4))["y"], Block(), on_gpu(4))


@pytest.mark.usefixtures("engine")
def test_timings_are_kept(cache):
    """One file for this device and this release."""
    (path,) = cache.root.glob(".tensorrt/*.timings")
    assert path.stat().st_size > 0


def test_a_closed_engine_gives_memory_back(cache, engine):
    """Contexts and engine go; the others go on."""
    again = TensorrtBackend(cache).build(Block(), BLOCK)
    again.run(on_gpu(4))
    again.close()
    agree(engine.run(on_gpu(4))["y"], Block(), on_gpu(4))
