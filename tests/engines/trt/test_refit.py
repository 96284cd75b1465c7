"""New weights for an engine that was built for it."""

import pytest
import torch

from engines.backends.trt.request import BuildOptions
from engines.errors import NotRefittableError
from engines.graphs.weights import WEIGHTS
from tests.engines.trt import fake
from tests.engines.trt.host import HostStream
from tests.engines.trt.networks import SPEC, Small, feeds


@pytest.fixture
def engine(make_backend, trt, module):
    return make_backend(trt, options=BuildOptions(refit=True)).build(module, SPEC)


def maps(root):
    return root.glob(f"cache/*/{WEIGHTS}")


def close(engine, module):
    torch.testing.assert_close(engine.run(feeds(3))["y"], module(**feeds(3)))


def test_an_engine_takes_all_the_weights_of_another_module(engine):
    """Named as in the module, transposed as the exporter did."""
    engine.run(feeds(3))
    engine.refit(dict(Small(5).named_parameters()))
    close(engine, Small(5))


def test_weights_merged_with_replaced_ones_stay(engine, module):
    """The builder merged q and k; only q is given, so k comes from the graph, and later from what was given before."""
    other = Small(5)
    engine.refit({"q.weight": other.q.weight})
    module.q.weight = other.q.weight
    close(engine, module)
    engine.refit({"k.weight": other.k.weight})
    module.k.weight = other.k.weight
    close(engine, module)


def test_weights_come_in_any_type(engine, module):
    """They are converted to what the plan was built with."""
    module.bias.copy_(torch.arange(6.0))
    engine.refit({"bias": torch.arange(6, dtype=torch.float64)})
    close(engine, module)


def test_a_graph_is_recorded_again_after_a_refit(engine):
    """The captured launches may have old weights in them, as the fake's do."""
    given, out = feeds(3), {"y": torch.zeros(3, 2, 6)}
    replay = engine.bind(given, out)
    engine.refit(dict(Small(5).named_parameters()))
    replay()
    torch.testing.assert_close(out["y"], Small(5)(**given))
    assert engine.stats().captures == 2


def test_a_refit_is_ordered_with_other_streams(engine):
    """After what is under way there, before what comes; the host does not wait."""
    busy = HostStream(8)
    engine.run(feeds(3), None, busy)
    here = engine.program._on.private
    engine.refit({"bias": torch.zeros(6)})
    assert 8 in here.waited
    assert here.cuda_stream in busy.waited
    assert here.synchronised == busy.synchronised == 0


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"v.weight": torch.zeros(6, 6)}, "no weights of 'v.weight'"),
        ({"bias": torch.zeros(7)}, "have 6 numbers in the plan, 7 were given"),
    ],
)
def test_weights_that_do_not_fit_are_refused(engine, module, weights, message):
    """The engine goes on with what it had."""
    with pytest.raises(NotRefittableError, match=message):
        engine.refit(weights)
    close(engine, module)


def test_a_graph_with_strange_initialisers_is_not_refitted(engine, tmp_path):
    """Which are no parameter in any layout that is known: guessing would be worse."""
    for path in maps(tmp_path):
        path.write_text('{"bias": ["bias", "identity"], "merged.q": null}')
    with pytest.raises(NotRefittableError, match=r"merged\.q: no parameter"):
        engine.refit({"bias": torch.zeros(6)})


def test_folded_weights_are_refused(engine, monkeypatch):
    monkeypatch.setattr(fake.Refitter, "get_weights_prototype", lambda *_: fake.Weights(fake.DataType.FLOAT, 0, -1))
    with pytest.raises(NotRefittableError, match="folded into the plan"):
        engine.refit({"bias": torch.zeros(6)})


@pytest.mark.parametrize("options", [BuildOptions(), BuildOptions(strip=True)], ids=["plain", "stripped"])
def test_only_plans_built_for_it_are_refitted(make_backend, trt, module, options):
    """A stripped plan takes back identical weights only; others would give unpredictable results."""
    with pytest.raises(NotRefittableError, match="without the option `refit`"):
        make_backend(trt, options=options).build(module, SPEC).refit({"bias": torch.zeros(6)})


def test_a_refittable_plan_carries_its_map(make_backend, trt, module):
    """So that it can be refitted without the graph beside it."""
    backend = make_backend(trt, options=BuildOptions(refit=True))
    backend.build(module, SPEC)
    (path,) = backend.cache.root.glob("*/plan")
    assert (path.parent / WEIGHTS).exists()
    assert "REFIT" in fake.head_of(path)["flags"]


def test_resources_are_given_back_where_the_release_can(engine, trt):
    """11 has a call for it, 10 has not."""
    engine.refit({"bias": torch.zeros(6)})
    refitter = engine.program._state.weights._refitter
    engine.close()
    assert hasattr(refitter, "release_refit_resources") is (trt.__version__ > "11")
    assert (refitter._given is None) is (trt.__version__ > "11")
