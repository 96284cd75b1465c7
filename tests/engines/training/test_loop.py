"""The loop: budgets, memory, and losses that stop being numbers."""

import pytest
import torch

from engines.training import Spent, TrainingError
from engines.training.checkpoint import load, module_tensors, optimizer_tensors, save
from engines.training.loop import Budget, Stage, StepRandomness, fit, rate


def run(module, saved, *, loss=None, steps=3, seconds=float("inf")):
    return fit(
        module,
        loss or (lambda _step: module(torch.ones(1, 2)).square().sum()),
        average=torch.nn.Linear(2, 1),
        budget=Budget(steps=steps, seconds=seconds, checkpoint_seconds=60),
        peak_rate=0.1,
        ema_decay=0.9,
        stage=Stage(what="toy", saved=saved, run="r"),
        report=lambda *_: None,
    )


def test_seconds_spent_before_a_kill_count(tmp_path):
    """A run with its seconds used up does nothing more, and remembers its loss."""
    module, saved = torch.nn.Linear(2, 1), tmp_path / "toy.safetensors"
    run(module, saved)
    kept = load(saved, run="r")
    save(saved, kept.tensors, Spent(steps=3, seconds=100.0, loss=0.25), run="r")
    done = run(module, saved, steps=1000, seconds=100.0)
    assert (done.steps, done.loss) == (3, 0.25)
    assert done.seconds == pytest.approx(100, abs=1)


def test_seconds_end_a_run(tmp_path):
    """A budget of next to nothing is one step at most."""
    assert run(torch.nn.Linear(2, 1), tmp_path / "toy.safetensors", steps=10**9, seconds=1e-3).seconds < 5


def test_more_steps_go_on_from_the_old_ones(tmp_path):
    """Extending a budget trains only the difference."""
    module, saved, seen = torch.nn.Linear(2, 1), tmp_path / "toy.safetensors", []

    def loss(step):
        seen.append(step)
        return module(torch.ones(1, 2)).square().sum()

    run(module, saved, loss=loss, steps=3)
    run(module, saved, loss=loss, steps=5)
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run(tmp_path, bad):
    """And is never saved."""
    module = torch.nn.Linear(2, 1)
    with pytest.raises(TrainingError, match="toy: the loss is not finite at step 3; lower the learning rate"):
        run(module, tmp_path / "toy.safetensors", loss=lambda _step: module(torch.ones(1, 2)).sum() * bad)
    assert not list(tmp_path.iterdir())


def test_the_rate_rises_and_falls():
    """From next to nothing to the peak to a hundredth of it."""
    rates = [rate(spent, peak=1.0) for spent in (0.0, 0.01, 0.02, 0.5, 1.0)]
    assert rates == pytest.approx([0.001, 0.501, 1.0, 0.5202, 0.01], abs=2e-3)


def test_a_step_draws_the_same_whatever_came_before():
    """Which is what makes resumed runs equal to uninterrupted ones."""
    randomness, device = StepRandomness(4, torch.device("cpu")), torch.device("cpu")
    first = torch.rand(3, generator=randomness.at(7))
    randomness.at(8)
    assert torch.equal(first, torch.rand(3, generator=randomness.at(7)))
    assert not torch.equal(first, torch.rand(3, generator=randomness.at(8)))
    assert not torch.equal(first, torch.rand(3, generator=StepRandomness(5, device).at(7)))


def test_a_checkpoint_that_cannot_be_written_says_so(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "work").write_bytes(b"")
    module = torch.nn.Linear(2, 1)
    tensors = module_tensors("module", module) | optimizer_tensors(torch.optim.AdamW(module.parameters()))
    with pytest.raises(TrainingError, match=r"cannot be written .*; free space there and run again"):
        save(tmp_path / "work" / "toy.safetensors", tensors, Spent(), run="r")
