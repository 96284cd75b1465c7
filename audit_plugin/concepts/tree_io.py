"""Concept trees as files: our own YAML and JSON, a CSV table, and the JSON of the released DiffEx code.

YAML or JSON, ``concept-tree/1``::

    schema: concept-tree/1
    domain: faces
    base_caption: a photo of a person's face
    nodes:
      - {id: facewear, kind: nuisance, editable: false}
      - id: sunglasses
        parent: facewear                # id, or path where several nodes have that id
        kind: nuisance                  # core, context, nuisance, protected, quality, artefact
        prompt_add: wearing sunglasses
        present: [a face with sunglasses]
        absent: [a face without sunglasses]

Every error names the file and, where the text has one, the line.  diffex_diffexplainer.md 3.1 to 3.3.
"""

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from audit_plugin.concepts.schema import closest
from audit_plugin.concepts.tree import build_tree
from audit_plugin.concepts.tree_diffex import is_diffex, tree_from_diffex
from audit_plugin.concepts.tree_parents import Draft
from audit_plugin.concepts.tree_table import tree_from_csv
from audit_plugin.concepts.tree_text import Lines, dumped_yaml, parsed_json, parsed_yaml
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind, OperatorName, Source

SCHEMA = "concept-tree/1"
MAX_BYTES = 4 * 1024 * 1024
_DOCUMENT = ("schema", "domain", "language", "base_caption", "nodes")
_STRENGTH = ("scale", "threshold")
_TEXTS = ("group", "reason", "prompt_add", "prompt_remove", "region", "kind_reason")
_LISTS = ("applies_to", "present", "absent")
_KEYS = ("id", "name", "parent", "kind", "editable", "operator", "params", "strength", "vlm_question", "source", *_TEXTS, *_LISTS)
_PLAIN = Node(path="x", name="x")
"""A node that says nothing: what need not be written."""


def read_tree(path: str | Path, *, domain: str = "", base_caption: str = "") -> ConceptTree:
    """The tree of a ``.yaml``, ``.yml``, ``.json`` (ours or DiffEx's) or ``.csv`` file.

    ``domain`` and ``base_caption`` are for files that say neither.  Raises ConfigError naming the file and the line.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"concept tree {str(path)!r} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(data):,} bytes, more than a tree can need ({MAX_BYTES:,})")
    try:
        if path.suffix.lower() == ".csv":
            return tree_from_csv(text, domain=domain or path.stem, base_caption=base_caption)
        return tree_from_text(text, json_only=path.suffix.lower() == ".json", domain=domain, base_caption=base_caption)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def tree_from_text(text: str, *, json_only: bool = False, domain: str = "", base_caption: str = "") -> ConceptTree:
    """The tree of a YAML or JSON document, ours or DiffEx's.  Raises ConfigError naming the line."""
    document, lines = parsed_json(text) if json_only else parsed_yaml(text)
    if not isinstance(document, Mapping):
        raise ConfigError("expected a mapping with `schema`, `domain` and `nodes` (or DiffEx's `domain` and `categories`)")
    if is_diffex(document):
        return tree_from_diffex(document, lines=lines, domain=domain, base_caption=base_caption)
    return tree_from_dict(document, lines=lines)


def tree_from_dict(document: Mapping[str, Any], *, lines: Lines = lambda *_: 0) -> ConceptTree:
    """The tree of a ``concept-tree/1`` mapping; ``lines("nodes", position)`` is where a node stands, 0 if that is not known."""
    _refuse_unknown(document, _DOCUMENT, "concept tree")
    if document.get("schema") != SCHEMA:
        raise ConfigError(f"`schema` is {reprlib.repr(document.get('schema'))}; this version reads {SCHEMA!r}")
    nodes = document.get("nodes")
    if not isinstance(nodes, Sequence) or isinstance(nodes, str):
        raise ConfigError("`nodes` must be a list; each node has at least `id` and `kind`")
    return build_tree(
        _text(document, "domain", "concept tree"),
        [_draft(node, lines("nodes", at), at) for at, node in enumerate(nodes)],
        language=_text(document, "language", "concept tree") or "en",
        base_caption=_text(document, "base_caption", "concept tree"),
    )


def tree_to_dict(tree: ConceptTree) -> dict[str, Any]:
    """The ``concept-tree/1`` mapping that reads back as an equal tree; what a node has by default is left out."""
    head = {"schema": SCHEMA, "domain": tree.domain, "language": tree.language, "base_caption": tree.base_caption or None}
    return {**head, "nodes": [_node_to_dict(node) for node in tree.nodes]}


def tree_to_yaml(tree: ConceptTree) -> str:
    """As YAML."""
    return dumped_yaml(tree_to_dict(tree))


