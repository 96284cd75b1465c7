"""Whole words that a generator's tokenizer holds as one token: what it saw often enough to give them a number of their own."""

from pathlib import Path

from engines.errors import PipelineError
from engines.pipelines.files import read_json

LEAST_LETTERS = 3
_WORD_END = "</w>"
"""Byte-pair vocabularies of CLIP mark the end of a word so."""
_WORD_START = ("▁", "Ġ")
"""Others mark its beginning."""
_SMALL = frozenset(
    [
        "the",
        "and",
        "for",
        "with",
        "from",
        "that",
        "this",
        "was",
        "are",
        "were",
        "has",
        "had",
        "have",
        "its",
        "his",
        "her",
        "their",
        "our",
        "your",
        "you",
        "she",
        "they",
        "them",
        "who",
        "what",
        "when",
        "where",
        "why",
        "how",
        "but",
        "not",
        "than",
        "then",
        "out",
        "off",
        "into",
        "onto",
        "over",
        "under",
        "about",
        "after",
        "before",
        "while",
        "there",
        "here",
        "also",
        "just",
        "very",
        "too",
        "via",
        "per",
    ]
)


def whole_words(directory: Path) -> list[str]:
    """In the vocabulary's order, which for byte pairs goes from frequent to rare; without words of grammar.  Raises PipelineError."""
    folder = directory / "tokenizer"
    if (folder / "vocab.json").is_file():
        numbers = {
            token: int(str(number)) for token, number in read_json(folder / "vocab.json", "the words of the tokenizer").items()
        }
    elif (folder / "tokenizer.json").is_file():
        model = read_json(folder / "tokenizer.json", "the words of the tokenizer").get("model")
        listed = model.get("vocab") if isinstance(model, dict) else None
        pairs = listed.items() if isinstance(listed, dict) else ((piece[0], at) for at, piece in enumerate(listed or []))
        numbers = {str(token): int(number) for token, number in pairs}
    else:
        raise PipelineError(
            f"{folder} holds no vocab.json and no tokenizer.json: this generator's words are not known; name some as a file"
        )
    words = (_whole(token) for token, _ in sorted(numbers.items(), key=lambda item: item[1]))
    return list(dict.fromkeys(word for word in words if len(word) >= LEAST_LETTERS and word.isalpha() and word not in _SMALL))


def _whole(token: str) -> str:
    """The word that a token is; empty where it is a piece of one."""
    if token.endswith(_WORD_END):
        return token.removesuffix(_WORD_END)
    return next((token.removeprefix(mark) for mark in _WORD_START if token.startswith(mark)), "")
