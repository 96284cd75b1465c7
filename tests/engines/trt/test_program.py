"""Running, binding, capturing: what is put on which stream, from and into which memory."""

import weakref
from dataclasses import replace

import pytest
import torch
from onnx import TensorProto

from engines.errors import ClosedEngineError, ExecutionError, FeedError
from tests.engines.trt import fake
from tests.engines.trt.host import HostStream, Recording
from tests.engines.trt.networks import SPEC, feeds, write_graph


@pytest.fixture
def engine(backend, module):
    return backend.build(module, SPEC)


def outs(rows):
    return {"y": torch.full((rows, 2, 6), float("nan"))}


def contexts(engine):
    return list(engine.program._state.contexts)


def same(found, module, given):
    torch.testing.assert_close(found, module(**given))


def test_results_are_written_where_they_are_wanted(engine, module):
    """Straight into the tensor, or by a copy where the engine cannot write there."""
    dense, wide = outs(3), torch.zeros(3, 2, 12)
    assert engine.run(feeds(3), dense)["y"] is dense["y"]
    engine.run(feeds(3), {"y": wide[:, :, ::2]})
    same(dense["y"], module, feeds(3))
    same(wide[:, :, ::2], module, feeds(3))


def test_feeds_need_not_be_dense(engine, module):
    given = {"x": torch.randn(3, 6, 2).transpose(1, 2), "t": torch.rand(6)[::2]}
    same(engine.run(given)["y"], module, given)


def test_an_engine_in_half_precision_is_fed_float32(make_backend, trt, module):
    """Cast at its door, also inside a graph."""
    half = make_backend(trt, export=lambda m, s, f: write_graph(m, s, f, kind=TensorProto.FLOAT16))
    engine, given, out = half.build(module, SPEC.at("fp16")), feeds(4), outs(4)
    assert engine.run(given)["y"].dtype == torch.float32
    torch.testing.assert_close(engine.run(given)["y"], module(**given), atol=1e-2, rtol=1e-2)
    replay = engine.bind(given, out)
    given["x"].copy_(feeds(4, seed=9)["x"])
    replay()
    torch.testing.assert_close(out["y"], module(**given), atol=1e-2, rtol=1e-2)


def test_addresses_and_shapes_are_told_once(engine, monkeypatch):
    """A second run with the same tensors only launches."""
    given, out, told = feeds(4), outs(4), []
    engine.run(given, out)
    for name in ("set_tensor_address", "set_input_shape", "set_device_memory"):
        monkeypatch.setattr(fake.IExecutionContext, name, lambda *_, name=name: told.append(name) or True)
    engine.run(given, out)
    assert told == []
    engine.run(feeds(4), out)
    assert told == ["set_tensor_address"] * 2


def test_the_default_stream_is_never_given_to_the_vendor(engine, backend, module):
    """A private one waits for it, and it waits for that; the fake refuses handle 0."""
    device = backend.device
    same(engine.run(feeds(2))["y"], module, feeds(2))
    assert device.private.waited[-1] == 0
    assert device.default.waited[-1] == device.private.cuda_stream


def test_a_stream_has_its_own_context_and_memory(engine):
    """Two streams may run at once."""
    for handle in (5, 6, 5):
        engine.run(feeds(2), None, HostStream(handle))
    first, second = contexts(engine)
    assert first.context is not second.context
    assert abs(first.block.address - second.block.address) >= fake.MEMORY_BYTES


def test_engines_on_one_stream_share_memory(backend, module):
    """Of the size of the largest; the context is told when it moves."""
    one = backend.build(module, SPEC)
    two = backend.build(module, replace(SPEC, model_hash="c" * 64))
    one.run(feeds(2)), two.run(feeds(2))
    assert contexts(one)[0].block is contexts(two)[0].block
    moved = backend.arena.block(contexts(one)[0].queue.cuda_stream, 10 * fake.MEMORY_BYTES)
    same(one.run(feeds(3))["y"], module, feeds(3))
    assert contexts(one)[0].block is moved


def test_what_the_vendor_refuses_to_run_raises(engine, monkeypatch):
    """With its own words."""
    monkeypatch.setattr(fake.ICudaEngine, "device_memory_size_v2", property(lambda _: 1 << 30))
    with pytest.raises(ExecutionError, match=r"cannot be put on its stream.*device memory is too small"):
        engine.run(feeds(2))


def test_an_output_of_another_shape_is_not_written(engine, monkeypatch):
    """It would be written past the end of the tensor."""
    monkeypatch.setattr(fake.IExecutionContext, "get_tensor_shape", lambda *_: (2, 9, 9))
    with pytest.raises(ExecutionError, match=r"comes out as \(2, 9, 9\), there is room for \(2, 2, 6\)"):
        engine.run(feeds(2))


