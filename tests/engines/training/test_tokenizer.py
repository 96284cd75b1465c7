"""The tokenizer: frequent words whole, unseen ones in pieces, nothing lost."""

import pytest

from engines.training.diffusion import tokenise
from engines.training.tokenizer import build_tokenizer, save_tokenizer
from engines.training.vendor import quiet

CAPTIONS = ["a small red circle on grass", "a large blue square on sand with a ruler"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(CAPTIONS * 5, vocabulary=200, max_tokens=16)


@pytest.mark.parametrize("caption", CAPTIONS)
def test_words_of_the_captions_are_single_tokens(tokenizer, caption):
    """Start, one token a word, end."""
    ids = tokenizer(caption).input_ids
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert len(ids) == len(caption.split()) + 2


@pytest.mark.parametrize("text", [*CAPTIONS, "zebra", "grün", "ærøskøbing 12", "🙂", "red, grass!"])
def test_what_was_encoded_can_be_read_back(tokenizer, text):
    """Unseen words, accents and emoji too: they fall back to bytes, never to 'unknown'."""
    ids = tokenizer(text).input_ids
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_case_and_spaces_do_not_matter(tokenizer):
    """As in CLIP."""
    assert tokenizer("A  Small\nRED circle").input_ids == tokenizer("a small red circle").input_ids


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    """By the loader that reads every pipeline directory."""
    from transformers import AutoTokenizer

    with quiet():
        save_tokenizer(tokenizer, tmp_path)
        again = AutoTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    assert again.model_max_length == 16
    for text in (*CAPTIONS, "a zebra 🙂"):
        assert again(text).input_ids == tokenizer(text).input_ids


def test_equal_captions_give_equal_tokenizers():
    """Ties between pairs are broken the same way every time."""
    one, two = (build_tokenizer(CAPTIONS, vocabulary=100, max_tokens=16) for _ in range(2))
    assert one.get_vocab() == two.get_vocab()


def test_the_table_of_captions_names_each_variant(tokenizer):
    """Fewer variants are repeated, so that each image has as many columns; rows are padded to the full length."""
    tokens, table = tokenise(tokenizer, [[CAPTIONS[0]], [CAPTIONS[1], CAPTIONS[0]]], 16)
    assert tokens.shape == (2, 16)
    assert table.tolist() == [[0, 0], [1, 0]]
    assert tokens[0].tolist() == tokenizer(CAPTIONS[0], padding="max_length", max_length=16).input_ids
