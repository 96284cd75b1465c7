"""Phrases that captions are made of: runs of words that mean something, up to three of them, cut at words that do not.

After the candidates of RAKE (Rose et al. 2010) and B2T's settings (Kim et al. 2024: three words, those that say nearly the same left out, the
twenty that are said oftenest); written here, because what is counted must be the same for everybody.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

LONGEST = 3
"""Words of a phrase."""
MOST = 20
SAME = 0.9
"""Of a phrase's captions; where a longer one that holds it is said in so many of them, the longer one alone is kept."""
LEAST = 2
"""Captions that must say it."""
DENIALS = frozenset({"no", "not", "without", "lacks", "lacking", "nor", "neither", "never"})
"""What follows them is not there."""
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        """
a about above across after against all along also among an and another any are around as at back be because been before behind
being below beneath beside between beyond both but by can close coming covered depicting depicts do does down during each either
for from front full has have having he her here his how i if in inside into is it its itself just large left like likely lot lots
made main many may more most much near nearby next no not of off on one only onto or other our out over own part placed right
several she shown showing shows side sitting small so some standing such than that the their them then there these they this those
through to together top toward towards two under up upon us various very visible was we were what which while who with within
without you your image images photo photograph photography picture pictures view seen scene closeup background foreground center
centre middle
""",
    )
)
"""Words that join others, count, or speak of the picture and not of what it shows."""


def keywords(captions: Sequence[str], most: int = MOST) -> list[str]:
    """Phrases in order of how many captions say them, longer ones first among equals.

    >>> keywords(["A red dog on sand.", "a photo of a red dog", "sand with a red ball"])
    ['red', 'red dog', 'sand']
    """
    counts = Counter(phrase for text in captions for phrase in set(_phrases(text)))
    said = {phrase: count for phrase, count in counts.items() if count >= LEAST}
    kept = [phrase for phrase in said if not any(_within(phrase, other) and said[other] >= SAME * said[phrase] for other in said)]
    return [" ".join(one) for one in sorted(kept, key=lambda one: (-said[one], -len(one), one))[:most]]


def _phrases(text: str) -> Iterator[tuple[str, ...]]:
    run: list[str] = []
    for token in [*_tokens(affirmed(text)), "."]:
        if token in _EMPTY or not token[0].isalnum():
            for start in range(len(run)):
                yield from (tuple(run[start:end]) for end in range(start + 1, min(len(run), start + LONGEST) + 1))
            run = []
        else:
            run.append(token)


def affirmed(text: str) -> str:
    """The text without what it says is not there.

    >>> affirmed("A dog, without a white ruler, on sand with no ball in it")
    'a dog , , on sand with in it'
    """
    kept, denied = list[str](), False
    for token in _tokens(text):
        denied = token in DENIALS or (
            denied and (token in {"a", "an", "any", "the", "or"} or (token not in _EMPTY and token[0].isalnum()))
        )
        if not denied:
            kept.append(token)
    return " ".join(kept)


def _tokens(text: str) -> list[str]:
    return re.findall(r"[^\W_]+|[.,;:!?]", text.casefold())


def _within(short: tuple[str, ...], long: tuple[str, ...]) -> bool:
    return len(short) < len(long) and any(long[at : at + len(short)] == short for at in range(len(long) - len(short) + 1))
