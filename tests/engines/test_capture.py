import pytest
import torch

from engines.capture import CAPTURABLE, capture_loop, policy_refused
from engines.errors import CaptureError, FeedError
from tests.engines.tape import Recorder

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TABLE = torch.tensor([[0.5, 1.0], [0.25, -2.0], [0.75, 3.0]])


def step(state, row):
    """X' = a x + b D, remembering the estimate: a sampler of second order in miniature, guidance included."""
    both = torch.cat([state["x"], state["x"]]).sin()
    estimate = torch.lerp(both[4:], both[:4], 1.5)
    return {"x": row[0] * state["x"] + row[1] * (estimate + state["before"]), "before": estimate}


def unguided(state, row):
    return {"x": row[0] * state["x"] + row[1] * state["x"].sin()}


def fresh():
    return {"x": torch.linspace(-1, 1, 12).view(4, 3), "before": torch.zeros(4, 3)}


def by_hand(steps, state):
    for each, row in zip(steps, TABLE, strict=True):
        state = {**state, **each(state, row)}
    return state


@pytest.mark.parametrize(("policy", "launches"), [("none", 0), ("step", 2), ("loop", 1)])
def test_every_policy_computes_the_same_bits(policy, launches):
    """Also when the state is filled again, and where the last step is another one."""
    steps, state, recorder = [step, step, unguided], fresh(), Recorder()
    loop = capture_loop(steps, state, TABLE, policy=policy, recorder=recorder)
    for value in (1.0, -3.0):
        for name, begin in fresh().items():
            state[name].copy_(value * begin)
        loop()
        right = by_hand(steps, {name: value * begin for name, begin in fresh().items()})
        assert all(torch.equal(state[name], right[name]) for name in state)
    assert loop.captures == recorder.recordings == launches


@pytest.mark.parametrize("policy", ["none", "step", "loop"])
def test_recording_leaves_the_state_alone(policy):
    """Although it runs the work three times."""
    state = fresh()
    capture_loop([step] * 3, state, TABLE, policy=policy, recorder=Recorder())
    assert all(torch.equal(state[name], value) for name, value in fresh().items())


def test_coefficients_are_read_when_it_runs():
    """Another schedule of the same length needs no new recording by policy loop."""
    state, table = fresh(), TABLE.clone()
    loop = capture_loop([step] * 3, state, table, policy="loop", recorder=Recorder())
    table.mul_(2)
    loop()
    right = fresh()
    for row in 2 * TABLE:
        right = step(right, row)
    torch.testing.assert_close(state["x"], right["x"], rtol=0, atol=0)


def test_a_step_may_return_what_lies_in_the_state():
    """Swapped, although both are written in place."""
    state = {"x": torch.tensor([1.0]), "before": torch.tensor([2.0])}
    capture_loop([lambda s, _: {"x": s["before"], "before": s["x"]}], state, TABLE[:1])()
    assert (float(state["x"]), float(state["before"])) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda s, _: {"y": s["x"]}, "which the state has not"),
        (lambda s, _: {"x": s["x"][:1]}, "the state holds"),
        (lambda s, _: {"x": s["x"].double()}, "float64"),
    ],
)
def test_a_step_that_does_not_fit_the_state_is_refused(bad, message):
    with pytest.raises(FeedError, match=message):
        capture_loop([bad], fresh(), TABLE[:1])()


def test_steps_and_rows_must_agree():
    with pytest.raises(FeedError, match="2 steps and 3 rows"):
        capture_loop([step] * 2, fresh(), TABLE)


@pytest.mark.parametrize(
    ("policy", "device", "backends", "reason"),
    [
        ("none", CPU, ("ort",), None),
        ("loop", CPU, ("torch",), "needs a CUDA device"),
        ("loop", CUDA, tuple(CAPTURABLE), None),
        ("step", CUDA, ("torch", "ort"), "launches of ort"),
        ("whole", CUDA, (), "unknown"),
    ],
)
def test_a_policy_is_refused_with_a_reason(policy, device, backends, reason):
    refused = policy_refused(policy, device, backends)
    assert refused is None if reason is None else reason in refused


def test_a_cpu_has_nothing_to_record_with():
    with pytest.raises(CaptureError, match="use capture policy none"):
        capture_loop([step] * 3, fresh(), TABLE, policy="loop")
