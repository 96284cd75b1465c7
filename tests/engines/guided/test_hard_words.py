"""Soft tokens as words, found by direction; and searches that draw nothing but words."""

import dataclasses

import pytest
import torch

from engines.guided.gradient_path import picture
from engines.guided.hard_words import hard_prompt, nearest
from engines.guided.prompt_terms import PromptWeights
from engines.guided.prompted import prompted
from engines.guided.softprompt import soft_prompt
from engines.guided.vocabulary import Vocabulary
from engines.pipeline import load_pipeline
from tests.engines.guided.test_softprompt import GENERATOR, QUICK, RED, WIDTH

TABLE = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(3)) * 0.3
WORDS = Vocabulary(tuple(f"w{at}" for at in range(40)), TABLE)


def test_the_nearest_word_is_the_one_in_the_same_direction_whatever_its_length():
    found = nearest(torch.stack([3 * TABLE[7], 0.1 * TABLE[2] + 0.01 * TABLE[5]]), WORDS, 3)
    assert [each[0].word for each in found] == ["w7", "w2"]
    assert found[0][0].cosine == pytest.approx(1, abs=1e-6)
    assert found[0][0].distance == pytest.approx(0, abs=1e-3)
    assert found[1][0].cosine >= found[1][1].cosine >= found[1][2].cosine
    unit = TABLE / TABLE.norm(dim=1, keepdim=True)
    apart = float((unit[7] - unit[int(found[0][1].word[1:])]).norm())
    assert found[0][1].distance == pytest.approx(apart, rel=1e-4)


def test_a_soft_prompt_becomes_a_text_that_is_read_as_its_words(pipeline_directory):
    pipeline = load_pipeline(pipeline_directory, backend="torch", threads=1)
    told = prompted(pipeline, ("a", 0, "circle on", 1))
    soft = torch.stack([told.spelled("red"), told.spelled("square")]) * 1.3 + 0.001
    found = hard_prompt(told, soft, near=2)
    assert (found.text, found.words) == ("a red circle on square", ("red", "square"))
    torch.testing.assert_close(
        told.generator.encode(found.embeddings).tensors["context"], pipeline.told([found.text]).tensors["context"]
    )
    assert hard_prompt(told, soft, vocabulary=told.vocabulary.without(["red"])).words[0] != "red"


def test_a_hard_search_draws_words_only_and_finds_better_ones():
    options = dataclasses.replace(QUICK, steps=25, soft_tokens=2, hard=True, weights=PromptWeights(nearest=0, diverse=0))
    found = soft_prompt(GENERATOR, RED, WIDTH, start=TABLE[[0, 1]], table=TABLE, options=options)
    assert all((row == TABLE).all(1).any() for one in found.scores for row in one.embeddings)
    assert found.held_out > found.scores[0].score + 0.5
    pairs = torch.randint(40, (100, 2), generator=torch.Generator().manual_seed(4))
    drawn = sorted(float(RED(picture(GENERATOR, TABLE[pair], range(4))).mean()) for pair in pairs)
    assert found.verified > drawn[95]
    with pytest.raises(ValueError, match="nearest words of a table"):
        soft_prompt(GENERATOR, RED, WIDTH, options=options)
