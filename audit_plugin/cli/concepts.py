"""``audit-plugin concepts``: make, look at, check and convert concept trees."""

import json
import sys
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from audit_plugin.cli.command import Output, command
from audit_plugin.cli.console import ExitCode, Form, out, print_facts, say
from audit_plugin.core.errors import ConfigError
from audit_plugin.core.tree import ConceptTree, Node

concepts_app = typer.Typer(no_args_is_help=True, help="Make, look at, check and convert concept trees.")

TreePath = Annotated[Path, typer.Argument(help="YAML, JSON (ours or DiffEx's) or CSV.", show_default=False)]
ToFile = Annotated[Path | None, typer.Option("--out", help="Where to write; stdout by default.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]
People = Annotated[bool, typer.Option("--people", help="Also test perceived attributes of people (protected).")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Name of a class; may be given several times.", show_default=False)
]
Domain = Annotated[str, typer.Option("--domain", help="What the pictures show, such as faces.", show_default=False)]
_COLOURS = {"core": "green", "context": "cyan", "nuisance": "yellow", "protected": "magenta", "quality": "blue", "artefact": "red"}


class TreeForm(StrEnum):
    """How a tree is written."""

    YAML = "yaml"
    JSON = "json"


class ExportForm(StrEnum):
    """How a tree is exported."""

    DIFFEX = "diffex"
    YAML = "yaml"
    JSON = "json"
    CSV = "csv"


@concepts_app.command("init")
@command
def concepts_init(
    *,
    domain: Domain = "",
    classes: Classes = None,
    people: People = False,
    source: Annotated[
        Path | None, typer.Option("--from", help="A CSV, JSON or YAML file to begin with.", show_default=False)
    ] = None,
    to: ToFile = None,
    form: Annotated[
        TreeForm | None, typer.Option("--format", help="By the name of the file, else yaml.", show_default=False)
    ] = None,
    force: Force = False,
) -> int:
    """Write a first tree: the default tree, or that of a file with the default tree below it."""
    from audit_plugin.concepts.default_tree import default_tree, grafted
    from audit_plugin.concepts.tree_io import read_tree

    if source is None and not domain:
        raise ConfigError("say what the pictures show with --domain, such as --domain faces")
    tree = grafted(read_tree(source, domain=domain), classes or (), people=people) if source else None
    _write(_text(tree or default_tree(domain, classes or (), people=people), _form(form, to)), to, force=force)
    return ExitCode.CLEAN


@concepts_app.command("show")
@command
def concepts_show(path: TreePath) -> int:
    """Print a tree, coarse to fine, with kinds and operators."""
    from audit_plugin.concepts.tree_io import read_tree

    out().print(tree_view(read_tree(path)))
    return ExitCode.CLEAN


@concepts_app.command("check")
@command
def concepts_check(path: TreePath, output: Output = Form.TABLE) -> int:
    """Check a tree and say what is in it.  Exit code 2 with one line where it cannot be used."""
    from audit_plugin.concepts.tree_io import read_tree

    tree = read_tree(path)
    kinds = Counter(str(node.kind) for node in tree.editable)
    operators = Counter(node.operator for node in tree.editable)
    facts: dict[str, object] = {
        "domain": tree.domain,
        "digest": tree.digest,
        "nodes": len(tree.nodes),
        "editable": len(tree.editable),
    }
    facts |= {f"kind_{name}": count for name, count in sorted(kinds.items())}
    facts |= {f"operator_{name}": count for name, count in sorted(operators.items())}
    print_facts(facts | {"could_not_be_tested": sum(bool(node.reason) for node in tree.nodes)}, output)
    return ExitCode.CLEAN


@concepts_app.command("export")
@command
def concepts_export(
    path: TreePath,
    *,
    form: Annotated[ExportForm, typer.Option("--format", help="The other format.")],
    to: ToFile = None,
    force: Force = False,
) -> int:
    """Write a tree in another format.  DiffEx and CSV hold less than a tree can say; what is lost is told."""
    from audit_plugin.concepts.tree_diffex import tree_to_diffex
    from audit_plugin.concepts.tree_io import read_tree
    from audit_plugin.concepts.tree_table import lost_in_csv, tree_to_csv

    tree = read_tree(path)
    if form is ExportForm.DIFFEX:
        document, left_out = tree_to_diffex(tree)
        if left_out:
            say(
                f"{len(left_out)} nodes left out, as no prompt edits them: {', '.join(left_out[:3])}{' …' if len(left_out) > 3 else ''}"
            )
        _write(json.dumps(document, indent=2, ensure_ascii=False) + "\n", to, force=force)
    elif form is ExportForm.CSV:
        lost = lost_in_csv(tree)
        if lost:
            say(f"a table has no column for: {', '.join(lost)}")
        _write(tree_to_csv(tree), to, force=force)
    else:
        _write(_text(tree, TreeForm(form.value)), to, force=force)
    return ExitCode.CLEAN


@concepts_app.command("propose")
@command
def concepts_propose(
    folder: Annotated[Path, typer.Argument(help="Directory with pictures of the domain.", show_default=False)],
    *,
    domain: Domain,
    endpoint: Annotated[str, typer.Option(help="URL of an OpenAI-compatible server.")],
    model: Annotated[str, typer.Option(help="Name that the server knows the model by.")],
    api_key_env: Annotated[str, typer.Option(help="Environment variable with the key.", show_default=False)] = "",
    classes: Classes = None,
    people: People = False,
    onto: Annotated[
        Path | None, typer.Option("--onto", help="A tree to add to; nothing in it changes.", show_default=False)
    ] = None,
    pinned: Annotated[
        list[str] | None, typer.Option("--pin", help="Keep this family if one call names it.", show_default=False)
    ] = None,
    calls: Annotated[int, typer.Option(help="Calls that look at pictures.", min=1)] = 4,
    images_per_call: Annotated[int, typer.Option(help="Pictures in each of them.", min=1)] = 8,
    timeout_seconds: Annotated[float, typer.Option(help="Longest wait for one answer.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the model, and of the choice of pictures.")] = 0,
    to: ToFile = None,
    form: Annotated[
        TreeForm | None, typer.Option("--format", help="By the name of the file, else yaml.", show_default=False)
    ] = None,
    force: Force = False,
) -> int:
    """Let a vision-language model propose a tree from pictures, which are sent to the endpoint.  Look it through before use."""
    from audit_plugin.cli.concept_pictures import pictures
    from audit_plugin.concepts.assistant import AssistantOptions, propose
    from audit_plugin.concepts.tree_io import read_tree
    from audit_plugin.concepts.vision_chat import ChatOptions

    chat = ChatOptions(endpoint=endpoint, model=model, api_key_env=api_key_env, timeout_seconds=timeout_seconds, seed=seed)
    options = AssistantOptions(chat=chat, calls=calls, images_per_call=images_per_call, pinned=tuple(pinned or ()))
    _check_free(to, force=force)
    images = pictures(folder, calls * images_per_call, seed=seed)
    say(f"sending {len(images)} pictures to {chat.url}")
    person = read_tree(onto, domain=domain) if onto else None
    proposal = propose(images, domain, options, classes=classes or (), people=people, onto=person)
    for note in proposal.notes:
        say(note)
    _write(_text(proposal.tree, _form(form, to)), to, force=force)
    return ExitCode.CLEAN


def tree_view(tree: ConceptTree) -> Tree:
    """A tree to print: containers in bold, editable nodes with their kind and what edits them."""
    root = Tree(
        f"[bold]{escape(tree.domain)}[/bold]  {len(tree.editable)} editable of {len(tree.nodes)} nodes  [dim]{tree.digest}[/dim]"
    )
    branches = {"": root}
    for node in tree.nodes:
        branches[node.path] = branches[node.parent].add(_label(node))
    return root


def _label(node: Node) -> str:
    own = escape(node.path.rpartition("/")[2])
    if not node.editable:
        return f"[bold]{own}[/bold]" + (f"  [red]not tested: {escape(node.reason)}[/red]" if node.reason else "")
    what = ", ".join(str(value) for value in node.params.values()) if node.params else node.prompt_add or node.prompt_remove
    only = "" if node.applies_to == ("*",) else f"  [dim]for {escape(', '.join(node.applies_to))}[/dim]"
    return f"{own}  [{_COLOURS[node.kind]}]{node.kind}[/]  {node.operator}: {escape(what)}{only}"


def _form(form: TreeForm | None, to: Path | None) -> TreeForm:
    return form or (TreeForm.JSON if to is not None and to.suffix.lower() == ".json" else TreeForm.YAML)


def _text(tree: ConceptTree, form: TreeForm) -> str:
    from audit_plugin.concepts.tree_io import tree_to_json, tree_to_yaml

    return tree_to_json(tree) if form is TreeForm.JSON else tree_to_yaml(tree)


def _check_free(to: Path | None, *, force: bool) -> None:
    if to is not None and to.exists() and not force:
        raise ConfigError(f"{to} is there already; use --force to write over it")


def _write(text: str, to: Path | None, *, force: bool) -> None:
    """To stdout, or to a file that is not there yet."""
    if to is None:
        sys.stdout.write(text)
        return
    _check_free(to, force=force)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{to} cannot be written: {error}") from error
    say(f"wrote {to}")
