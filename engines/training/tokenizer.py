"""A small byte-level byte-pair tokenizer of CLIP's form, learned from the captions themselves."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Iterable[str], *, vocabulary: int, max_tokens: int) -> Any:
    """A ``transformers.CLIPTokenizer`` whose frequent words are single tokens; unseen words fall back to bytes."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    model = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    model.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # A word may end in any byte, also one that no training caption ends in.  Listed here, before training, the last letters have
    # fixed numbers; the trainer would number those it meets in the order of a hash table, and break ties between pairs by number.
    last = [letter + "</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary + 2 * len(letters) + 2,
        special_tokens=[START, END, *last],
        initial_alphabet=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    model.train_from_iterator(captions, trainer)
    vocab, merges = _tables(model)
    factory: Any = CLIPTokenizer
    return factory(vocab=vocab, merges=merges, model_max_length=max_tokens, pad_token=END, unk_token=END)


def _tables(model: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    state = json.loads(model.to_str())["model"]
    return dict(state["vocab"]), [(pair[0], pair[1]) for pair in state["merges"]]


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Write the tokenizer as ``directory/tokenizer`` of a pipeline."""
    tokenizer.save_pretrained(directory / "tokenizer")