def tree_to_json(tree: ConceptTree) -> str:
    """As JSON."""
    return json.dumps(tree_to_dict(tree), indent=2, ensure_ascii=False) + "\n"


def _node_to_dict(node: Node) -> dict[str, Any]:
    own = node.path.rpartition("/")[2]
    out: dict[str, Any] = {"id": own, "name": node.name, "parent": node.parent or None, "kind": str(node.kind)}
    for key in ("editable", "operator", "source", *_TEXTS):
        if getattr(node, key) != getattr(_PLAIN, key):
            out[key] = getattr(node, key)
    for key in _LISTS:
        if getattr(node, key) != getattr(_PLAIN, key):
            out[key] = list(getattr(node, key))
    if node.question:
        out["vlm_question"] = node.question
    if (node.scale, node.threshold) != (_PLAIN.scale, _PLAIN.threshold):
        out["strength"] = {"scale": node.scale, "threshold": node.threshold}
    if node.params:
        out["params"] = dict(node.params)
    return out


def _draft(item: object, line: int, at: int) -> Draft:
    where = f"line {line}: " if line else ""
    if not isinstance(item, Mapping):
        raise ConfigError(f"{where}node {at + 1} must be a mapping with `id` and `kind`, got {reprlib.repr(item)}")
    where += f"node {reprlib.repr(item['id'])}" if item.get("id") else f"node {at + 1}"
    _refuse_unknown(item, _KEYS, where)
    own = _text(item, "id", where)
    if not own:
        raise ConfigError(f"{where} has no `id`; give it one of a-z, 0-9 and _")
    kinds = [str(kind) for kind in NodeKind]
    if item.get("kind") is None:
        raise ConfigError(f"{where} has no `kind`; say what it is to the task: {', '.join(kinds)}")
    editable = item.get("editable", True)
    if not isinstance(editable, bool):
        raise ConfigError(f"{where}: `editable` must be true or false, got {reprlib.repr(editable)}")
    fields: dict[str, Any] = {key: _text(item, key, where) for key in _TEXTS}
    fields |= {key: _texts(item, key, where) for key in _LISTS if item.get(key) is not None}
    fields |= {key: _number(item, key, where) for key in _STRENGTH if key in _strength(item, where)}
    fields["kind"] = NodeKind(_one_of(item["kind"], kinds, f"{where}: `kind`"))
    fields["operator"] = _one_of(item.get("operator") or "diffusion", get_args(OperatorName), f"{where}: `operator`")
    fields["source"] = _one_of(item.get("source") or "person", get_args(Source), f"{where}: `source`")
    name, question = _text(item, "name", where) or own.replace("_", " "), _text(item, "vlm_question", where)
    node = Node(path=own, name=name, editable=editable, question=question, params=_params(item, where), **fields)
    return Draft(node=node, parent=_text(item, "parent", where), line=line)


def _text(mapping: Mapping[str, Any], key: str, where: str) -> str:
    value = mapping.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(
            f"{where}: `{key}` was read as {reprlib.repr(value)}; put text that looks like a number, a date or yes/no in quotes"
        )
    return value or ""


def _texts(mapping: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    value = mapping[key]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{where}: `{key}` must be a list of texts, got {reprlib.repr(value)}; put each in quotes")
    return tuple(value)


def _strength(item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    strength = item.get("strength")
    if strength is None:
        return {}
    if not isinstance(strength, Mapping):
        raise ConfigError(f"{where}: `strength` must be a mapping with `scale` and `threshold`, got {reprlib.repr(strength)}")
    _refuse_unknown(strength, _STRENGTH, f"{where}: `strength`")
    return strength


def _number(item: Mapping[str, Any], key: str, where: str) -> float:
    value = item["strength"][key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: `strength.{key}` must be a number, got {reprlib.repr(value)}")
    return float(value)


def _params(item: Mapping[str, Any], where: str) -> dict[str, str | int | float | bool]:
    params = item.get("params") or {}
    if not isinstance(params, Mapping) or not all(isinstance(value, str | int | float) for value in params.values()):
        raise ConfigError(
            f"{where}: `params` must be a mapping from names to numbers, words or true/false, got {reprlib.repr(params)}"
        )
    return {str(key): value for key, value in params.items()}


def _one_of(value: object, known: Iterable[str], what: str) -> Any:
    names = list(known)
    if value not in names:
        shown = reprlib.repr(value)  # what aliases make of a value may be too long to write out
        raise ConfigError(f"{what} cannot be {shown}{closest(shown.strip(chr(39)), names)}")
    return value


def _refuse_unknown(mapping: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{closest(str(key), known)}")
