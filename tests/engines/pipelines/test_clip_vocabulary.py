"""CLIP's real vocabulary, laid out as the hub's directories are, read by the tokenizers of each family."""

import gzip
import json
import os
from pathlib import Path

import pytest

from engines.errors import CaptionTooLongError
from engines.pipelines.loading import load_tokenizer
from engines.text import Captions, Reader

DATA = Path(os.environ.get("AUDIT_PLUGIN_DATA") or Path(__file__).parents[4] / "shared" / "data")
VOCABULARY = DATA / "clip-vocab" / "bpe_simple_vocab_16e6.txt.gz"
START, END = 49406, 49407
MERGES = 48_894

pytestmark = pytest.mark.skipif(not VOCABULARY.is_file(), reason="the folder clip-vocab of the shared data is not here")


def letters():
    """CLIP's characters for the 256 bytes: those that print first, as themselves, the others after 255."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]


@pytest.fixture(scope="module")
def tokenizer_of(tmp_path_factory):
    """A tokenizer whose padding is told by special_tokens_map.json; tokenizer_config.json says CLIP's own, as Stable Diffusion 2 has it."""
    merges = gzip.decompress(VOCABULARY.read_bytes()).decode().split("\n")[1 : MERGES + 1]
    words = [*letters(), *(f"{letter}</w>" for letter in letters()), *("".join(merge.split()) for merge in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}

    def get(pad):
        folder = tmp_path_factory.mktemp("tokenizer")
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": pad}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
        (folder / "special_tokens_map.json").write_text(json.dumps(special))
        settings = {**special, "pad_token": "<|endoftext|>", "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        return load_tokenizer(folder)

    return get


@pytest.mark.parametrize(("pad", "filled"), [("<|endoftext|>", END), ("!", 0)], ids=["1.x and XL's first", "2.x and XL's second"])
def test_captions_start_end_and_are_filled_as_their_family_does(tokenizer_of, pad, filled):
    """The ids of "a photo of a cat" are the well-known ones; the end comes once, and the rest is padding."""
    tokenizer = tokenizer_of(pad)
    assert len(tokenizer) == 49_408
    ids = Reader(tokenizer, 77).tokens("A photo  of a cat")[0].tolist()
    assert ids == [START, 320, 1125, 539, 320, 2368, END, *[filled] * 70]


def test_letters_of_all_scripts_have_tokens(tokenizer_of):
    """Byte pairs know no unknown word."""
    reader = Reader(tokenizer_of("!"), 77)
    for caption in ("", "ein schönes Blümchen", "Ωmega 東京", "x" * 30):
        ids = reader.tokens(caption)[0].tolist()
        assert (ids[0], ids.count(START), ids.count(END)) == (START, 1, 1)
        assert reader.count(caption) == ids.index(END) + 1


def test_a_caption_of_more_than_77_tokens_is_refused(tokenizer_of):
    """75 words fit between start and end."""
    captions = Captions([Reader(tokenizer_of("!"), 77)], encode_tokens=lambda _: pytest.fail("encoded"))
    captions.check(["cat " * 75])
    with pytest.raises(CaptionTooLongError, match="78 tokens, the text encoder reads 77"):
        captions.check(["cat " * 76])
