"""The only place where concept values become text, for both arms of every comparison (after DEPICT's caption template t(c, r))."""

import re
from collections.abc import Sequence
from string import Formatter

from audit_plugin.concepts.schema import PLACEBO, REST, ConceptSet, placeholders


def caption(concept_set: ConceptSet, values: Sequence[int], rest: str = "", placebo: str = "") -> str:
    """The caption of an image that shows ``values``; equal arguments give byte-identical text.

    A template's ``{name}`` is replaced by the level's phrase as it is; without a template the non-empty phrases are joined by
    commas.  ``rest`` and then the ``placebo`` word follow after a comma, unless the template says where ``{rest}`` or ``{placebo}``
    go.  White space is tidied last.  The result may be empty.

    >>> from audit_plugin.core.values import Concept
    >>> ruler = Concept(name="ruler", levels=("no", "yes"), phrases=("", ", with a ruler"))
    >>> mole = ConceptSet(concepts=(ruler,), template="a mole{ruler}")
    >>> caption(mole, [1], placebo="indeed")
    'a mole, with a ruler, indeed'
    """
    concept_set.check(values)
    said = {c.name: c.phrases[value] for c, value in zip(concept_set.concepts, values, strict=True)}
    if concept_set.template is None:
        return tidy(", ".join(part for part in (*said.values(), rest, placebo) if part.strip()))
    tail = {REST: rest, PLACEBO: placebo}
    used = placeholders(concept_set.template)
    body = _fill(concept_set.template, said | tail)
    return tidy(", ".join(part for part in (body, *(text for name, text in tail.items() if name not in used)) if part.strip()))


def tidy(text: str) -> str:
    """One space between words, none before a comma, no doubled, leading or trailing comma.

    >>> tidy(" a  dog , , on grass,")
    'a dog, on grass'
    """
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?: ?,)+ ?", ", ", text)
    return text.strip(" ,")


def _fill(template: str, said: dict[str, str]) -> str:
    parts = Formatter().parse(template)
    return "".join(text + (said[name] if name is not None else "") for text, name, _, _ in parts)
