"""Words of a generator's own tokenizer, in each way that tokenizers are kept."""

import json

import pytest

from engines.errors import PipelineError
from engines.pipelines.vocabulary import whole_words


@pytest.fixture
def kept(tmp_path):
    def keep(name, content):
        (tmp_path / "tokenizer").mkdir(exist_ok=True)
        (tmp_path / "tokenizer" / name).write_text(json.dumps(content))
        return tmp_path

    return keep


def test_byte_pairs_mark_where_words_end(kept):
    """Frequent ones first; no pieces, no words of grammar, nothing of less than three letters or with other signs."""
    tokens = ["<|startoftext|>", "sno", "w</w>", "ruler</w>", "the</w>", "sand</w>", "a1b</w>", "ox</w>", "!!!</w>", "café</w>"]
    numbers = {token: 100 - at for at, token in enumerate(tokens)}
    assert whole_words(kept("vocab.json", numbers)) == ["café", "sand", "ruler"]


def test_other_vocabularies_mark_where_they_begin(kept):
    assert whole_words(kept("tokenizer.json", {"model": {"vocab": {"▁sand": 2, "Ġruler": 1, "dune": 0, "▁with": 3}}})) == [
        "ruler",
        "sand",
    ]


def test_scored_pieces_stand_in_their_order_and_each_word_once(kept):
    """As sentence pieces are listed, with a number that is no place."""
    pieces = [["<pad>", 0.0], ["▁sand", -3.2], ["▁ruler", -5.0], ["Ġsand", -6.0]]
    assert whole_words(kept("tokenizer.json", {"model": {"vocab": pieces}})) == ["sand", "ruler"]


def test_a_vocabulary_of_whole_words_comes_first(kept):
    kept("tokenizer.json", {"model": {"vocab": {"▁dune": 0}}})
    assert whole_words(kept("vocab.json", {"sand</w>": 0})) == ["sand"]


@pytest.mark.parametrize("model", [None, {}, {"vocab": None}, []])
def test_a_tokenizer_without_words_has_none(kept, model):
    assert whole_words(kept("tokenizer.json", {"model": model})) == []


def test_what_holds_no_words_is_named(tmp_path):
    with pytest.raises(PipelineError, match="name some as a file"):
        whole_words(tmp_path)
