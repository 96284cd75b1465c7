"""How words enter a prompt, and how they leave it: one prompt without a word and one with it, alike in all else.

A large generator takes "a photo of a dog" and "a photo of a dog with a leash".  One that was trained on captions of one form understands words
where such captions have them and nowhere else.  There the captions themselves say how: two that differ in one place show what may stand in
for what ("on sand", "on grass"), and what may be left out (" with a ruler").  A word that takes no such place is put behind the caption.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from audit_plugin.concepts.captions import tidy
from audit_plugin.core.seeds import digest

LONGEST = 4
"""Words of a phrase that is told apart from its neighbours."""
LEAST_PAIRS = 2
"""Pairs of captions that must show a change before it is believed."""
ENOUGH = 600
"""Captions that are compared with each other; more show no more."""
_LEADS = {"with", "without", "on", "in", "at", "of", "and", "beside", "near", "by", "under", "over", "behind", "from", "wearing"}
"""A phrase that begins so says itself how it belongs to what stands before it."""

Words = tuple[str, ...]


class Phrasing(Protocol):
    """Prompts, with a word and without it."""

    @property
    def contexts(self) -> tuple[str, ...]:
        """Prompts that words are put into; at least one."""
        ...

    @property
    def phrases(self) -> tuple[str, ...]:
        """Phrases that are known to have a place of their own; may be none."""
        ...

    def said(self, prompt: str, word: str) -> bool:
        """Whether the prompt says it already."""
        ...

    def add(self, prompt: str, words: Sequence[str]) -> str | None:
        """The prompt with these words; None where they cannot all be said at once."""
        ...

    def remove(self, prompt: str, word: str) -> str:
        """The prompt without the word; what has no such word stays as it is."""
        ...


@dataclass(frozen=True)
class Sentences:
    """Words behind a prompt: "a photo of a dog with sand and water", or "a photo of sand" where nothing else is said.

    >>> Sentences(("a photo of a dog",)).add("a photo of a dog", ["sand", "water"])
    'a photo of a dog with sand and water'
    >>> Sentences(("a photo",)).add("a photo", ["sand"])
    'a photo of sand'
    """

    contexts: tuple[str, ...] = ("a photo",)
    phrases: tuple[str, ...] = ()

    def said(self, prompt: str, word: str) -> bool:
        """Whether it stands there as whole words."""
        return _find(_split(prompt), _split(word)) is not None

    def add(self, prompt: str, words: Sequence[str]) -> str | None:
        """Joined by "of" where the prompt is about nothing yet, else by "with"; phrases that need neither come last."""
        new = [word for word in words if not self.said(prompt, word)]
        things, phrases = [word for word in new if not _led(_split(word))], [word for word in new if _led(_split(word))]
        about = "with" if re.search(r"\b(of|with)\b", prompt) else "of"
        return " ".join([prompt, *([about, " and ".join(things)] if things else []), *phrases])

    def remove(self, prompt: str, word: str) -> str:
        """Its own words cannot be taken out of a sentence: contexts do not have them."""
        return prompt


@dataclass(frozen=True)
class CaptionForms:
    """What captions of one form have in common: which phrases stand in for each other, and which may be left out."""

    contexts: tuple[str, ...]
    exchanged: tuple[frozenset[str], ...] = ()
    """Phrases of which a caption says one."""
    optional: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    """Phrase -> the words before and after it, with their commas (empty at an end), and how often it stood there."""

    @classmethod
    def learned(cls, captions: Sequence[str]) -> "CaptionForms":
        """From captions: pairs that differ in one place only.  Captions without such pairs teach no place."""
        distinct = list(dict.fromkeys(_joined(_split(one)) for one in captions if _split(one)))
        rows = [_split(one) for one in sorted(distinct, key=lambda one: digest("caption", one))[:ENOUGH]]
        changes = _changes(rows)
        left_out = [phrase for phrase in dict.fromkeys(map(_bare, _left_out(changes))) if phrase]
        pairs = [(a, b) for a, b in changes if a and b and not {a, b} & set(left_out) and _bare(a) == a and _bare(b) == b]
        exchanged = _classes(_alone(pairs), left_out)
        places: dict[str, dict[tuple[str, str], int]] = {
            _joined(phrase): dict(Counter(_sides(row[:at], row[at + len(phrase) :]) for row in rows for at in _places(row, phrase)))
            for phrase in left_out
        }
        return cls(tuple(distinct), tuple(frozenset(_joined(one) for one in some) for some in exchanged), places)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All that have a place, in alphabetical order."""
        return tuple(sorted({*(phrase for some in self.exchanged for phrase in some), *self.optional}))

    def said(self, prompt: str, word: str) -> bool:
        """Whether it stands there as whole words."""
        return _find(_split(prompt), _split(word)) is not None

    def add(self, prompt: str, words: Sequence[str]) -> str | None:
        """Every word in its place; None where two of them would take the same one, or the place is not there."""
        taken = [some for word in words if (some := self._class(word)) is not None]
        if len(set(taken)) < len(taken):
            return None
        for word in words:
            said = self._with(_split(prompt), word)
            if said is None:
                return None
            prompt = _joined(said)
        return prompt

    def remove(self, prompt: str, word: str) -> str:
        """Something else in its place, by hash of the prompt; or nothing."""
        tokens, phrase = _split(prompt), _split(word)
        at = _find(tokens, phrase)
        if at is None:
            return prompt
        instead: Words = ()
        before, after = tokens[:at], tokens[at + len(phrase) :]
        if (some := self._class(word)) is not None:
            others = sorted(some - {_joined(phrase)})
            instead = _split(others[int(digest("instead", prompt, word)[:8], 16) % len(others)])
        elif _joined(phrase) not in self.optional and before[-1:] == ("with",) and (not after or _led(after)):
            before = before[:-1]  # it was put behind the caption
        return _joined((*before, *instead, *after))

    def others(self, word: str) -> tuple[str, ...]:
        """What may stand in its place."""
        some = self._class(word)
        return () if some is None else tuple(sorted(some - {_joined(_split(word))}))

    def _class(self, word: str) -> frozenset[str] | None:
        own = _joined(_split(word))
        return next((some for some in self.exchanged if own in some), None)

    def _with(self, tokens: Words, word: str) -> Words | None:
        phrase = _split(word)
        if _find(tokens, phrase) is not None:
            return tokens
        if (some := self._class(word)) is not None:
            for other in sorted(some, key=lambda one: (-len(one.split()), one)):
                if (at := _find(tokens, _split(other))) is not None:
                    return (*tokens[:at], *phrase, *tokens[at + len(_split(other)) :])
            return None
        if (sides := self.optional.get(_joined(phrase))) is not None:
            return _put(tokens, phrase, sides)
        return (*tokens, *phrase) if _led(phrase) else (*tokens, "with", *phrase)


