import pytest
import torch

from engines.conditioning import Conditioning
from engines.pipelines.prompts import guidance_embedding


def made(rows=3):
    return Conditioning.of(context=torch.arange(rows * 4.0).view(rows, 2, 2), class_label=torch.arange(rows))


@pytest.mark.parametrize("pick", [slice(1, 3), torch.tensor([False, True, True]), [1, 2], torch.tensor([1, 2])])
def test_rows_are_picked_together(pick):
    """All tensors by the same rows; also where there are none."""
    found = made()[pick]
    assert (len(found), found.tensors["class_label"].tolist()) == (2, [1, 2])
    assert torch.equal(found.tensors["context"], made().tensors["context"][1:])
    assert len(Conditioning(rows=3)[pick]) == 2


def test_joining_and_cutting_are_inverse():
    both = Conditioning.cat([made(2), made(3)])
    assert len(both) == 5
    assert torch.equal(both[2:].tensors["context"], made(3).tensors["context"])
    assert len(Conditioning.cat([Conditioning(rows=2), Conditioning(rows=1)])) == 3


def test_one_row_holds_for_all():
    """Without a copy, and only one can."""
    told = made(3).joined(Conditioning.of(time_ids=torch.ones(1, 6)))
    assert (len(told), told.tensors["time_ids"].shape, told.tensors["time_ids"].stride(0)) == (3, (3, 6), 0)
    with pytest.raises(ValueError, match="one row"):
        made(2).expand(5)


def test_rows_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="one number of rows"):
        Conditioning.of(context=torch.zeros(2, 1, 1), class_label=torch.zeros(3))
    with pytest.raises(ValueError, match="different kinds"):
        Conditioning.cat([made(), Conditioning(rows=1)])


@pytest.mark.parametrize("width", [14, 15, 256])
def test_the_guidance_embedding_is_that_of_diffusers(width):
    """Also where the number of columns is odd."""
    from diffusers import LatentConsistencyModelPipeline

    wanted = LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, torch.tensor([7.5]), embedding_dim=width)
    torch.testing.assert_close(guidance_embedding(8.5, width), wanted, rtol=0, atol=0)
