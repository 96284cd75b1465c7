"""Cross-attention of a real UNet, watched without being changed."""

import pytest
import torch

from engines.conditioning import Conditioning
from engines.editing.attention import recorded
from engines.editing.edit import EditTerm, edit
from engines.editing.grid import grid_at, skipping_times
from engines.editing.inversion import invert
from engines.editing.predictor import Predictor
from engines.editing.steps import SdeDpmSolver
from engines.errors import UnsupportedPipelineError
from engines.noise import start_noise
from tests.engines.editing.toys import LEVELS


def unet(*down, channels=(8, 8, 16)):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    down = tuple(f"{each}DownBlock2D" for each in down)
    up = tuple(each.replace("Down", "Up") for each in down[::-1])
    return UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=channels[: len(down)], norm_num_groups=4,
        cross_attention_dim=12, attention_head_dim=2, down_block_types=down, up_block_types=up,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def network():
    return unet("", "CrossAttn", "CrossAttn")


def call(network, size=(16, 16), rows=3):
    x, told = start_noise(range(rows), (4, *size)), start_noise(range(rows), (5, 12))
    with torch.no_grad():
        return network(x, torch.full([rows], 500.0), told, return_dict=False)[0]


def test_maps_are_distributions_over_tokens_at_a_quarter_of_the_size(network):
    before = call(network)
    with recorded(network) as record:
        assert torch.equal(call(network), before)
        maps = record()
    assert maps.shape == (3, 5, 4, 4)
    torch.testing.assert_close(maps.sum(1), torch.ones(3, 4, 4))
    assert record.halvings == 2
    assert all(name.startswith(("down_blocks.2.", "up_blocks.0.")) for name in record.layers)
    assert torch.equal(call(network), before)
    assert len(record.layers) == 3  # one layer down, two up


def test_maps_are_the_mean_over_heads_and_layers(network):
    """By hand, from what the layers are given."""
    given = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, args, kwargs: given.update({module: (args[0], kwargs)}), with_kwargs=True)
        for name, layer in network.named_modules()
        if name.endswith("attn2") and name.startswith(("down_blocks.2", "up_blocks.0"))
    ]
    with recorded(network) as record:
        call(network)
    for hook in hooks:
        hook.remove()
    wanted = torch.stack(
        [
            attn.get_attention_scores(
                attn.head_to_batch_dim(attn.to_q(states)), attn.head_to_batch_dim(attn.to_k(named["encoder_hidden_states"]))
            ).view(3, attn.heads, 16, 5).mean(1)
            for attn, (states, named) in given.items()
        ]
    ).mean(0)  # fmt: skip
    torch.testing.assert_close(record(), wanted.transpose(1, 2).reshape(3, 5, 4, 4))


def test_only_the_last_call_counts_whatever_its_shape(network):
    with recorded(network) as record:
        call(network)
        call(network, (16, 8), 1)
        assert record().shape == (1, 5, 4, 2)
        call(network, (10, 12), 2)
        assert record().shape == (2, 5, 3, 3)


@pytest.mark.parametrize(("blocks", "halvings"), [(("CrossAttn", ""), 0), (("", "CrossAttn"), 1), (("CrossAttn", "CrossAttn"), 1)])
def test_small_networks_are_read_at_the_nearest_size(blocks, halvings):
    with recorded(unet(*blocks)) as record:
        assert record.halvings == halvings


def test_processors_are_put_back_after_an_error(network):
    before = {name: layer.processor for name, layer in network.named_modules() if name.endswith("attn2")}
    with pytest.raises(RuntimeError), recorded(network):
        raise RuntimeError
    assert {name: layer.processor for name, layer in network.named_modules() if name.endswith("attn2")} == before


def test_networks_without_cross_attention_are_refused():
    from diffusers import UNet2DConditionModel

    plain = UNet2DConditionModel(
        block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), norm_num_groups=4, cross_attention_dim=8,
        layers_per_block=1, mid_block_type=None,
    )  # fmt: skip
    with pytest.raises(UnsupportedPipelineError, match="without attention maps"), recorded(plain):
        pass


def test_maps_before_any_call_are_refused(network):
    with recorded(network) as record, pytest.raises(ValueError, match="call the network"):
        record()


def test_edits_take_their_masks_from_it(network):
    """End to end: masks with attention are parts of those without."""
    which = Predictor(lambda x, t, told: network(x, t, told.tensors["context"], return_dict=False)[0], "epsilon")
    told = Conditioning.of(context=start_noise([1, 2], (5, 12)))
    grid = grid_at(skipping_times(4, 0.5), LEVELS)
    inversion = invert(which, start_noise([3], (4, 16, 16)), [1], SdeDpmSolver(), grid, source=told[:1])
    term = EditTerm(conditioning=told[1:], threshold=0.5, tokens=2, cool_down=1)
    assert grid.times[0] < 800
    with recorded(network) as record:
        both = edit(which, inversion, [term], attention=record).masks[0]
    alone = edit(which, inversion, [term]).masks[0]
    assert (both <= alone).all()
    assert 0 < float(both.mean()) < float(alone.mean())
