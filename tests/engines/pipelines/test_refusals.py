"""What cannot be drawn is refused before anything is loaded, by the name of what is wrong."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from engines.errors import (
    CaptionTooLongError,
    DigestError,
    MissingFileError,
    PipelineError,
    UnsafeWeightsError,
    UnsupportedPipelineError,
)
from engines.pipeline import load_pipeline
from engines.pipelines.families import FAMILIES_IN_WORDS, family_of
from engines.pipelines.loading import load_tokenizer

SD = {
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "PNDMScheduler"], "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "image_encoder": [None, None],
}  # fmt: skip


def load(directory, **options):
    return load_pipeline(directory, **{"backend": "torch", "steps": 2, **options})


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("StableDiffusionControlNetPipeline", "control image"),
        ("StableDiffusionXLInpaintPipeline", "masked image"),
        ("StableDiffusionInstructPix2PixPipeline", "starts from an image"),
        ("StableDiffusionUpscalePipeline", "small image"),
        ("StableDiffusionXLImg2ImgPipeline", "refiner"),
        ("TextToVideoZeroPipeline", "many frames"),
    ],
)
def test_pipelines_for_other_purposes_are_refused_by_name(kind, message):
    with pytest.raises(UnsupportedPipelineError, match=f"{kind}.*{message}"):
        family_of({**SD, "_class_name": kind})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unet": ["diffusers", "UNet3DConditionModel"]}, "UNet3DConditionModel.*" + FAMILIES_IN_WORDS[:20]),
        ({"vae": ["diffusers", "VQModel"]}, "vae is 'VQModel'"),
        ({"text_encoder": ["transformers", "RobertaModel"]}, "RobertaModel"),
        ({"controlnet": ["diffusers", "ControlNetModel"]}, "'controlnet'.* not supported"),
        ({"transformer": ["diffusers", "FluxTransformer2DModel"]}, "FluxTransformer2DModel"),
        ({"text_encoder": [None, None], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"]}, "text_encoder is None"),
    ],
)
def test_components_of_other_kinds_are_refused_by_name(changes, message):
    with pytest.raises(UnsupportedPipelineError, match=message):
        family_of({**SD, **changes})


@pytest.mark.parametrize(
    ("component", "changes", "message"),
    [
        ("stable_diffusion_2/unet", {"in_channels": 9}, "inpainting"),
        ("stable_diffusion_2/unet", {"in_channels": 8}, "editing"),
        ("stable_diffusion_2/unet", {"num_class_embeds": 1000}, "num_class_embeds"),
        ("stable_diffusion_2/unet", {"addition_embed_type": "text_time"}, "addition_embed_type"),
        ("stable_diffusion_2/unet", {"quantization_config": {"quant_method": "gguf"}}, "quantization_config"),
        ("stable_diffusion_xl/unet", {"addition_embed_type": None}, "addition_embed_type"),
        ("stable_diffusion_xl/vae", {"latents_mean": [0.1] * 4}, "channel by channel"),
        ("stable_diffusion_3/transformer", {"out_channels": 5}, "5 channels"),
        ("ddpm/unet", {"time_embedding_type": "fourier"}, "time_embedding_type"),
        ("ddpm/unet", {"class_embed_type": "timestep"}, "class_embed_type"),
        ("ddpm/unet", {"sample_size": None}, "sample_size"),
    ],
)
def test_networks_that_read_more_are_refused_by_name(family_directory, pipeline_like, component, changes, message):
    name, part = component.split("/")
    directory = pipeline_like(family_directory(name))
    edit(directory / part / "config.json", **changes)
    with pytest.raises(UnsupportedPipelineError, match=message):
        load(directory)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "do not fit"),
        ({"_class_name": "TCDScheduler"}, "TCDScheduler"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
    ],
)
def test_schedulers_that_do_not_fit_are_refused_by_name(family_directory, pipeline_like, scheduler, message):
    with pytest.raises(UnsupportedPipelineError, match=message):
        load(pipeline_like(family_directory("stable_diffusion_2"), **scheduler))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "flow_euler", "schedule": "native"}, "flow_euler"),
        ({"guidance": 3.0, "null_class": 9}, "null_class 9"),
        ({"guidance": 3.0}, "null_class"),
        ({"sampler": "heun"}, "heun"),
    ],
)
def test_plans_that_do_not_fit_are_refused(family_directory, options, message):
    with pytest.raises(PipelineError, match=message):
        load(family_directory("ddpm", num_class_embeds=5, out_channels=6), **options)


@pytest.mark.parametrize("part", ["text_encoder_2", "unet", "vae"])
def test_weights_of_another_architecture_are_refused(family_directory, pipeline_like, part):
    """Neither may parameters be left at random, nor tensors be left over."""
    missing, extra = (pipeline_like(family_directory("stable_diffusion_xl")) for _ in range(2))
    for directory, change in (
        (missing, lambda tensors: tensors.popitem()),
        (extra, lambda tensors: tensors.update(odd=1 * next(iter(tensors.values())))),
    ):
        path = next((directory / part).glob("*.safetensors"))
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})
        with pytest.raises(PipelineError, match=f"{part}: the weights do not belong"):
            load(directory)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_shards_are_read_and_a_missing_one_is_named(family_directory, pipeline_like, part):
    """Two files with an index give the same picture as one; without one of them, or without the index, nothing is drawn."""
    whole, directory = load(family_directory("stable_diffusion_2")), pipeline_like(family_directory("stable_diffusion_2"))
    (path,) = (directory / part).glob("*.safetensors")
    names = shard(path)
    assert (load(directory).generate(["a photo"], [1]) == whole.generate(["a photo"], [1])).all()
    (path.parent / names[1]).unlink()
    with pytest.raises(MissingFileError, match=names[1]):
        load(directory)
    (path.parent / f"{path.name}.index.json").unlink()
    with pytest.raises(MissingFileError, match=r"index\.json"):
        load(directory)


def shard(path):
    tensors, stem = list(load_file(path).items()), path.stem
    halves = (tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :])
    names = [f"{stem}-0000{i + 1}-of-00002.safetensors" for i in range(2)]
    for name, half in zip(names, halves, strict=True):
        save_file(dict(half), path.parent / name, metadata={"format": "pt"})
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key, _ in half}
    (path.parent / f"{path.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    path.unlink()
    return names


def test_an_index_cannot_lead_out_of_its_folder(family_directory, pipeline_like):
    directory = pipeline_like(family_directory("stable_diffusion_2"))
    shard(directory / "unet/diffusion_pytorch_model.safetensors")
    path = directory / "unet/diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "../vae/diffusion_pytorch_model.safetensors"}}))
    with pytest.raises(PipelineError, match="no weight files of this folder"):
        load(directory)


@pytest.mark.parametrize("part", ["transformer", "text_encoder_3"])
def test_pickles_are_refused_in_every_component(family_directory, pipeline_like, part):
    directory = pipeline_like(family_directory("stable_diffusion_3"))
    for path in (directory / part).glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))
    with pytest.raises(UnsafeWeightsError, match=part):
        load(directory)


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.safetensors", "text_encoder_2/model.safetensors"])
def test_truncated_weights_are_ours_to_report(family_directory, pipeline_like, name):
    path = pipeline_like(family_directory("stable_diffusion_xl")) / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(PipelineError, match=name.split("/")[0]):
        load(path.parents[1])


@pytest.mark.parametrize(("changes", "message"), [({"vocab_size": 9}, "9; copy both"), ({"eos_token_id": 7}, "expects 7")])
def test_a_tokenizer_of_another_encoder_is_refused(family_directory, pipeline_like, changes, message):
    """It would reach past the vocabulary, or end captions where the encoder does not look."""
    directory = pipeline_like(family_directory("stable_diffusion_xl"))
    path = next((directory / "text_encoder").glob("*.safetensors"))
    edit(directory / "text_encoder/config.json", **changes)
    tensors = load_file(path)
    key = next(key for key in tensors if key.endswith("token_embedding.weight"))
    save_file({**tensors, key: tensors[key][: changes.get("vocab_size")].clone()}, path, metadata={"format": "pt"})
    with pytest.raises(PipelineError, match=message):
        load(directory)


def test_a_caption_too_long_for_any_encoder_is_refused(family_directory, pipeline_like):
    """The second tokenizer of XL reads fewer tokens here than the first."""
    directory = pipeline_like(family_directory("stable_diffusion_xl"))
    edit(directory / "tokenizer_2/tokenizer_config.json", model_max_length=5)
    assert load_tokenizer(directory / "tokenizer_2").model_max_length == 5
    with pytest.raises(CaptionTooLongError, match="reads 5"):
        load(directory).generate(["a photo of a red circle"], [1])


def test_encoders_of_another_pipeline_are_refused(family_directory, pipeline_like):
    """The caption's numbers must be as many as the network reads."""
    directory = pipeline_like(family_directory("stable_diffusion_2"))
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(directory / part)
        shutil.copytree(family_directory("stable_diffusion_xl") / part, directory / part)
    with pytest.raises(UnsupportedPipelineError, match="32 numbers for context, the network reads 24"):
        load(directory)


