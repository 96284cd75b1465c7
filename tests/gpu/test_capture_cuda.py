"""Trajectories as CUDA graphs: the bits of the loop in Python, at the cost of a launch."""

import pytest
import torch

from engines.backends.compiled import CompiledBackend
from engines.backends.eager import EagerBackend
from engines.cache import BuildCache
from engines.capture import capture_loop, record_cuda
from engines.errors import CaptureError
from engines.parity import relative_error
from tests.engines.conformance.networks import make_cases
from tests.gpu.test_backends_cuda import host_must_not_wait

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none")]

TABLE = [[900.0, 0.9, 0.10], [500.0, 0.8, 0.15], [100.0, 0.7, 0.20]]
"""t, a, b of x' = a x + b (e_null + 1.5 (e - e_null))."""


@pytest.fixture(params=["torch", "torch-compiled"])
def engine(request, tmp_path):
    backend = EagerBackend("cuda") if request.param == "torch" else CompiledBackend(BuildCache(tmp_path), "cuda")
    case = make_cases()["forward"]
    reason = backend.unusable(case.spec)
    if reason is not None:
        pytest.skip(reason)
    return backend.build(case.module, case.spec)


def guided(engine):
    """A step with both halves of the guidance in one batch."""

    def step(state, row):
        x = state["x"]
        t = row[0].expand(2 * len(x))
        told, null = engine.run({"x": torch.cat([x, x.flip(1)]), "t": t})["y"].chunk(2)
        return {"x": row[1] * x + row[2] * torch.lerp(null, told, 1.5)}

    return step


def start():
    return torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)).cuda()


@pytest.mark.parametrize(("policy", "launches"), [("step", 1), ("loop", 1)])
def test_recorded_trajectories_give_the_bits_of_the_loop(engine, policy, launches):
    """Twice, from a state that is filled again."""
    table, step = torch.tensor(TABLE, device="cuda"), guided(engine)
    plain, recorded = {"x": start()}, {"x": start()}
    loop = capture_loop([step] * 3, recorded, table, policy=policy)
    assert loop.captures == launches
    assert torch.equal(recorded["x"], start())
    capture_loop([step] * 3, plain, table)()
    for _ in range(2):
        recorded["x"].copy_(start())
        with host_must_not_wait():
            loop()
        assert torch.equal(recorded["x"], plain["x"])


def test_the_gpu_walks_the_path_of_the_cpu(engine):
    case = make_cases()["forward"]
    on_cpu = {"x": start().cpu()}
    capture_loop([guided(EagerBackend().build(case.module, case.spec))] * 3, on_cpu, torch.tensor(TABLE))()
    on_gpu = {"x": start()}
    capture_loop([guided(engine)] * 3, on_gpu, torch.tensor(TABLE, device="cuda"), policy="loop")()
    assert relative_error(on_gpu["x"].cpu(), on_cpu["x"]) < 1e-4


def test_work_that_asks_the_device_is_refused_and_the_device_goes_on():
    """With what to do instead."""
    x = torch.ones(3, device="cuda")
    with pytest.raises(CaptureError, match="use capture policy none"):
        record_cuda(lambda: x.mul_(2.0 if float(x.sum()) > 0 else 3.0), x.device)
    torch.cuda.synchronize()
    assert bool(x.isfinite().all())


def test_calls_inside_a_recording_are_counted_but_not_timed(engine):
    """Events there tell no time, and waiting for one would fail."""
    before = engine.stats()
    capture_loop([guided(engine)] * 3, {"x": start()}, torch.tensor(TABLE, device="cuda"), policy="loop")()
    after = engine.stats()
    assert after.calls > before.calls
    assert after.seconds >= before.seconds
