"""The self-check finds what is right, and what is wrong with backends that lie."""

from dataclasses import dataclass, replace

import pytest
import torch

from engines.backends.eager import EagerBackend
from engines.backends.registry import all_backends
from engines.cache import BuildCache
from engines.desk.place import Place
from engines.desk.samples import SAMPLES, call_sample
from engines.desk.selfcheck import examine, selfcheck
from engines.engine import Engine
from engines.parity import ROWS
from engines.roof import work_of


@dataclass(frozen=True)
class Liar(EagerBackend):
    """Another backend by name, whose programs are changed before they are handed out."""

    name: str = "liar"
    wrong: str = "run"

    def build(self, module, spec):
        engine = super().build(module, spec)
        return replace(engine, program=_Changed(engine.program, self.wrong))


class _Changed:
    def __init__(self, program, wrong):
        self._program, self._wrong = program, wrong
        self.device, self.captures = program.device, 0

    def run(self, feeds, out, stream):
        results = self._program.run(feeds, out, stream)
        if self._wrong == "run":
            for value in results.values():
                value.mul_(1.001)
        return results

    def bind(self, feeds, outs):
        if self._wrong == "raise":
            raise MemoryError("none left")
        replay = self._program.bind(feeds, outs)
        return (lambda: None) if self._wrong == "bind" else replay


def checks(tmp_path, backend):
    return {check.what: check for check in examine(backend, Place(BuildCache(tmp_path), "cpu", 1), kinds=("forward",))}


def test_plain_torch_is_right(tmp_path):
    """Its numbers are the reference's own, and every measurement is there."""
    found = checks(tmp_path, EagerBackend("cpu", 1))
    assert {what: check.verdict for what, check in found.items()} == {"probe": "ok", "call": "ok", "forward fp32": "ok"}
    assert found["probe"].detail == torch.__version__
    # The reference against itself is 1 on idle cores; which of two runs a busy machine holds up is chance.
    assert 0.05 < found["forward fp32"].speedup < 20
    assert 0.1 < found["call"].host_us < 1e5


@pytest.mark.parametrize(
    ("wrong", "message"), [("run", "not certified"), ("bind", "a bound call"), ("raise", "MemoryError: none left")]
)
def test_wrong_backends_fail(tmp_path, wrong, message):
    """Other numbers, a replay that does nothing, an exception of a library's own: each is one line, and the report goes on."""
    check = checks(tmp_path, Liar("cpu", 1, wrong=wrong))["forward fp32"]
    assert check.verdict == "FAIL"
    assert message in check.detail


def test_backends_that_are_not_here_are_refused_with_the_reason():
    """Without a GPU that is all of its backends; nobody fails, and no process is started."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    found = list(selfcheck(devices=["cuda"]))
    assert {check.backend for check in found} == {backend.name for backend in all_backends(BuildCache("unused"), "cuda")}
    assert {(check.what, check.verdict) for check in found} == {("probe", "refused")}
    assert all(check.detail for check in found)


@pytest.mark.parametrize("sample", [*SAMPLES.values(), call_sample])
def test_samples_are_what_their_specs_say(sample):
    """Names, rows and number of results, and no product that is not counted."""
    network = sample()
    engine: Engine = EagerBackend().build(network.module, network.spec)
    for feeds in network.batches():
        results = engine.run(feeds)
        assert {name: tuple(value.shape[1:]) for name, value in results.items()} == {o.name: o.row for o in network.spec.outputs}
        assert all(value.isfinite().all() for value in results.values())
    assert {len(value) for value in network.feeds(2 * ROWS, torch.device("cpu")).values()} == {2 * ROWS}
    assert (work_of(network.module, network.spec, 1).flops > 0) == (sample is not call_sample)


def test_samples_are_the_same_everywhere():
    """Their artifacts have the same key in every process."""
    assert {kind: make().spec.key() for kind, make in SAMPLES.items()} == {
        kind: make().spec.key() for kind, make in SAMPLES.items()
    }
