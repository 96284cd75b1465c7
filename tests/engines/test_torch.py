"""What is peculiar to torch: recorded bindings, shared copies, compilers.  What every backend does is in ``conformance``."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from engines.backends import compiled
from engines.backends.compiled import Compiled, CompiledBackend, compiling, regions, toolchain_missing
from engines.backends.eager import EagerBackend
from engines.backends.weights import Copies, copied, weights_of
from engines.cache import BuildCache
from engines.errors import ExportError, FeedError
from engines.parity import relative_error
from engines.spec import Profile, TensorSpec
from tests.engines.conformance.networks import Denoiser, frozen, make_cases
from tests.engines.tape import Recorder

CPU = torch.device("cpu")


def recorded(name):
    """An eager engine whose bindings are recorded as on a GPU, and its case."""
    case = make_cases()[name]
    engine = EagerBackend(threads=1).build(case.module, case.spec)
    engine.program.recorder = Recorder()
    return engine, case


@pytest.mark.parametrize("name", ["forward", "static", "vjp", "guided"])
def test_a_recorded_binding_computes_what_a_run_does(name):
    """Forward and backward in one recording, of feeds that change in place."""
    engine, case = recorded(name)
    feeds, outs = case.feeds(4), case.outs(4)
    replay = engine.bind(feeds, outs)
    for seed in (1, 2):
        for key, value in case.feeds(4, seed).items():
            feeds[key].copy_(value)
        replay()
        right = engine.run(case.feeds(4, seed))
        assert all(torch.equal(outs[key], right[key]) for key in outs)
    assert engine.stats().captures == 1


def test_a_recorded_binding_sees_new_weights():
    """They are written where the recording reads them."""
    engine, case = recorded("forward")
    feeds, outs = case.feeds(4), case.outs(4)
    replay = engine.bind(feeds, outs)
    engine.refit(dict(Denoiser(seed=2).named_parameters()))
    replay()
    assert torch.equal(outs["y"], engine.run(feeds)["y"])


def test_tensors_are_bound_where_the_engine_is():
    engine, case = recorded("forward")
    with pytest.raises(FeedError, match="lies on meta"):
        engine.bind({name: value.to("meta") for name, value in case.feeds(4).items()}, case.outs(4))


def test_engines_of_one_module_share_a_copy_until_its_weights_change():
    """A refit must not reach engines that are built later, nor must a module that was trained on be found as it was."""
    copies, module, spec = Copies(), frozen(Denoiser()), make_cases()["forward"].spec
    first = copies.of(module, spec, CPU)
    assert copies.of(module, replace(spec, profile=Profile(2, 2, 2)), CPU) is first
    assert copies.of(module, replace(spec, model_hash="f" * 64), CPU) is not first
    with torch.no_grad():
        first.conv.weight.mul_(2)
    assert torch.equal(copies.of(module, spec, CPU).conv.weight, module.conv.weight)


def test_a_copy_goes_with_its_last_engine():
    copies, module, spec = Copies(), frozen(Denoiser()), make_cases()["forward"].spec
    copies.of(module, spec, CPU)
    assert not list(copies._known[module])


@pytest.mark.parametrize("name", ["forward", "vjp", "guided"])
def test_half_precision_keeps_the_names_of_weights(name):
    """Networks are wrapped when they are cast, and refits are by the names of the module."""
    module = make_cases()[name].module
    placed = copied(module, "bf16", CPU)
    assert weights_of(module, placed).keys() == dict(module.named_parameters()).keys()
    assert next(iter(weights_of(module, placed).values())).dtype == torch.bfloat16
    assert next(module.parameters()).dtype == torch.float32


def test_half_precision_runs_within_its_bound():
    """On a CPU only as a check of the arithmetic: the backend does not offer it there."""
    case = make_cases()["forward"]
    placed = copied(case.module, "bf16", CPU)
    feeds = case.feeds(4)
    assert 1e-4 < relative_error(placed(*feeds.values()), case.right(feeds)["y"]) < 3e-2


def test_a_missing_compiler_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("PATH", "/nowhere")
    assert "no C++ compiler (no-such-compiler, g++" in CompiledBackend(BuildCache(tmp_path)).unusable(make_cases()["forward"].spec)


def test_missing_headers_are_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(compiled.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h is missing" in toolchain_missing("cpu")


def test_a_gpu_needs_triton_and_a_c_compiler(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda _: None)
    assert "triton is not installed" in toolchain_missing("cuda")
    monkeypatch.setattr(compiled, "find_spec", lambda name: name)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler" in toolchain_missing("cuda")


def test_compilers_write_to_the_build_cache_unless_told_otherwise(monkeypatch, tmp_path):
    """And nothing of it is left in the environment."""
    monkeypatch.setenv("TRITON_CACHE_DIR", "mine")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with compiling(tmp_path):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / ".inductor")
        assert os.environ["TRITON_CACHE_DIR"] == "mine"
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(3), nn.Linear(3, 3)

    def forward(self, x):
        return x + self.linear(self.norm(x))


class Blocks(nn.Module):
    """Five blocks in a list, and an end of another kind."""

    def __init__(self):
        super().__init__()
        self.blocks, self.end = nn.ModuleList(Block() for _ in range(5)), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def forward(self, x, t):
        for block in self.blocks:
            x = block(x)
        return self.end(x) + t[:, None]


def test_regions_are_the_blocks_that_recur():
    """Not single layers, not containers, nothing inside a region."""
    blocks = Blocks()
    assert regions(blocks) == list(blocks.blocks)
    assert regions(nn.Sequential(*(blocks.blocks[i] for i in range(5)))) == list(blocks.blocks)
    assert regions(frozen(Denoiser())) == []


def test_sizes_are_compiled_once_each_kind():
    """One row, and a symbolic batch; what a compiler was asked for before it is not asked for again."""
    asked = []

    def function(*inputs):
        asked.append([getattr(each, "_dynamo_dynamic_indices", set()) for each in inputs])
        return inputs[0]

    call = Compiled(function, Path("unused"), dynamic=True)
    x = torch.zeros(6, 2)
    for rows in (4, 1, 4):
        call(x[:rows], x[:rows, 0])
    assert asked == [[{0}, {0}], [set(), set()], [set(), set()]]
    assert not hasattr(x, "_dynamo_dynamic_indices")


class Branches(nn.Module):
    """Decides by a number on the device."""

    def forward(self, x, t):
        return x if t.sum().item() > 0 else -x


@pytest.mark.slow
def test_what_cannot_be_compiled_in_one_piece_is_refused(tmp_path):
    case = make_cases()["forward"]
    with pytest.raises(ExportError, match=r"cannot be compiled.*use backend torch"):
        CompiledBackend(BuildCache(tmp_path), threads=1).build(Branches().eval(), case.spec)


@pytest.mark.slow
def test_regions_compute_what_the_network_does(tmp_path):
    case = make_cases()["forward"]
    spec = replace(
        case.spec,
        inputs=(TensorSpec("x", "float32", ("B", 3)), case.spec.inputs[1]),
        outputs=(TensorSpec("y", "float32", ("B", 3)),),
    )
    module = frozen(Blocks())
    engine = CompiledBackend(BuildCache(tmp_path), threads=1, regional=True).build(module, spec)
    feeds = {"x": torch.rand(5, 3), "t": torch.rand(5)}
    torch.testing.assert_close(engine.run(feeds)["y"], module(**feeds))