def test_a_pin_is_compared_before_weights_are_read(family_directory, pipeline_like):
    """Weights that would not even load are not tried."""
    directory = pipeline_like(family_directory("ddpm"))
    (directory / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(DigestError, match="pinned is 0000"):
        load(directory, pin="0000")


def test_a_bare_network_is_drawn_from(family_directory, tmp_path):
    """Older directories keep the one network at the top, with or without an index."""
    usual = family_directory("ddpm")
    bare = tmp_path / "bare"
    shutil.copytree(usual / "unet", bare)
    shutil.copy(usual / "scheduler/scheduler_config.json", bare)
    assert (load(bare).generate(None, [1]) == load(usual).generate(None, [1])).all()
    shutil.copy(usual / "model_index.json", bare)
    assert (load(bare).generate(None, [1]) == load(usual).generate(None, [1])).all()


def test_a_bare_network_of_another_kind_and_a_single_file_are_refused(family_directory):
    with pytest.raises(UnsupportedPipelineError, match="UNet2DConditionModel alone"):
        load(family_directory("stable_diffusion_2") / "unet")
    with pytest.raises(UnsupportedPipelineError, match="unpack it"):
        load(family_directory("ddpm") / "unet/diffusion_pytorch_model.safetensors")


def test_half_precision_is_refused_where_attention_overflows(family_directory, pipeline_like):
    """Stable Diffusion 2.1 says so itself; bf16 and fp32 are the cure."""
    directory = pipeline_like(family_directory("stable_diffusion_2"))
    edit(directory / "unet/config.json", upcast_attention=True)
    with pytest.raises(PipelineError, match="use bf16 or fp32"):
        load(directory, precision="fp16")
