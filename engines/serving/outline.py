"""The models as a repository under version control keeps them: configurations and code, without weights.

Of a pipeline with the sizes that ``engines.training`` gives one by default.  Until an export adds weights, the models load and refuse:

    python -m engines.serving.outline triton_repo --classifier triton_repo/shape_clean/1/model.onnx
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from engines.serving.config import graph_config
from engines.serving.export import BUCKETS, export_classifier
from engines.serving.identity import served_name
from engines.serving.loops import (
    COUNTERFACTUAL,
    SAMPLER,
    Shapes,
    counterfactual_code,
    counterfactual_config,
    sampler_code,
    sampler_config,
)
from engines.serving.networks import vjp_spec
from engines.serving.repository import WrittenModel, write_models
from engines.serving.resources import python_model
from engines.spec import BATCH, EngineSpec, Profile, TensorSpec
from engines.training.options import Recipe

ABSENT = "none"
"""Engine key and artifact of a model without weights."""


def outline(shapes: Shapes) -> list[WrittenModel]:
    """Models of a pipeline of these shapes, without weights."""
    about = {"artifact": ABSENT, "engine_key": ABSENT}
    models = [
        WrittenModel(
            name=served_name(spec),
            config=graph_config(spec, "python", BUCKETS, "cpu", tier="exact", about=about),
            files={"model.py": python_model("graph")},
        )
        for spec in _specs(shapes)
    ]
    models += [
        WrittenModel(name=SAMPLER, config=sampler_config(shapes, "cpu", ABSENT), files=sampler_code()),
        WrittenModel(name=COUNTERFACTUAL, config=counterfactual_config(shapes, "cpu", ABSENT), files=counterfactual_code()),
    ]
    return models


def recipe_shapes(recipe: Recipe) -> Shapes:
    """Of a pipeline that a recipe trains."""
    side = recipe.image_size // recipe.shrinking
    context = TensorSpec("context", "float32", (BATCH, recipe.max_tokens, recipe.text_width))
    return Shapes(latent=(recipe.latent_channels, side, side), image=(3, recipe.image_size, recipe.image_size), told=(context,))


def _specs(shapes: Shapes) -> list[EngineSpec]:
    latents, images = (
        TensorSpec(name, "float32", (BATCH, *row)) for name, row in (("latents", shapes.latent), ("images", shapes.image))
    )
    sample, t = TensorSpec("sample", "float32", latents.shape), TensorSpec("t", "float32", (BATCH,))
    decoder = _spec("vae_decoder", (latents,), images)
    return [
        _spec("unet", (sample, t, *shapes.told), TensorSpec("prediction", "float32", latents.shape)),
        decoder,
        _spec("vae_encoder", (images,), latents),
        vjp_spec(decoder, "vae_decoder_vjp"),
    ]


def _spec(name: str, inputs: tuple[TensorSpec, ...], output: TensorSpec) -> EngineSpec:
    return EngineSpec(name=name, inputs=inputs, outputs=(output,), profile=Profile(1, 1, 1), model_hash=ABSENT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the outline, and a classifier's VJP with its weights."""
    parser = argparse.ArgumentParser(prog="python -m engines.serving.outline", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("repository", type=Path)
    parser.add_argument("--classifier", type=Path, required=True, help="ONNX file; its VJP is small and is written complete")
    options = parser.parse_args(arguments)
    shapes = recipe_shapes(Recipe())
    written = [
        *write_models(options.repository, outline(shapes)),
        *export_classifier(options.classifier, options.repository, image=shapes.image),
    ]
    print("\n".join(str(path) for path in written))


if __name__ == "__main__":
    main()
