"""What every backend computes."""

import pytest
import torch

from engines.backends.eager import EagerBackend
from engines.certificate import FORWARD_LIMITS, GRADIENT_LIMITS
from engines.parity import certify, least_cosine, relative_error

KINDS = ("forward", "static", "two", "vjp", "guided")


def check(engine, found, right):
    """Rows agree within the bounds of certificates."""
    assert set(found) == set(right)
    for name, value in found.items():
        gradient = name in engine.spec.gradients
        limit, cosine = GRADIENT_LIMITS["fp32"] if gradient else (FORWARD_LIMITS["fp32"], -1)
        assert value.dtype == torch.float32
        assert relative_error(value, right[name]) < limit, name
        assert least_cosine(value, right[name]) > cosine, name


@pytest.mark.parametrize("rows", [1, 3, 4, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_module_in_float64(subject, kind, rows):
    """A ragged batch, one row, and the largest; each row with its own timestep."""
    engine, case = subject(kind)
    if rows > engine.spec.profile.max_b:
        pytest.skip("this engine takes one size only")
    feeds = case.feeds(rows)
    check(engine, engine.run(feeds), case.right(feeds))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_batch(subject, kind):
    """Alone, among others, and in another place."""
    engine, case = subject(kind)
    feeds = case.feeds(4)
    together = engine.run(feeds)
    for row in (0, 3):
        check(
            engine,
            engine.run({name: value[row : row + 1] for name, value in feeds.items()}),
            {name: value[row : row + 1] for name, value in together.items()},
        )
    turned = engine.run({name: value.flip(0) for name, value in feeds.items()})
    check(engine, {name: value.flip(0) for name, value in turned.items()}, together)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_gives_the_same_bits(subject, kind):
    engine, case = subject(kind)
    first, second = engine.run(case.feeds(4)), engine.run(case.feeds(4))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_results_of_an_earlier_run_stay(subject, kind):
    """They are not buffers that the next run fills again."""
    engine, case = subject(kind)
    first = engine.run(case.feeds(4))
    kept = {name: value.clone() for name, value in first.items()}
    engine.run(case.feeds(4, seed=1))
    assert all(torch.equal(first[name], kept[name]) for name in kept)


@pytest.mark.parametrize("kind", KINDS)
def test_is_certified(subject, kind):
    """By the same judgement that decides about its use."""
    engine, case = subject(kind)
    sizes = (4, 3, 1) if engine.spec.profile.static else (12, 4, 3, 1)
    certificate = certify(engine, EagerBackend().build(case.module, case.spec), [case.feeds(rows) for rows in sizes])
    assert certificate.failure is None
    assert certificate.deterministic
    assert (certificate.gradient_error is None) is (not case.spec.gradients)


@pytest.mark.parametrize("change", ["strided", "transposed", "channels last"])
def test_feeds_may_lie_anywhere(subject, change):
    """A view of something larger gives the numbers of a copy."""
    engine, case = subject("forward")
    feeds = case.feeds(3)
    x, t = feeds["x"], feeds["t"]
    lying = {
        "strided": (x.repeat_interleave(2, 3)[..., ::2], t.repeat_interleave(2)[::2]),
        "transposed": (x.mT.contiguous().mT, t),
        "channels last": (x.to(memory_format=torch.channels_last), t),
    }[change]
    check(engine, engine.run(dict(zip(feeds, lying, strict=True))), engine.run(feeds))
