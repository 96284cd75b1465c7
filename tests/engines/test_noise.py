import pytest
import torch

from engines.noise import start_noise, step_noise


def test_noise_depends_on_the_seed_alone():
    """Other images in the batch change nothing, bit for bit."""
    assert torch.equal(start_noise([7, 8, 9], (4, 8, 8))[1], start_noise([8], (4, 8, 8))[0])


@pytest.mark.parametrize("other", [8 + 2**32, 8 + 2**63, 9])
def test_all_64_bits_of_a_seed_count(other):
    """Seeds come from hashes; the high half must not be dropped."""
    assert not torch.equal(start_noise([8], (16,)), start_noise([other], (16,)))


def test_streams_of_one_seed_are_independent():
    """Start and steps share nothing, and together are standard normal."""
    streams = torch.stack([start_noise([3], (50_000,))[0], *(step_noise([3], step, (50_000,))[0] for step in range(3))])
    assert torch.corrcoef(streams).triu(1).abs().max() < 0.02
    assert streams.mean().abs() < 0.01
    assert (streams.std() - 1).abs() < 0.01


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match="64-bit"):
        start_noise([seed], (4,))