def _split(text: str) -> Words:
    """Words and commas; a full stop ends nothing that is said."""
    return tuple(re.findall(r"[^\s,.;]+|,", text.casefold()))


def _joined(words: Iterable[str]) -> str:
    return tidy(" ".join(words))


def _led(words: Words) -> bool:
    return bool(words) and (words[0] == "," or words[0] in _LEADS)


def _bare(words: Words) -> Words:
    """Without commas at its ends."""
    return _split(_joined(words))


def _find(tokens: Words, phrase: Words) -> int | None:
    return next(iter(_places(tokens, phrase)), None)


def _places(tokens: Words, phrase: Words) -> Iterable[int]:
    return (at for at in range(len(tokens) - len(phrase) + 1) if phrase and tokens[at : at + len(phrase)] == phrase)


def _put(tokens: Words, phrase: Words, sides: Mapping[tuple[str, str], int]) -> Words:
    """The phrase where it usually stands, between commas where it usually stands between them."""
    commas: tuple[tuple[Words, Words], ...] = (((), ()), ((",",), ()), ((), (",",)), ((",",), (",",)))
    places = [((*tokens[:at], *left), (*right, *tokens[at:])) for at in range(len(tokens) + 1) for left, right in commas]
    before, after = max(places, key=lambda place: (_fit(place[0], place[1], sides), -len(place[0]) - len(place[1]), len(place[0])))
    return (*before, *phrase, *after)


