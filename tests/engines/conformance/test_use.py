"""How every backend is used: buffers, bindings, wrong feeds, new weights, the end."""

from dataclasses import replace

import pytest
import torch

from engines.errors import ArtifactError, ClosedEngineError, FeedError, NotRefittableError, ServedModelError
from engines.parity import POISON, relative_error
from tests.engines.conformance.networks import Denoiser
from tests.engines.conformance.registry import SERVED


@pytest.mark.parametrize("kind", ["forward", "static", "two", "guided"])
def test_results_are_written_where_asked(subject, kind):
    """Every number of the buffers, and the buffers themselves are returned."""
    engine, case = subject(kind)
    feeds, out = case.feeds(3), case.outs(3, fill=POISON)
    returned = engine.run(feeds, out)
    right = engine.run(feeds)
    for name, value in out.items():
        assert returned[name].data_ptr() == value.data_ptr()
        assert torch.equal(value, right[name])


def test_a_buffer_may_be_a_view(subject):
    """Every other row of something larger."""
    engine, case = subject("forward")
    large = torch.full((6, 4, 8, 8), POISON)
    engine.run(case.feeds(3), {"y": large[::2]})
    assert torch.equal(large[::2], engine.run(case.feeds(3))["y"])
    assert bool((large[1::2] == POISON).all())


@pytest.mark.parametrize("kind", ["forward", "static", "two", "vjp", "guided"])
def test_a_replay_reads_what_is_there_then(subject, kind):
    """Feeds change in place between replays; addresses do not."""
    engine, case = subject(kind)
    feeds, outs = case.feeds(4), case.outs(4, fill=POISON)
    replay = engine.bind(feeds, outs)
    for seed in (1, 2):
        for name, value in case.feeds(4, seed).items():
            feeds[name].copy_(value)
        replay()
        right = engine.run(case.feeds(4, seed))
        assert all(torch.equal(outs[name], right[name]) for name in outs)


def test_two_bindings_do_not_meddle(subject):
    """Of different sizes, replayed in turn."""
    engine, case = subject("forward")
    bound = {rows: (case.feeds(rows), case.outs(rows)) for rows in (2, 5)}
    replays = {rows: engine.bind(*both) for rows, both in bound.items()}
    for rows in (2, 5, 2):
        replays[rows]()
    for rows, (feeds, outs) in bound.items():
        assert torch.equal(outs["y"], engine.run(feeds)["y"]), rows


def test_a_static_engine_pads(subject):
    """Rows that are missing are computed and thrown away, and counted."""
    engine, case = subject("static")
    before = engine.stats()
    feeds = case.feeds(3)
    assert relative_error(engine.run(feeds)["y"], case.right(feeds)["y"]) < 1e-5
    after = engine.stats()
    assert (after.items - before.items, after.padded - before.padded) == (3, 1)


WITHOUT_ARTIFACTS = {"torch", "torch-compiled", "torch-prepared", SERVED}
WRONG = {
    "x is float32, got float64": lambda feeds: {**feeds, "x": feeds["x"].double()},
    "inputs t, x; got x": lambda feeds: {"x": feeds["x"]},
    "got other, t, x": lambda feeds: {**feeds, "other": feeds["t"]},
    "rows of": lambda feeds: {**feeds, "x": feeds["x"][:, :2]},
    "same number of rows": lambda feeds: {**feeds, "t": feeds["t"][:2]},
    "takes at most 12": lambda feeds: {name: value.repeat(5, *[1] * (value.ndim - 1)) for name, value in feeds.items()},
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_feeds_are_refused(subject, message):
    """By run and by bind, before anything is computed; the message says what is taken and what was given."""
    engine, case = subject("forward")
    wrong = WRONG[message](case.feeds(3))
    pattern = message.replace("x is", "'x' of engine 'forward' is")
    for call in (lambda: engine.run(wrong), lambda: engine.bind(wrong, case.outs(3))):
        with pytest.raises(FeedError, match=pattern):
            call()


def test_outputs_are_checked_when_bound(subject):
    engine, case = subject("forward")
    with pytest.raises(FeedError, match="output"):
        engine.bind(case.feeds(3), {"y": torch.empty(3, 4, 8, 8, dtype=torch.float64)})


def test_calls_are_counted(subject):
    engine, case = subject("forward")
    before = engine.stats()
    engine.run(case.feeds(3))
    engine.run(case.feeds(5))
    after = engine.stats()
    assert (after.calls - before.calls, after.items - before.items) == (2, 8)
    assert after.seconds > before.seconds


def test_new_weights_are_used_or_refused(subject):
    """By runs and by replays that were bound before."""
    engine, case = subject.fresh("forward")
    other = replace(case, module=Denoiser(seed=2).eval())
    feeds, outs = case.feeds(4), case.outs(4)
    replay = engine.bind(feeds, outs)
    weights = {name: value.detach().clone() for name, value in other.module.named_parameters()}
    right = (other if refitted(engine, weights) else case).right(feeds)["y"]
    replay()
    assert relative_error(outs["y"], right) < 1e-5
    assert relative_error(engine.run(feeds)["y"], right) < 1e-5


def refitted(engine, weights):
    try:
        engine.refit(weights)
    except NotRefittableError:
        return False
    return True


def test_weights_that_do_not_fit_are_refused(subject):
    engine, _ = subject.fresh("forward")
    for weights in ({"nothing.weight": torch.ones(1)}, {"conv.weight": torch.ones(1)}):
        with pytest.raises(NotRefittableError):
            engine.refit(weights)


def test_closing_twice_is_fine_and_use_afterwards_is_not(subject):
    engine, case = subject.fresh("forward")
    engine.run(case.feeds(2))
    engine.close()
    engine.close()
    for use in (
        lambda: engine.run(case.feeds(2)),
        lambda: engine.bind(case.feeds(2), case.outs(2)),
        lambda: engine.refit({}),
    ):
        with pytest.raises(ClosedEngineError, match="build or load it again"):
            use()
    assert engine.stats().calls == 1


def test_what_cannot_be_run_has_a_reason(subject):
    """Also what it says of itself: a name, a version, precisions."""
    _, case = subject("forward")
    if subject.backend.name == SERVED:  # whatever the server was given; what it cannot take is what cannot cross the network
        narrow = replace(case.spec, inputs=tuple(replace(each, dtype="bfloat16") for each in case.spec.inputs))
        assert "bfloat16" in subject.backend.unusable(narrow)
    else:
        assert "fp8" in subject.backend.unusable(case.spec.at("fp8"))
    capability = subject.backend.probe()
    assert capability.backend == subject.backend.name
    assert capability.version
    assert "fp32" in capability.precisions


def test_an_artifact_is_loaded_or_there_is_none(subject):
    """Without the module; a folder that holds nothing is one clear error."""
    engine, case = subject("forward")
    if subject.backend.name not in WITHOUT_ARTIFACTS:
        loaded = subject.backend.load(subject.cache.root / case.spec.key(), case.spec)
        assert torch.equal(loaded.run(case.feeds(3))["y"], engine.run(case.feeds(3))["y"])
    if subject.backend.name == SERVED:  # the artifact is the server's: of a network that it has not, that is the error
        with pytest.raises(ServedModelError):
            subject.backend.load(subject.cache.root / "nothing", replace(case.spec, name="nobody"))
        return
    with pytest.raises(ArtifactError):
        subject.backend.load(subject.cache.root / "nothing", case.spec)
