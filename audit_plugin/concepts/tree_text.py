"""YAML and JSON text to values, with the line that each stands on; a key that is there twice is refused, not overwritten."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from audit_plugin.core.errors import ConfigError

Lines = Callable[..., int]
"""Keys and positions that lead from a document's top to a value -> its line, from 1; 0 where it is not known."""
MAX_NESTING = 50
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def parsed_json(text: str) -> tuple[object, Lines]:
    """Value and lines of a JSON text.  Raises ConfigError naming the line."""
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise ConfigError("not a concept tree: it is nested too deeply") from error
    if re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)):
        raise ConfigError("not valid JSON: it spells half of a character (a lone surrogate, \\ud800 to \\udfff)")
    try:
        return value, _lines(_composed(text.replace("\t", " ")))  # JSON is nearly YAML, and YAML knows its lines
    except ConfigError:
        return value, _lines(None)


def parsed_yaml(text: str) -> tuple[object, Lines]:
    """Value and lines of a YAML text of plain values.  Raises ConfigError naming the line."""
    root = _composed(text)
    for node in _mappings(root):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for at, key in enumerate(keys):
            if key in keys[:at]:
                raise ConfigError(f"line {_line(node.value[at][0])}: the key {key!r} is there twice in one mapping; keep one")
    try:
        return (SafeConstructor().construct_document(root) if root is not None else None), _lines(root)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_told(error)) from error
    except ValueError as error:
        raise ConfigError(f"not valid YAML: {error}") from error


def dumped_yaml(value: object) -> str:
    """A value as YAML, keys in their order."""
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=132)
    return text


def _composed(text: str) -> yaml.Node | None:
    """The document as nodes, which know their lines."""
    try:
        depth = 0
        for event in yaml.parse(text, _LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_NESTING:
                line = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
                raise ConfigError(f"{line}nested too deeply for a concept tree")
        return yaml.compose(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_told(error)) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}") from error


def _told(error: yaml.MarkedYAMLError) -> str:
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    return f"{line}not valid YAML: {error.problem}"


def _mappings(root: yaml.Node | None) -> Iterator[yaml.MappingNode]:
    """Every mapping of a document, each once, though an alias may lead to it many times."""
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            waiting += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _lines(root: yaml.Node | None) -> Lines:
    def at(*keys: str | int) -> int:
        found, line = root, 0
        for key in keys:
            line, found = _step(found, key)
        return line

    return at


def _step(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node | None]:
    """Line and node of one entry."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return _line(name), value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return _line(node.value[key]), node.value[key]
    return 0, None


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ConfigError(f"the key {key!r} is there twice in one object; keep one")
        out[key] = value
    return out
