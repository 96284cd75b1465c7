"""What a result says of single pictures and rows, apart from its aggregates: found, and taken out, wherever in the result it stands."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

from audit_plugin.core.confirm import ToConfirm
from audit_plugin.core.counterfactual_results import Counterfactual
from audit_plugin.core.diffex_results import Exemplar
from audit_plugin.core.discovery_results import PromptPicture, WordPair
from audit_plugin.core.results import AuditResult, Pair
from audit_plugin.core.shortcut_results import ShortcutPicture

SINGLE = (Pair, Exemplar, ToConfirm, Counterfactual, ShortcutPicture, WordPair, PromptPicture)
"""Parts of a result that are about one picture, row or image each; everything else is a count, an estimate or a verdict."""

_GENERATED = {Pair: ("before_sha256", "after_sha256"), PromptPicture: ("sha256",), WordPair: ("without_sha256", "with_sha256")}
_EDITED = {Exemplar: ("after_sha256",), Counterfactual: ("after_sha256",), ShortcutPicture: ("after_sha256", "floor_sha256")}
_MADE: dict[type, tuple[str, ...]] = {**_GENERATED, **_EDITED, ToConfirm: ("picture",)}
"""Names of pictures that a machine has made; whatever else a part names may be a photograph."""
_NAMES = frozenset({"sha256", "picture", "before"})


def singles(value: Any) -> Iterator[Any]:
    """Every part of :data:`SINGLE` in a result, or in a part of one."""
    if isinstance(value, SINGLE):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        for entry in fields(value):
            yield from singles(getattr(value, entry.name))
    elif isinstance(value, tuple):
        for one in value:
            yield from singles(one)


LOOKED_UP = "pictures"
"""Backend of an audit whose pictures were looked up in its table, not generated."""


def cited(result: AuditResult) -> dict[str, bool]:
    """sha256 of every picture that the result shows -> whether a machine has made it."""
    found: dict[str, bool] = {}
    for part in singles(result):
        for name, sha in named(part):
            found[sha] = found.get(sha, False) or name in _MADE[type(part)]
    return found


def named(part: Any) -> Iterator[tuple[str, str]]:
    """(Field, sha256) of the pictures that a part of :data:`SINGLE` names."""
    for entry in fields(part):
        value = getattr(part, entry.name)
        if (entry.name in _NAMES or entry.name.endswith("_sha256")) and isinstance(value, str) and len(value) == 64:
            yield entry.name, value


def without(result: AuditResult, goes: Callable[[Any], bool]) -> AuditResult:
    """The result without the parts of :data:`SINGLE` of which ``goes`` is true; all aggregates stay as they are."""
    return cast("AuditResult", _kept(result, goes))


def aggregates(result: AuditResult) -> AuditResult:
    """The result without anything about a single picture, row or image."""
    bare = without(result, lambda _part: True)
    return replace(bare, diffex=bare.diffex and replace(bare.diffex, rows_file=""))


def about(rows: frozenset[str], pictures: frozenset[str]) -> Callable[[Any], bool]:
    """Whether a part is about one of these rows or images, or names one of these pictures."""

    def goes(part: Any) -> bool:
        whose = {getattr(part, name) for name in ("row", "image") if hasattr(part, name)}
        return bool(whose & rows) or any(sha in pictures for _, sha in named(part))

    return goes


def _kept(value: Any, goes: Callable[[Any], bool]) -> Any:
    """The value itself where nothing goes, so that equal parts stay equal."""
    if isinstance(value, tuple):
        left = tuple(_kept(one, goes) for one in value if not (isinstance(one, SINGLE) and goes(one)))
        return left if len(left) != len(value) or any(a is not b for a, b in zip(left, value, strict=True)) else value
    if not is_dataclass(value) or isinstance(value, (type, *SINGLE)):
        return value
    changed = {}
    for entry in fields(value):
        before = getattr(value, entry.name)
        after = None if isinstance(before, SINGLE) and goes(before) else _kept(before, goes)
        if after is not before:
            changed[entry.name] = after
    return replace(cast("Any", value), **changed) if changed else value
