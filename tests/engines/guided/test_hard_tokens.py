"""Words drawn from a word model through a generator in closed form: the best ones are found, and none twice."""

import dataclasses
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from engines.errors import MissingFileError
from engines.guided.gradient_path import picture
from engines.guided.hard_tokens import HardTokenOptions, hard_tokens
from engines.guided.masked_words import LanguageModelWords, TableWords
from engines.guided.vocabulary import Vocabulary
from tests.engines.guided.test_softprompt import GENERATOR, RED, WIDTH

SENTENCE = ("a picture of a", 0)
TABLE = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(3)) * 0.3
NAMES = ("dog", "cat", "house", "tree", "red", "green", *(f"w{chr(97 + at // 6)}{chr(97 + at % 6)}" for at in range(34)))
WORDS = Vocabulary(NAMES, TABLE)
QUICK = HardTokenOptions(steps=40, latents=2, batch=4, checkpointed=False, verify=4)


def run(masked=None, **given):
    asked = {"options": QUICK, "sentence": SENTENCE} | given
    return list(hard_tokens(GENERATOR, WORDS, masked or TableWords(WORDS), RED, **asked))


def ranked():
    """The best words of a single gap, by trying all of them."""
    with torch.no_grad():
        found = [float(RED(picture(GENERATOR, row[None], range(8))).mean()) for row in TABLE]
    return [NAMES[at] for at in np.argsort(found)[::-1]]


def test_runs_find_the_best_words_each_without_those_before():
    found = run(count=2)
    words = [each.words[0] for each in found]
    assert len(set(words)) == 2
    assert set(words) <= set(ranked()[:5])
    assert found[0].text == f"a picture of a {words[0]}"
    assert all(words[0] not in step.words for step in found[1].history)
    assert found[0].verified > found[0].history[0].activation


def test_a_label_is_replaced_by_a_word_whose_own_mean_is_lower_and_by_no_other():
    (found,) = run()
    seen, label = {}, None
    for step in found.history:
        (word,) = step.words
        seen.setdefault(word, []).append(-step.activation)
        better = word != label and (label not in seen or np.mean(seen[word]) < np.mean(seen[label]))
        label = word if better else label
        if label in seen and step.labels[0] in seen:
            assert step.labels[0] == label
    assert found.words == found.history[-1].labels


def test_the_pseudo_labels_make_their_words_likelier():
    runs = [run(options=dataclasses.replace(QUICK, steps=60, mask_weight=weight))[0].history for weight in (1.0, 0.0)]
    with_labels, without = (sum(two.words == one.labels for one, two in pairwise(each[30:])) for each in runs)
    assert with_labels > 1.5 * without


def test_equal_seeds_draw_equal_words_and_excluded_or_odd_ones_are_left_alone():
    few = dataclasses.replace(QUICK, steps=8)
    one, same, other = (run(options=few, seed=seed)[0] for seed in (5, 5, 6))
    assert one.history == same.history
    assert one.history != other.history
    odd = Vocabulary(("d.og", "#cat", *NAMES[2:]), TABLE)
    (found,) = hard_tokens(GENERATOR, odd, TableWords(odd), RED, ("a", 0, "with", 1), options=few, exclude=NAMES[6:])
    assert set(found.words) <= set(NAMES[2:6])
    assert len(set(found.words)) == 2
    with pytest.raises(ValueError, match="1 gaps, and 0 words are left"):
        run(exclude=NAMES)


def test_a_step_that_is_not_finite_teaches_nothing():
    broken = iter([0.0, float("nan"), *[0.0] * 100])
    (found,) = hard_tokens(
        GENERATOR,
        WORDS,
        TableWords(WORDS),
        lambda images: RED(images) + next(broken),
        SENTENCE,
        options=dataclasses.replace(QUICK, steps=4),
    )
    assert [step.skipped for step in found.history] == [False, True, False, False]
    assert found.history[1].labels == found.history[0].labels


def bert(directory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "picture",
        "of",
        "with",
        "##s",
        "dog",
        "cat",
        "house",
        "tree",
        "other",
    ]
    words = Tokenizer(models.WordPiece({word: at for at, word in enumerate(tokens)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **{f"{kind}_token": text for kind, text in special.items()})
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokens), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=24, initializer_range=0.5,
        )
    )  # fmt: skip
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory, safe_serialization=True)
    return tokenizer, model.eval()


def test_a_language_model_fills_gaps_in_the_order_of_their_numbers(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokenizer, model = bert(tmp_path)
    masked, vector = LanguageModelWords.load(tmp_path), torch.randn(1, 16, requires_grad=True)
    assert masked.shape(5) == (1, 16)
    logits = masked(vector, ("a picture of", 1, "with", 0))
    ids = tokenizer("a picture of [MASK] with [MASK]", return_tensors="pt")["input_ids"][0]
    wanted = model(inputs_embeds=torch.cat([vector, model.get_input_embeddings()(ids)])[None]).logits[0]
    first, second = (1 + (ids == tokenizer.mask_token_id).nonzero()[:, 0]).tolist()
    torch.testing.assert_close(logits, wanted[[second, first]])
    assert torch.autograd.grad(logits.sin().sum(), vector)[0].abs().sum() > 0

    options = dataclasses.replace(QUICK, steps=15)
    (found,) = run(masked, sentence=(*SENTENCE, "with", 1), options=options)
    assert set(found.words) <= {"dog", "cat", "house", "tree"}
    assert len(set(found.words)) == 2


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(MissingFileError, match=r"config\.json"):
        LanguageModelWords.load(tmp_path)
