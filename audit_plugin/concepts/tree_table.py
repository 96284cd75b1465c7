"""A concept tree as a CSV table: ``parent,name,kind,prompt_add``, one line per node.

Optional columns: ``id``, ``present`` and ``absent`` (several sentences are joined by ``|``), ``question``, ``group``, ``region``,
``applies_to`` (joined by ``|``) and ``operator``: ``diffusion``, or ``deterministic:op=brightness,change=-0.3``, or
``attribute:attr=12,value=1``.  A line without a prompt and without an operator is a container.  ``parent`` is the name, the id or the path
of another line.  A kind that is left out is that of the parent, else nuisance.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from audit_plugin.concepts.schema import closest
from audit_plugin.concepts.tree import build_tree, sentences, slug, tidy
from audit_plugin.concepts.tree_parents import Draft
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node, NodeKind, OperatorName

NEEDED = ("parent", "name", "kind", "prompt_add")
OPTIONAL = ("id", "present", "absent", "question", "group", "region", "applies_to", "operator")
JOIN = "|"


def tree_from_csv(text: str, *, domain: str, base_caption: str = "") -> ConceptTree:
    """The tree of a table.  Sentences that are missing are made of the base caption.  Raises ConfigError naming the line."""
    base_caption = base_caption or f"a photo of {domain}"
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = list(reader.fieldnames or [])
        _check_header(header)
        lines = [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise ConfigError(f"line {reader.line_num}: not valid CSV: {error}") from error
    drafts: list[Draft] = []
    taken: dict[str, list[str]] = {}
    for number, line in lines:
        cells = _cells(line, number)
        parent = _parent(cells["parent"])
        siblings = taken.setdefault(parent, [])
        own = cells["id"] or slug(tidy(cells["name"]))
        twin = own in siblings and not any(d.parent == parent and d.node.name == tidy(cells["name"]) for d in drafts)
        own = slug(own, siblings) if twin and not cells["id"] else own
        siblings.append(own)
        drafts.append(Draft(node=_node(own, cells, number, base_caption), parent=parent, line=number))
    kinds = [bool(line.get("kind")) for _, line in lines]
    return build_tree(domain, _with_kinds(drafts, kinds), base_caption=base_caption)


def tree_to_csv(tree: ConceptTree) -> str:
    """The table of a tree.  Strengths, prompts for removal, reasons and sources have no column and are lost."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*NEEDED, *OPTIONAL], lineterminator="\n")
    writer.writeheader()
    for node in tree.nodes:
        writer.writerow(
            {
                "parent": node.parent,
                "name": node.name,
                "kind": str(node.kind),
                "prompt_add": node.prompt_add,
                "id": node.path.rpartition("/")[2],
                "present": JOIN.join(node.present),
                "absent": JOIN.join(node.absent),
                "question": node.question,
                "group": node.group,
                "region": node.region,
                "applies_to": JOIN.join(node.applies_to),
                "operator": _operator_cell(node),
            }
        )
    return file.getvalue()


def lost_in_csv(tree: ConceptTree) -> tuple[str, ...]:
    """What the tree says and its table does not, by the names of the fields."""
    plain = Node(path="x", name="x")
    fields = ("prompt_remove", "scale", "threshold", "reason", "kind_reason")
    return tuple(name for name in fields if any(getattr(node, name) != getattr(plain, name) for node in tree.nodes))


def _operator_cell(node: Node) -> str:
    if not node.editable:
        return ""
    params = ",".join(f"{key}={value}" for key, value in node.params.items())
    return f"{node.operator}:{params}" if params else node.operator


def _check_header(header: Sequence[str]) -> None:
    for needed in NEEDED:
        if needed not in header:
            raise ConfigError(f"line 1: the table has no column {needed!r}{closest(needed, header) if header else ''}")
    for name in header:
        if name not in {*NEEDED, *OPTIONAL}:
            raise ConfigError(f"line 1: unknown column {name!r}{closest(str(name), [*NEEDED, *OPTIONAL])}")
        if list(header).count(name) > 1:
            raise ConfigError(f"line 1: the column {name!r} is there twice; keep one")


def _cells(line: Mapping[str | None, Any], number: int) -> dict[str, str]:
    if None in line:
        raise ConfigError(f"line {number}: more cells than columns; put text with commas in double quotes")
    cells = {key: (line.get(key) or "").strip() for key in (*NEEDED, *OPTIONAL)}
    if not cells["name"]:
        raise ConfigError(f"line {number}: the cell of `name` is empty")
    kinds = [str(kind) for kind in NodeKind]
    if cells["kind"] and cells["kind"] not in kinds:
        raise ConfigError(f"line {number}: `kind` cannot be {cells['kind']!r}{closest(cells['kind'], kinds)}")
    return cells


def _parent(cell: str) -> str:
    """Id or path of a parent that is given by names, ids or both."""
    return "/".join(slug(tidy(part)) if not _is_id(part) else part for part in cell.split("/")) if cell else ""


def _is_id(text: str) -> bool:
    return text.replace("_", "a").isalnum() and text == text.lower() and text.isascii()


def _node(own: str, cells: Mapping[str, str], number: int, base_caption: str) -> Node:
    operator, params = _operator(cells["operator"], number)
    prompt = " ".join(cells["prompt_add"].split())
    node = Node(
        path=own,
        name=cells["name"],
        kind=NodeKind(cells["kind"] or "nuisance"),
        editable=bool(prompt or cells["operator"]),
        operator=operator,
        params=params,
        prompt_add=prompt,
        present=_split(cells["present"]),
        absent=_split(cells["absent"]),
        question=cells["question"],
        group=cells["group"],
        region=cells["region"],
        applies_to=_split(cells["applies_to"]) or ("*",),
        source="import",
    )
    if operator == "deterministic" or not node.editable or (node.question and not node.present and not node.absent):
        return node
    present, absent = sentences(base_caption, prompt or cells["name"])
    return replace(node, present=node.present or (present,), absent=node.absent or (absent,))


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(JOIN) if part.strip())


def _operator(cell: str, number: int) -> tuple[Any, dict[str, str | int | float | bool]]:
    """Operator and parameters from ``name:key=value,key=value``."""
    name, _, rest = (cell or "diffusion").partition(":")
    known = get_args(OperatorName)
    if name.strip() not in known:
        raise ConfigError(f"line {number}: `operator` cannot be {name.strip()!r}{closest(name.strip(), known)}")
    params: dict[str, str | int | float | bool] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, given, value = part.partition("=")
        if not given:
            raise ConfigError(f"line {number}: `operator` has {part!r}; write name:key=value,key=value")
        params[key.strip()] = _value(value.strip())
    return name.strip(), params


def _value(text: str) -> str | int | float:
    """A number if it is written as one, without leading zeros; else the text."""
    found = re.fullmatch(r"-?(?:0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", text)
    return text if found is None else float(text) if any(found.groups()) else int(text)


def _with_kinds(drafts: Sequence[Draft], given: Sequence[bool]) -> list[Draft]:
    """Lines without a kind take that of the line that is their parent."""
    kinds: dict[str, NodeKind] = {}
    out = []
    for draft, own in zip(drafts, given, strict=True):
        kind = draft.node.kind if own else kinds.get(draft.parent, NodeKind.NUISANCE)
        path = f"{draft.parent}/{draft.node.path}" if draft.parent else draft.node.path
        kinds |= {path: kind, draft.node.path: kind}
        out.append(replace(draft, node=replace(draft.node, kind=kind)))
    return out
