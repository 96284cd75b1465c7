"""Hard tokens for a discovery (specification 6.6, after DEXTER): whole words from the first step on, steered by the gradient of the model's file.

As all of gradient mode this proposes; what is told of a word is measured on the server.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audit_plugin.concepts.phrasing import CaptionForms, Phrasing
from audit_plugin.methods.diffexplainer.options import GradientSearch
from engines.guided.hard_tokens import HardTokenOptions, HardTokens, hard_tokens
from engines.guided.masked_words import LanguageModelWords, MaskedWords, TableWords
from engines.guided.prompted import Prompted, prompted
from engines.guided.softprompt import Objective
from engines.pipelines.wording import Sentence

SHOWN = 8
"""Steps between two words about progress."""


def hard_prompts(
    pipeline: Any,
    objective: Objective,
    phrasing: Phrasing,
    context: str,
    options: GradientSearch,
    *,
    exclude: Sequence[str] = (),
    seed: int,
    count: Callable[[int], None],
    progress: Callable[[int, int], None],
) -> list[HardTokens]:
    """``options.hard_tokens`` runs, each with other words than those before; fewer where words run out.

    ``exclude`` are words that may not be said, such as the class's own name; ``count`` is told network rows, ``progress`` steps done and to do.
    """
    sentence = with_gaps(phrasing, context)
    if not any(isinstance(piece, int) for piece in sentence):
        return []
    told = prompted(pipeline, sentence)
    steps, done = options.hard_steps * options.hard_tokens, 0

    def tell(_step: object) -> bool:
        nonlocal done
        done += 1
        if done % SHOWN == 0 or done == steps:
            progress(done, steps)
        return True

    masked = _masked(told, phrasing, options.language_model)
    gaps = sum(isinstance(piece, int) for piece in sentence)
    left = {word.lower() for word in masked.words if word in told.vocabulary.places} - {word.lower() for word in exclude}
    runs = hard_tokens(
        told.generator,
        told.vocabulary,
        masked,
        objective,
        sentence,
        count=min(options.hard_tokens, len(left) // gaps),
        exclude=exclude,
        seed=seed,
        options=HardTokenOptions(steps=options.hard_steps, path=options.path, keep=options.keep),
        go_on=tell,
        on_rows=count,
    )
    return list(runs)


def with_gaps(phrasing: Phrasing, context: str) -> Sentence:
    """The context with gaps where one word may stand for another; behind it where the generator takes any sentence.

    >>> from audit_plugin.concepts.phrasing import CaptionForms, Sentences
    >>> with_gaps(Sentences(), "a photo")
    ('a photo of a', 0)
    >>> with_gaps(CaptionForms(("a red circle",), (frozenset({"red", "blue"}),)), "a red circle")
    ('a', 0, 'circle')
    """
    if not isinstance(phrasing, CaptionForms):
        said = phrasing.add(context, ["thing"]) or f"{context} thing"
        return (f"{said.removesuffix(' thing')} a", 0)
    pieces, gaps = list[str | int](), 0
    for word in context.split():
        if phrasing.others(word):
            pieces, gaps = [*pieces, gaps], gaps + 1
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
    return tuple(pieces)


def _masked(told: Prompted, phrasing: Phrasing, language_model: str) -> MaskedWords:
    """Who proposes words: a language model where there is one, else the text encoder's own words, of which a small generator knows those of its captions."""
    if language_model:
        return LanguageModelWords.load(Path(language_model))
    if not isinstance(phrasing, CaptionForms):
        return TableWords(told.vocabulary)
    return TableWords(told.vocabulary.only(sorted({word for phrase in phrasing.phrases for word in phrase.split()})))
