"""``audit-plugin selftest``: what an audit of this model on this bank would find, measured with effects of known size in the model's own answers."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, complain, print_data, print_rows, progress_bars, say
from audit_plugin.config import load
from audit_plugin.core.errors import AuditError, ConfigError
from audit_plugin.core.selftest_results import SelfTest

if TYPE_CHECKING:  # loaded by the command that needs it
    from audit_plugin.selftests import Price


@command
def selftest(
    path: ConfigPath,
    *,
    model: Annotated[str | None, typer.Option(help="Test the audit of this model only.")] = None,
    concept: Annotated[list[str] | None, typer.Option(help="Put effects into this concept only; may be repeated.")] = None,
    runs: Annotated[int, typer.Option(help="Audits of other rows for every size.", min=1)] = 50,
    sizes: Annotated[str, typer.Option(help="Log-odds of the effects, apart by commas; 0 is none.")] = "0,0.3,1,3",
    workers: Annotated[int, typer.Option(help="Audits at the same time; 0 takes one a core.", min=0)] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would take.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Measure what the audit finds: put known effects into the model's own answers, and judge them on other draws of the rows."""
    from audit_plugin.report.selftest import selftest_words
    from audit_plugin.selftests import Asked, SelfTests, document, rows_of
    from audit_plugin.wiring import Installation, open_store

    loaded = load(path)
    asked = Asked(concepts=tuple(concept or ()), sizes=_sizes(sizes), runs=runs, workers=workers or os.cpu_count() or 1)
    with progress_bars() as progress, open_store(loaded) as store:
        tests = SelfTests(Installation(loaded, progress), store, asked)
        if dry_run:
            print_rows([asdict(one) for one in tests.price(model)], output)
            return ExitCode.CLEAN
        every = list(tests.results(model, told=_tell))
    told, errors = [one for one in every if isinstance(one, SelfTest)], [one for one in every if isinstance(one, AuditError)]
    if output is not Form.TABLE:
        print_data([document(one) for one in told], output)
    for one in told:
        if output is Form.TABLE:
            print_rows(rows_of(one), output)
        say(f"{one.model}: {selftest_words(one)}")
        for note in one.notes:
            say(f"{one.model}: {note}")
    if told:
        say(f"kept beside the bank; `audit-plugin report {path}` shows it, the next `audit-plugin run` puts it into the metrics")
    for error in errors:
        complain(error)
    return errors[0].exit_code if errors else ExitCode.CLEAN


def _tell(price: "Price") -> None:
    """Before it begins."""
    how_long = "how long is not known yet" if price.seconds is None else f"about {price.seconds:.0f} s"
    asked = f"{price.pictures} pictures to ask the server about" if price.pictures else "no picture to ask the server about"
    say(f"{price.model}: {asked}, {price.audits - price.known} audits to make ({price.known} are there): {how_long}")


def _sizes(text: str) -> tuple[float, ...]:
    """Raises ConfigError for what is no list of sizes."""
    try:
        found = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError as error:
        raise ConfigError(f"--sizes {text!r}: give numbers apart by commas, e.g. 0,0.3,1,3") from error
    if not found or found[0] < 0 or not all(size < 100 for size in found):
        raise ConfigError(f"--sizes {text!r}: give log-odds from 0 to below 100, e.g. 0,0.3,1,3")
    return tuple(found)
