"""Who proposes words for the gaps of a sentence, steered by one learned vector: a masked language model, or plain likeness to words.

DEXTER (2025) puts one vector in front of a masked language model's sentence and learns it: the model keeps proposals to words that fit the gap.
Where no language model is at hand, :class:`TableWords` scores words by their direction alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engines.errors import MissingFileError, UnsupportedPipelineError
from engines.guided.vocabulary import Vocabulary
from engines.pipelines.wording import Sentence

Vector = Float[Tensor, "r d"]
Logits = Float[Tensor, "slots v"]


class MaskedWords(Protocol):
    """A vector and a sentence with gaps to logits over words, one row a gap in the order of their numbers; differentiable in the vector."""

    @property
    def words(self) -> Sequence[str]:
        """What the columns of the logits stand for."""
        ...

    def shape(self, slots: int) -> tuple[int, int]:
        """Of the vector, for so many gaps."""
        ...

    def __call__(self, vector: Vector, sentence: Sentence, /) -> Logits:
        """Logits over the words."""
        ...


@dataclass(frozen=True, eq=False)
class TableWords:
    """A vector for each gap; a word's logit is the product of the two, the word at unit length."""

    vocabulary: Vocabulary

    @property
    def words(self) -> Sequence[str]:
        """Those of the text encoder."""
        return self.vocabulary.words

    def shape(self, slots: int) -> tuple[int, int]:
        """One row a gap."""
        return slots, self.vocabulary.table.shape[1]

    def __call__(self, vector: Vector, sentence: Sentence, /) -> Logits:
        """The sentence is not read."""
        return vector @ self._units.T

    @cached_property
    def _units(self) -> Float[Tensor, "v d"]:
        return functional.normalize(self.vocabulary.table, dim=1)


@dataclass(frozen=True, eq=False)
class LanguageModelWords:
    """A masked language model of transformers (such as BERT), with one vector in front of the sentence."""

    tokenizer: Any
    model: Any

    @classmethod
    def load(cls, directory: Path) -> "LanguageModelWords":
        """From a directory with ``config.json``, a tokenizer and safetensors; nothing is downloaded, no pickle is opened.

        Raises MissingFileError, or UnsupportedPipelineError for a model or a tokenizer without masks.
        """
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        if not (directory / "config.json").is_file():
            raise MissingFileError(str(directory / "config.json"), "it says what the masked language model is")
        if not any(directory.glob("*.safetensors")):
            raise MissingFileError(str(directory / "model.safetensors"), "it holds the masked language model's weights")
        try:
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            model = AutoModelForMaskedLM.from_pretrained(directory, local_files_only=True, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise UnsupportedPipelineError(
                f"{directory} cannot be read as a masked language model ({error}); use one of the BERT class"
            ) from error
        if tokenizer.mask_token_id is None:
            raise UnsupportedPipelineError(f"the tokenizer in {directory} has no mask token; use a model of the BERT class")
        return cls(tokenizer, model.float().eval().requires_grad_(requires_grad=False))

    @cached_property
    def words(self) -> Sequence[str]:
        """Tokens as they are written, pieces of words with their marks."""
        found: list[str] = self.tokenizer.convert_ids_to_tokens(list(range(self.model.config.vocab_size)))
        return [word or "" for word in found]

    def shape(self, _slots: int) -> tuple[int, int]:
        """One row, whatever the sentence."""
        return 1, self._table.embedding_dim

    def __call__(self, vector: Vector, sentence: Sentence, /) -> Logits:
        """The sentence with a mask in every gap."""
        ids, gaps = [self.tokenizer.cls_token_id], dict[int, int]()
        for piece in sentence:
            if isinstance(piece, int):
                gaps[piece] = len(ids)
                ids.append(self.tokenizer.mask_token_id)
            else:
                ids += self.tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        ids.append(self.tokenizer.sep_token_id)
        embedded = torch.cat([vector, self._table(torch.tensor(ids))])[None]
        logits: Tensor = self.model(inputs_embeds=embedded).logits[0]
        return logits[[len(vector) + gaps[slot] for slot in sorted(gaps)]]

    @property
    def _table(self) -> Any:
        return self.model.get_input_embeddings()