def test_shapes_are_told_again_after_a_refusal(engine, module, monkeypatch):
    """One input was accepted, the other not: what the context has now is neither."""
    engine.run(feeds(2))
    accept = fake.IExecutionContext.set_input_shape
    with monkeypatch.context() as patch:
        patch.setattr(
            fake.IExecutionContext, "set_input_shape", lambda self, name, shape: name == "x" and accept(self, name, shape)
        )
        with pytest.raises(ExecutionError, match=r"refuses 't' of \(3,\)"):
            engine.run(feeds(3))
    same(engine.run(feeds(2))["y"], module, feeds(2))


def test_a_replay_computes_from_what_is_in_the_feeds_then(engine, module):
    """One capture, however often it is launched."""
    given, out = feeds(4), outs(4)
    replay = engine.bind(given, out)
    same(out["y"], module, given)
    for seed in (5, 6):
        given["x"].copy_(feeds(4, seed)["x"])
        replay()
        same(out["y"], module, given)
    assert engine.stats().captures == 1


def test_a_replay_needs_no_call_to_the_vendor(engine, monkeypatch):
    given, out = feeds(4), outs(4)
    replay = engine.bind(given, out)
    for name in ("set_tensor_address", "set_input_shape", "set_device_memory", "execute_async_v3"):
        monkeypatch.setattr(fake.IExecutionContext, name, lambda *_: pytest.fail("called"))
    replay()


def test_each_binding_and_each_stream_has_its_graph(engine, backend, module):
    """Keyed by shapes and addresses; a stream that comes later is captured when it comes."""
    given, out = feeds(4), outs(4)
    replay = engine.bind(given, out)
    engine.bind(feeds(2), outs(2))
    assert engine.stats().captures == 2
    backend.device.current = HostStream(9)
    replay(), replay()
    assert engine.stats().captures == 3
    same(out["y"], module, given)


def test_a_graph_is_recorded_again_when_its_memory_moved(engine, backend, module):
    """Its old memory stays until then."""
    given, out = feeds(4), outs(4)
    replay = engine.bind(given, out)
    backend.arena.block(backend.device.private.cuda_stream, 10 * fake.MEMORY_BYTES)
    replay()
    assert engine.stats().captures == 2
    same(out["y"], module, given)


def test_a_run_becomes_part_of_a_graph_of_somebody_else(engine, backend, module):
    """With activation memory of that graph's own, so that the arena may grow meanwhile."""
    backend.device.current = HostStream(3)
    given, out = feeds(4), outs(4)
    engine.run(given, out)
    replay = engine.bind(given, {"y": (second := torch.zeros(4, 2, 6))})
    with Recording() as loop:
        engine.run(given, out)
        replay()
    assert contexts(engine)[0].block.memory.data_ptr() in {each.data_ptr() for each in loop.held}
    given["x"].copy_(feeds(4, seed=7)["x"])
    loop.replay()
    same(out["y"], module, given)
    same(second, module, given)
    assert engine.stats().captures == 1
    same(engine.run(feeds(3))["y"], module, feeds(3))


def test_an_engine_must_have_run_before_others_capture_it(engine):
    """No context can be made while a stream is captured."""
    with Recording(), pytest.raises(ExecutionError, match="run it once"):
        engine.run(feeds(4))


def test_bound_tensors_lie_on_the_device(engine):
    with pytest.raises(FeedError, match="x lie elsewhere"):
        engine.bind({**feeds(4), "x": torch.zeros(4, 2, 6, device="meta")}, outs(4))


def test_a_closed_engine_gives_everything_back(engine):
    """Work under way ends first; a replay that was kept does not run; its memory goes with the last that used it."""
    replay = engine.bind(feeds(4), outs(4))
    queue, block = contexts(engine)[0].queue, weakref.ref(contexts(engine)[0].block)
    engine.close(), engine.close()
    assert queue.synchronised == 1
    assert block() is not None
    with pytest.raises(ClosedEngineError):
        replay()
    del replay
    assert block() is None


def test_want_of_memory_is_said(backend, module, monkeypatch):
    """A worker then halves its batch."""
    from engines.errors import OutOfMemoryError

    engine = backend.build(module, SPEC)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("engines.backends.trt.arena.torch.empty", full)
    with pytest.raises(OutOfMemoryError, match="smaller batches"):
        backend.arena.block(77, 1 << 40)
    engine.close()
