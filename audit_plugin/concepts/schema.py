"""The concept set: which visible attributes an audit asks about, in which order, and how a caption names them.

A set that cannot be audited is refused when it is built: a concept that the template leaves out, or two levels that read the same,
would be flipped in the table and never in the picture.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from audit_plugin.core.errors import CaptionError, ConfigError
from audit_plugin.core.seeds import digest, seed
from audit_plugin.core.values import Concept

REST, PLACEBO = "rest", "placebo"
"""Names that a template may use besides the concepts' own."""


def closest(word: str, known: Iterable[str]) -> str:
    """What the user may have meant, as the end of a message.

    >>> closest("colr", ["size", "colour"])
    "; did you mean 'colour'?"
    >>> closest("x", ["size", "colour"])
    '; known: colour, size'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"


def placeholders(template: str) -> tuple[str, ...]:
    """Names in braces, in order.  Raises CaptionError for anything fancier than ``{name}``."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise CaptionError(f"caption template {template!r}: {error}; write {{name}} for a concept, {{{{ for a brace") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name or spec or conversion):
            raise CaptionError(f"caption template {template!r}: only plain {{name}} is understood, without format or conversion")
    return tuple(name for _, name, _, _ in parts if name is not None)


@dataclass(frozen=True, kw_only=True)
class ConceptSet:
    """Concepts in their fixed order, and the one way to write them as text."""

    concepts: tuple[Concept, ...]
    template: str | None = None
    """Caption with a ``{name}`` per concept; without one, phrases are joined by commas in the order of the concepts."""
    placebo_words: tuple[str, ...] = ("indeed", "overall", "today")
    """Words that mean nothing to the task; the generator's text encoder should know them."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Concepts that are also flipped together."""

    def __post_init__(self) -> None:
        _check_names(self)
        for concept in self.concepts:
            _check_phrases(concept)
        if self.template is not None:
            _check_template(self.template, self.names)
        _check_placebo(self)
        _check_groups(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Concept names in order."""
        return tuple(concept.name for concept in self.concepts)

    @property
    def digest(self) -> str:
        """Identity of the set: changes whenever a caption, a level or a role does."""
        parts = [
            f"{c.name}\x1e{c.role}\x1e" + "\x1d".join(f"{lv}\x1c{p}" for lv, p in zip(c.levels, c.phrases, strict=True))
            for c in self.concepts
        ]
        groups = "\x1e".join("\x1d".join(group) for group in self.groups)
        return digest("concept set", *parts, self.template_digest, "\x1e".join(self.placebo_words), groups)

    @property
    def template_digest(self) -> str:
        """Identity of the caption template alone."""
        return digest("template", "comma-separated" if self.template is None else f"={self.template}")

    def index(self, name: str) -> int:
        """Position of the concept.  Raises ConfigError naming the closest one."""
        if name not in self.names:
            raise ConfigError(f"unknown concept {name!r}{closest(name, self.names)}")
        return self.names.index(name)

    def concept(self, name: str) -> Concept:
        """The concept called ``name``."""
        return self.concepts[self.index(name)]

    def level(self, name: str, level: str) -> int:
        """Index of a level of a concept.  Raises ConfigError naming the closest one."""
        levels = self.concept(name).levels
        if level not in levels:
            raise ConfigError(f"concept {name!r} has no level {level!r}{closest(level, levels)}")
        return levels.index(level)

    def values(self, levels: Mapping[str, str]) -> tuple[int, ...]:
        """Concept name -> level name, as level indices in the set's order; every concept must be there."""
        for name in levels:
            self.index(name)
        missing = [name for name in self.names if name not in levels]
        if missing:
            raise ConfigError(f"no level given for concept {missing[0]!r}; name a level for each of: {', '.join(self.names)}")
        return tuple(self.level(name, levels[name]) for name in self.names)

    def levels(self, values: Sequence[int]) -> dict[str, str]:
        """Level indices as concept name -> level name."""
        self.check(values)
        return {concept.name: concept.levels[value] for concept, value in zip(self.concepts, values, strict=True)}

    def check(self, values: Sequence[int]) -> None:
        """Raise ValueError unless there is one level index in range per concept."""
        if len(values) != len(self.concepts):
            raise ValueError(f"need {len(self.concepts)} concept values ({', '.join(self.names)}), got {len(values)}")
        for concept, value in zip(self.concepts, values, strict=True):
            if not 0 <= value < len(concept.levels):
                raise ValueError(f"concept {concept.name!r} has levels 0..{len(concept.levels) - 1}, got {value}")

    def placebo_word(self, row: str) -> str:
        """The placebo word of a row: chosen by hash, so it depends on nothing but the row."""
        return self.placebo_words[seed("placebo word", row) % len(self.placebo_words)]


def _check_names(concept_set: ConceptSet) -> None:
    names = concept_set.names
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"concept {name!r} is listed twice; give each concept a name of its own")
        if not name.strip() or re.search(r"[+{}\[\]!:.\x00-\x1f]", name) or name in {REST, PLACEBO}:
            raise ConfigError(f"{name!r} cannot name a concept; use words without + {{ }} [ ] ! : . and not 'rest' or 'placebo'")


def _check_phrases(concept: Concept) -> None:
    seen: dict[str, str] = {}
    for level, phrase in zip(concept.levels, concept.phrases, strict=True):
        text = " ".join(phrase.split()).casefold()
        if text in seen:
            raise CaptionError(
                f"concept {concept.name!r}: levels {seen[text]!r} and {level!r} read the same in the caption ({phrase!r}), "
                "so changing one into the other would change nothing; give each level a phrase of its own"
            )
        seen[text] = level


def _check_template(template: str, names: Sequence[str]) -> None:
    used = placeholders(template)
    for name in used:
        if name not in {*names, REST, PLACEBO}:
            raise CaptionError(f"caption template has {{{name}}}, which is no concept{closest(name, [*names, REST, PLACEBO])}")
    for name in names:
        if name not in used:
            raise CaptionError(
                f"concept {name!r} never reaches the caption; put {{{name}}} into the template {template!r} or drop the concept"
            )


def _check_placebo(concept_set: ConceptSet) -> None:
    if not concept_set.placebo_words or not all(word.strip() for word in concept_set.placebo_words):
        raise ConfigError("placebo_words needs at least one word, and none may be empty")
    spoken = {word for c in concept_set.concepts for phrase in c.phrases for word in re.findall(r"\w+", phrase.casefold())}
    for placebo in concept_set.placebo_words:
        shared = spoken.intersection(re.findall(r"\w+", placebo.casefold()))
        if shared:
            raise CaptionError(
                f"placebo word {placebo!r} is also used by a concept ({min(shared)!r}); choose a word without meaning to the task"
            )


def _check_groups(concept_set: ConceptSet) -> None:
    for group in concept_set.groups:
        for name in group:
            concept_set.index(name)
        if len(set(group)) < 2 or len(set(group)) != len(group):
            raise ConfigError(f"group {'+'.join(group)!r} needs at least two different concepts")
