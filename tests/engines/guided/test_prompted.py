"""A pipeline told soft words: of exact words its pictures are the pipeline's, and a gradient reaches every one of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.backends.weights import copied
from engines.errors import UnsupportedPipelineError
from engines.guided.gradient_path import picture, reach
from engines.guided.judge import judge_of
from engines.guided.prompted import prompted
from engines.guided.softprompt import activation_gradient, of_class, soft_prompt
from engines.guided.softprompt_options import SoftPromptOptions
from engines.guided.vocabulary import vocabulary_of
from engines.pipeline import load_pipeline
from engines.pipelines.building import differentiable
from tests.engines.pipelines import miniatures

CAPTION, SEEDS = "a red circle on the large square", [3, 4]
QUICK = SoftPromptOptions(cutouts=0, batch=2, checkpointed=False)


def load(make, directory, **options):
    return load_pipeline(miniatures.save(make, directory), backend="torch", threads=1, **options)


WHOLE, BUT_ONE = tuple(range(7)), (0, 1, 2, 3, 4, "large", 5)


@pytest.mark.parametrize(("make", "sentence", "options"), [
    (miniatures.stable_diffusion, WHOLE, {"steps": 3, "guidance": 3.0}),
    (miniatures.stable_diffusion_2, WHOLE, {"steps": 2, "guidance": 1.0, "sampler": "ddpm"}),
    # this miniature's second encoder sums a caption up where the token with the highest number stands, so that one stays
    (miniatures.stable_diffusion_xl, BUT_ONE, {"steps": 2, "guidance": 2.0}),
    (miniatures.latent_consistency, WHOLE, {"steps": 2}),
])  # fmt: skip
def test_exact_words_draw_the_pipelines_own_pictures(make, sentence, options, tmp_path):
    pipeline = load(make, tmp_path, **options)
    told = prompted(pipeline, sentence)
    exact = torch.stack(
        [told.spelled(word) for word, piece in zip(CAPTION.split(), sentence, strict=True) if isinstance(piece, int)]
    )
    with torch.no_grad():
        found = picture(told.generator, exact, SEEDS)
    np.testing.assert_allclose(found.numpy(), pipeline.generate([CAPTION] * 2, SEEDS), atol=1e-3)
    to = reach("full", told.generator.steps)
    _, gradient = activation_gradient(told.generator, lambda images: images.mean((1, 2, 3)), exact, SEEDS, to, options=QUICK)
    assert (gradient.abs().amax(1) > 0).all()


@pytest.fixture(scope="module")
def pipeline(pipeline_directory):
    return load_pipeline(pipeline_directory, backend="torch", threads=1, steps=4, guidance=1.0)


def test_a_whole_caption_is_soft_but_for_what_is_no_single_word(pipeline):
    told, exact = prompted(pipeline, (0,)).caption("a red, circle")
    assert told.sentence == (0, "red,", 1)
    assert torch.equal(exact, torch.stack([told.spelled("a"), told.spelled("circle")]))
    with pytest.raises(ValueError, match="no word that is one token"):
        told.caption("red, blue,")


def test_some_words_of_a_sentence_are_soft(pipeline):
    told = prompted(pipeline, ("a photo of", 1, "on the", 0))
    assert (told.slots, told.width) == (2, 32)
    rows = torch.stack([told.spelled("square"), told.spelled("red")])
    assert told.text(("square", "red")) == "a photo of red on the square"
    assert torch.equal(
        told.generator.encode(rows).tensors["context"], pipeline.told(["a photo of red on the square"]).tensors["context"]
    )


def test_a_fitted_solver_cut_short_ends_at_its_clean_estimate(pipeline):
    from engines.fitted import FittedSolver

    solver = FittedSolver((0, 1, 3, 4), ((0.4, 0.6), (0.3, 0.8, -0.1), (0.1, 1.2, -0.3)))
    told, exact = prompted(pipeline, (0,), plan=replace(pipeline.plan, solver=solver)).caption(CAPTION)
    estimates = []

    def watched(x, sigma, conditioning):
        estimates.append(told.generator.denoise(x, sigma, conditioning))
        return estimates[-1]

    with torch.no_grad():
        seen = replace(told.generator, denoise=watched, decode=lambda latents: latents)
        found = picture(seen, exact, SEEDS, reach("shortcut", 4, iteration=0))
    assert len(estimates) == 2
    torch.testing.assert_close(found, (estimates[-1] / 2 + 0.5).clamp(0, 1))


def test_words_are_whole_and_one_token_of_every_encoder(pipeline):
    words = vocabulary_of(pipeline.wording)
    assert words.words == tuple(word for word in miniatures.WORDS if len(word) > 1)
    assert torch.equal(words.table[words.places["red"]], prompted(pipeline, (0,)).spelled("red"))
    fewer = words.without(["Red"])
    assert set(words.words) - set(fewer.words) == {"red"}
    assert torch.equal(fewer.table[fewer.places["square"]], words.table[words.places["square"]])


def test_what_does_not_fit_is_said(pipeline, tmp_path):
    with pytest.raises(ValueError, match=r"numbered from 0 on, got \[1\]"):
        prompted(pipeline, ("a", 1))
    told = prompted(pipeline, ("a", 0))
    with pytest.raises(ValueError, match="1 places for words, got 2"):
        told.text(("red", "blue"))
    with pytest.raises(UnsupportedPipelineError, match="ddpm pipeline takes none; use a text-to-image directory"):
        prompted(load(miniatures.ddpm, tmp_path), (0,))


def test_a_network_in_half_precision_gives_prompts_of_single_precision_nearly_the_same_gradient(pipeline_directory, monkeypatch):
    """As on a GPU: the network computes in bf16, prompt, optimiser and text encoder in float32."""
    modules = []
    monkeypatch.setattr(
        "engines.pipeline.differentiable", lambda module, *where: modules.append(module) or differentiable(module, *where)
    )
    exact = load_pipeline(pipeline_directory, backend="torch", threads=1, steps=3, guidance=1.0)
    half = copied(modules[0], "bf16", torch.device("cpu"))
    mixed = replace(exact, differentiable=differentiable(half, torch.device("cpu"), "bf16"))
    gradients = []
    for pipeline in (exact, mixed):
        told, prompt = prompted(pipeline, (0,)).caption(CAPTION)
        to = reach("full", told.generator.steps)
        _, gradient = activation_gradient(
            told.generator, lambda images: 10 * images[:, 0].mean((1, 2)), prompt, SEEDS, to, options=QUICK
        )
        gradients.append(gradient)
    assert all(each.dtype == torch.float32 for each in gradients)
    assert not torch.equal(*gradients)
    assert float(torch.cosine_similarity(*(each.flatten() for each in gradients), 0)) > 0.98


def test_soft_words_on_the_miniature_of_scenes_raise_what_a_planted_classifier_says():
    """It goes by light alone; the caption asks for a bright scene."""
    from audit_plugin.demo.truth import ASSETS

    scenes = load_pipeline(ASSETS / "generator", backend="torch", threads=1, solver=4)
    told, exact = prompted(scenes, (0,)).caption("a small blue circle on grass in bright light")
    objective = of_class(judge_of(ASSETS / "planted" / "lighting_alone.onnx", "probabilities", 64), 1)
    options = replace(QUICK, soft_tokens=told.slots, lr=0.05, steps=3, restarts=1, every=3, latents=1, held_out=2, verify=2)
    table = told.vocabulary.table
    found = soft_prompt(told.generator, objective, told.width, start=exact, table=table, options=options)
    assert found.scores[0].score < math.log(0.1)
    assert found.verified > math.log(0.5)