def _sides(before: Words, after: Words) -> tuple[str, str]:
    """The words next to a place, each with the comma that parts it from it."""
    return " ".join(before[-2:] if before[-1:] == (",",) else before[-1:]), " ".join(after[: 1 + (after[:1] == (",",))])


def _fit(before: Words, after: Words, sides: Mapping[tuple[str, str], int]) -> int:
    """How usual it is that the phrase stands between these words."""
    here = _sides(before, after)
    left = sum(count for (one, _), count in sides.items() if one == here[0])
    right = sum(count for (_, one), count in sides.items() if one == here[1])
    both = sides.get(here, 0)
    return min(left, right) + both


def _changes(rows: Sequence[Words]) -> Counter[tuple[Words, Words]]:
    """What two captions have in place of each other (either may be nothing), all else alike; each pair of captions counts once."""
    around: dict[tuple[Words, Words], list[Words]] = defaultdict(list)
    for row in rows:
        for start in range(len(row) + 1):
            for end in range(start, min(len(row), start + LONGEST) + 1):
                around[row[:start], row[end:]].append(row[start:end])
    found: Counter[tuple[Words, Words]] = Counter()
    for inner in around.values():
        for at, a in enumerate(inner):
            for b in inner[at + 1 :]:
                if _apart(a, b):
                    found[min(a, b), max(a, b)] += 1
    return Counter({pair: count for pair, count in found.items() if count >= LEAST_PAIRS})


def _apart(a: Words, b: Words) -> bool:
    """Whether nothing at their ends is the same, so that no smaller change says it."""
    return not (a and b) or (a[0] != b[0] and a[-1] != b[-1])


def _left_out(changes: Iterable[tuple[Words, Words]]) -> tuple[Words, ...]:
    """Phrases that may be missing, those alone that are not made of others."""
    found = sorted({b for a, b in changes if not a}, key=lambda one: (len(one), one))
    kept: list[Words] = []
    for phrase in found:
        # of "with a ruler", "a ruler in" and "ruler in dim" the same letters are missing: the one that follows the others' boundaries stays
        if not _made_of(phrase, kept):
            kept.append(phrase)
    return tuple(_unrotated(kept, changes))


def _unrotated(phrases: Sequence[Words], changes: Iterable[tuple[Words, Words]]) -> list[Words]:
    """Of rotations of one another ("with a ruler", "ruler with a") those that were seen oftenest."""
    counts = changes if isinstance(changes, Counter) else Counter(changes)
    best: dict[Words, Words] = {}
    for phrase in phrases:
        name = min(phrase[at:] + phrase[:at] for at in range(len(phrase)))
        rival = best.get(name)
        if rival is None or counts[(), phrase] > counts[(), rival]:
            best[name] = phrase
    return list(best.values())


def _made_of(phrase: Words, parts: Sequence[Words]) -> bool:
    """Whether it is nothing but others in a row."""
    if not phrase:
        return True
    return any(phrase[: len(part)] == part and _made_of(phrase[len(part) :], parts) for part in parts if len(part) <= len(phrase))


def _alone(pairs: Sequence[tuple[Words, Words]]) -> list[tuple[Words, Words]]:
    """Without those that say two changes at once, because one word of them changes by itself elsewhere."""
    single = {word for a, b in pairs if len(a) == len(b) == 1 for word in (*a, *b)}
    return [(a, b) for a, b in pairs if len(a) == len(b) == 1 or not any(word in single for word in (*a, *b))]


def _classes(pairs: Sequence[tuple[Words, Words]], optional: Sequence[Words]) -> list[set[Words]]:
    """Phrases that stand in for each other, directly or by way of others."""
    classes: list[set[Words]] = []
    for a, b in pairs:
        touched = [some for some in classes if a in some or b in some]
        merged = {a, b}.union(*touched) if touched else {a, b}
        classes = [*(some for some in classes if some not in touched), merged]
    return [some for some in classes if len(some) > 1 and not some & set(optional)]
