"""Adapters at rest: what they change, against peft's own arithmetic and diffusers' own files."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from engines.directory import read_parts
from engines.networks import UNetForward
from engines.training import TrainingError, lora_delta, read_adapter
from engines.training.adapters import Adapters, inject
from engines.training.lora_file import folded, write_adapter
from engines.training.vendor import quiet


@pytest.fixture
def parts(pipeline_directory):
    with quiet():
        return read_parts(pipeline_directory)


@pytest.fixture
def drawn(parts):
    """Adapters of the UNet, with both factors random."""

    def draw(targets, *, rank=3, alpha=6.0, part="unet"):
        adapters = Adapters(inject(part, getattr(parts, part), rank=rank, alpha=alpha, targets=targets))
        torch.manual_seed(1)
        with torch.no_grad():
            for value in adapters.parameters():
                value.normal_(std=0.3)
        return adapters

    return draw


@pytest.mark.parametrize("targets", [("to_q", "to_out.0"), ("conv1", "conv_shortcut"), ("ff.net.2", "proj_in")])
def test_the_change_is_what_peft_computes(parts, drawn, targets):
    """For linear layers and for convolutions of several sizes, alpha folded in."""
    base = {f"unet.{name}": value for name, value in copy.deepcopy(parts.unet).named_parameters()}
    delta = lora_delta(folded(drawn(targets).tensors, 2.0), base)
    layers = {f"unet.{name}.weight": layer for name, layer in parts.unet.named_modules() if hasattr(layer, "get_delta_weight")}
    assert delta.keys() == layers.keys()
    for name, layer in layers.items():
        torch.testing.assert_close(delta[name], layer.get_delta_weight("default"), atol=1e-5, rtol=1e-5)


def test_refitted_weights_compute_what_the_adapter_does(parts, drawn):
    """The names are those of the module that engines run; adding zeros' worth of change gives the base back."""
    plain = UNetForward(copy.deepcopy(parts.unet))
    feeds = torch.randn(2, 4, 8, 8), torch.tensor([10.0, 900.0]), torch.randn(2, 12, 32)
    adapter = folded(drawn(("to_q", "to_k")).tensors, 2.0)
    weights = dict(plain.named_parameters())
    with torch.no_grad():
        before = plain(*feeds)
        for name, change in lora_delta(adapter, weights).items():
            weights[name].add_(change)
        after, wanted = plain(*feeds), UNetForward(parts.unet)(*feeds)
    torch.testing.assert_close(after, wanted, atol=1e-5, rtol=1e-5)
    assert (after - before).abs().max() > 1e-3


def test_names_and_shapes_are_all_that_is_read_of_the_base(parts, drawn):
    """Tensors without memory do."""
    base = {f"unet.{name}": value.to("meta") for name, value in parts.unet.named_parameters()}
    delta = lora_delta(drawn(("to_v",)).tensors, base)
    assert delta.keys() == {name for name in base if name.endswith("to_v.weight")}
    assert all(value.shape == base[name].shape and not value.is_meta for name, value in delta.items())


def test_an_adapter_of_another_base_is_refused(drawn):
    """By a layer that is not there, or by its shape."""
    adapter = drawn(("to_v",)).tensors
    with pytest.raises(TrainingError, match=r"changes unet.down_blocks.*to_v, which the base does not have"):
        lora_delta(adapter, {})
    names = {name.replace(".lora_A", ""): torch.empty(5, 5) for name in adapter}
    with pytest.raises(TrainingError, match=r"as if it were \(16, 16\), the base has \(5, 5\)"):
        lora_delta(adapter, names)


def test_what_was_written_is_read(drawn, tmp_path):
    """By folder and by file."""
    adapter = drawn(("to_q",)).tensors
    write_adapter(tmp_path, adapter, {"base": "x"})
    for path in (tmp_path, tmp_path / "pytorch_lora_weights.safetensors"):
        read = read_adapter(path)
        assert read.keys() == adapter.keys()
        assert all(torch.equal(read[name], value) for name, value in adapter.items())


@pytest.mark.parametrize("alpha", [1, 6])
def test_files_of_diffusers_are_read_with_their_alpha(parts, drawn, tmp_path, alpha):
    """As its training scripts write them: other names of the factors, alpha in the metadata."""
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    tensors = drawn(("to_q", "to_v"), alpha=alpha).tensors
    theirs = convert_state_dict_to_diffusers(get_peft_model_state_dict(parts.unet))
    config = parts.unet.peft_config["default"].to_dict()
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=theirs, unet_lora_adapter_metadata=config)
    base = {f"unet.{n.replace('.base_layer', '')}": value for n, value in parts.unet.named_parameters() if "lora_" not in n}
    read, ours = lora_delta(read_adapter(tmp_path), base), lora_delta(folded(tensors, alpha / 3), base)
    assert read.keys() == ours.keys()
    assert all(torch.allclose(read[name], ours[name], atol=1e-6) for name in ours)


@pytest.mark.parametrize(
    ("tensors", "metadata", "said"),
    [
        ({"lora_unet_down.alpha": torch.ones(1)}, {}, "not a plain LoRA adapter: it holds lora_unet_down.alpha; load it"),
        ({"unet.a.lora_A.weight": torch.ones(1, 2)}, {}, "not a plain LoRA adapter: it holds unet.a"),
        (
            {"unet.a.lora_A.weight": torch.ones(1, 2), "unet.a.lora_B.weight": torch.ones(2, 1)},
            {"lora_adapter_metadata": '{"unet.use_rslora": true}'},
            "made with use_rslora, which is not supported",
        ),
        ({"a": torch.ones(1)}, {"lora_adapter_metadata": "{"}, "cannot be read"),
    ],
)
def test_other_adapters_are_refused(tmp_path, tensors, metadata, said):
    """By what they hold."""
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors", metadata=metadata)
    with pytest.raises(TrainingError, match=said):
        read_adapter(tmp_path)


def test_a_folder_without_an_adapter_is_named(tmp_path):
    """With what to name instead."""
    with pytest.raises(TrainingError, match=r"pytorch_lora_weights.safetensors cannot be read .*; name a file or folder"):
        read_adapter(tmp_path)
