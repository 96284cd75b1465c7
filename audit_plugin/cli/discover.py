"""``audit-plugin discover``: what the models respond to, with no data; nodes for the concept tree, and their test on real images."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, complain, out, print_data, print_facts, print_results, progress_bars, say
from audit_plugin.config import Loaded, load
from audit_plugin.core.discovery_results import Discovery, ProposedNode
from audit_plugin.core.errors import AuditError


@command
def discover(
    path: ConfigPath,
    *,
    model: Annotated[str | None, typer.Option(help="Ask this model only.")] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Put every proposed node into the tree without asking.")] = False,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Audit with the accepted nodes afterwards.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost at most.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Find words that make the models answer with a class, propose them as nodes of the concept tree, and test those on real images."""
    from audit_plugin.discovery_loop import DiscoveryLoop
    from audit_plugin.wiring import Installation, alone, open_store

    loaded = load(path)
    with progress_bars() as progress, open_store(loaded) as store, alone(loaded, store):
        installation = Installation(loaded, progress)
        loop = DiscoveryLoop(installation, store.scores)
        if dry_run:
            print_facts(loop.price(only=model), output)
            return ExitCode.CLEAN
        told = list(loop.discover(only=model, confirm=_confirm(accept=accept)))
    found, errors = [one for one in told if isinstance(one, Discovery)], [one for one in told if isinstance(one, AuditError)]
    _show(found, output)
    code = _tested(loaded, path, found, model, output, test=test)
    for error in errors:
        complain(error)
    return errors[0].exit_code if errors else code


def _confirm(*, accept: bool) -> Callable[[ProposedNode], bool]:
    """Says yes to all, or asks; where nobody can be asked it says no, and the proposals are printed."""
    interactive = sys.stdin.isatty() and sys.stderr.isatty()

    def ask(node: ProposedNode) -> bool:
        if accept:
            return True
        if not interactive:
            return False
        say(f"{node.path} ({node.kind.value}): {node.evidence}")
        return typer.confirm("Put it into the concept tree?", default=False, err=True)

    return ask


def _show(found: list[Discovery], output: Form) -> None:
    from audit_plugin.report.discovery_table import discovery_table

    if output is not Form.TABLE:
        print_data([asdict(one) for one in found], output)
        return
    for one in found:
        out().print(discovery_table(one))


def _tested(loaded: Loaded, path: Path, found: list[Discovery], model: str | None, output: Form, *, test: bool) -> int:
    """The audit with the nodes that were accepted; says how where it is not made."""
    from audit_plugin.cli.app import exit_code
    from audit_plugin.discovered import discovered_file
    from audit_plugin.wiring import Installation, alone, open_store, parted

    accepted = [node for one in found for node in one.proposed if node.accepted]
    left = [node for one in found for node in one.proposed if not node.accepted]
    if left:
        say(f"{len(left)} nodes are proposed and not in the tree: {', '.join(node.path for node in left)}; --accept takes them")
    if not accepted:
        if found:
            say(f"kept beside the bank; `audit-plugin run {path}` puts it into report, metrics and findings")
        return ExitCode.CLEAN
    say(f"in the tree: {', '.join(node.path for node in accepted)} ({discovered_file(loaded)})")
    if loaded.config.diffex is None:
        say("`diffex: {}` in the configuration tests them on real images")
        return ExitCode.CLEAN
    if not test:
        say("`audit-plugin run` tests them on real images")
        return ExitCode.CLEAN
    with progress_bars() as progress, open_store(loaded) as store, alone(loaded, store):
        installation: Installation = Installation(loaded, progress)
        results, errors = parted(installation.attempts(store, only=model))
        files = installation.report(results, store) if results else ()
    if results:
        if output is Form.TABLE:  # else there would be two documents
            print_results(results, output)
        say(f"report: {files[-1]}")
    for error in errors:
        complain(error)
    return errors[0].exit_code if errors else exit_code(results)
