"""What the assistant asks a vision-language model, the shape that an answer should have, and how one is read.

No answer is trusted: whatever is missing, of another type, too long or not plain words is left out.  diffex_diffexplainer.md 3.3.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audit_plugin.concepts.tree import tidy
from audit_plugin.core.tree import NodeKind

MAX_TEXT = 80
MAX_VALUES = 10
MAX_LEAVES = 12
_PLAIN = re.compile(r"[^\W_][\w\s',.?!()&%+/-]*", flags=re.UNICODE)
"""Begins with a letter or a digit; no braces, brackets, quotes, backslashes, dollars, colons, equals signs or markup."""
_PERSONAL = re.compile(
    r"\b(skin|complexion|age|aged|elderly|child|gender|sex|masculine|feminine|(fe)?male|(wo)?m[ae]n|boys?|girls?|race|racial|ethnic\w*"
    r"|religio\w*|hijab|headscarf|turban|veil|disab\w*|wheelchair|pregnan\w*)\b"
)
Clean = Callable[[object], str]


@dataclass(frozen=True)
class Leaf:
    """One visible attribute."""

    name: str
    present: str = ""
    absent: str = ""
    question: str = ""


def clean(value: object) -> str:
    """An answer's text, lower-cased with single spaces; empty where it is no short plain phrase.

    >>> clean("  Knitted   Beanie "), clean("{class}"), clean("<script>"), clean("a" * 81)
    ('knitted beanie', '', '', '')
    """
    if not isinstance(value, str):
        return ""
    text = tidy(value)
    return text if len(text) <= MAX_TEXT and text.isprintable() and _PLAIN.fullmatch(text) and "//" not in text else ""


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: Mapping[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}


_WORDS = {"type": "string", "maxLength": MAX_TEXT}
FAMILIES_SCHEMA = _object(families=_list(_object(name=_WORDS, values=_list(_WORDS, MAX_VALUES)), 24))
_LEAF = _object(name=_WORDS, present=_WORDS, absent=_WORDS, question=_WORDS)
LEAVES_SCHEMA = _object(items=_list(_object(item=_WORDS, leaves=_list(_LEAF, MAX_LEAVES)), 10))
_KIND = _object(name=_WORDS, kind={"type": "string", "enum": [str(kind) for kind in NodeKind]}, reason=_WORDS)
KINDS_SCHEMA = _object(kinds=_list(_KIND, 120))


def families_task(domain: str) -> str:
    """Stage A."""
    return (
        f"These pictures are of the domain: {domain}. List families of visible attributes that a photo editor could change one at a time "
        "without changing anything else. For each family give 3 to 10 concrete visible values of at most a few words. Cover parts of "
        "the subject, colour, texture, pose, accessories, background, lighting, viewpoint, objects that occur together with it, text "
        "and marks, and picture quality. No judgements and nothing that cannot be seen. "
        'Answer with JSON only: {"families": [{"name": "headwear", "values": ["beanie", "straw hat"]}]}'
    )


def leaves_task(domain: str, family: str, values: Sequence[str]) -> str:
    """Stage B."""
    return (
        f"Domain: {domain}. Attribute family: {family}. For each of these values: {'; '.join(values)}: list up to {MAX_LEAVES} finer "
        "variants that can be seen in a picture. For each variant give its name, a sentence that is true where it is present, a sentence "
        f"that is true where it is absent, and a yes/no question about it, each of at most {MAX_TEXT} characters. Answer with JSON only: "
        '{"items": [{"item": "beanie", "leaves": [{"name": "red beanie", "present": "a photo of a face with a red beanie", '
        '"absent": "a photo of a face with bare hair", "question": "Is the person wearing a red beanie?"}]}]}'
    )


def kinds_task(domain: str, classes: Sequence[str], names: Sequence[str]) -> str:
    """Stage C."""
    told = "; ".join(classes[:50]) if classes else "not given"
    return (
        f"A classifier looks at pictures of the domain: {domain}. Its classes: {told}. For each attribute say what it is to this task: "
        "core (part of what defines a class), context (surroundings that often come along), nuisance (varies and should not matter), "
        "protected (a personal characteristic such as skin colour, age, gender, religion or disability), quality (of the picture), "
        "artefact (laid over the picture: text, marks, borders). "
        f"Give a reason in one short line. Attributes: {'; '.join(names)}. "
        'Answer with JSON only: {"kinds": [{"name": "red beanie", "kind": "nuisance", "reason": "clothing varies"}]}'
    )


def families_of(answer: Mapping[str, Any], clean_text: Clean) -> dict[str, list[str]]:
    """Families with their values, of one answer of stage A; those without a value are left out."""
    out: dict[str, list[str]] = {}
    for entry in _entries(answer, "families"):
        name, values = clean_text(entry.get("name")), _cleaned(entry.get("values"), clean_text)
        if name and values:
            out[name] = list(dict.fromkeys([*out.get(name, []), *values]))[:MAX_VALUES]
    return out


def leaves_of(answer: Mapping[str, Any], values: Sequence[str], clean_text: Clean) -> dict[str, list[Leaf]]:
    """Leaves of the values that were asked about, of one answer of stage B; values that nobody asked about are left out."""
    out: dict[str, dict[str, Leaf]] = {}
    for entry in _entries(answer, "items"):
        item = clean(entry.get("item"))
        if item not in values:
            continue
        leaves = out.setdefault(item, {})
        for leaf in _entries(entry, "leaves"):
            name = clean_text(leaf.get("name"))
            if name and name != item and len(leaves) < MAX_LEAVES:
                leaves.setdefault(name, Leaf(name, *(clean(leaf.get(key)) for key in ("present", "absent", "question"))))
    return {item: list(leaves.values()) for item, leaves in out.items()}


def kinds_of(answer: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[NodeKind, str]]:
    """Kind and reason by name, of one answer of stage C.  A name that is there twice with two kinds is protected if either says so."""
    known = {str(kind) for kind in NodeKind}
    out: dict[str, tuple[NodeKind, str]] = {}
    for entry in _entries(answer, "kinds"):
        name, kind = clean(entry.get("name")), entry.get("kind")
        if name in names and isinstance(kind, str) and kind in known and (name not in out or kind == NodeKind.PROTECTED):
            out[name] = (NodeKind(kind), clean(entry.get("reason")))
    return out


def personal(family: str, names: Sequence[str]) -> dict[str, tuple[NodeKind, str]]:
    """Names that speak of personal characteristics, themselves or by their family, as protected."""
    why = (NodeKind.PROTECTED, "its name speaks of a personal characteristic")
    return {name: why for name in names if _PERSONAL.search(f"{family} {name}")}


def _entries(value: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    """The objects in a list of an answer."""
    found = value.get(key)
    if isinstance(found, list):
        yield from (entry for entry in found if isinstance(entry, dict))


def _cleaned(values: object, clean_text: Clean) -> list[str]:
    texts = [clean_text(value) for value in values] if isinstance(values, list) else []
    return [text for text in texts if text]
