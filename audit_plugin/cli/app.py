"""The commands."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.table import Table

from audit_plugin import __version__
from audit_plugin.cli.console import ExitCode, Form, err, out, print_data, print_results, progress_bars, quiet_vendors
from audit_plugin.config import Loaded, load
from audit_plugin.core.errors import AuditError
from audit_plugin.core.results import AuditResult, RunState

P = ParamSpec("P")
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Audit image classifiers on Triton for spurious features and bias.",
    epilog="Exit codes: 0 clean, 1 findings above threshold, 2 usage or configuration, 3 could not run, 130 interrupted.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at a configuration.")
bank_app = typer.Typer(no_args_is_help=True, help="Build and check the probe bank.")
generator_app = typer.Typer(no_args_is_help=True, help="Make a generator of your own domain.")
app.add_typer(config_app, name="config")
app.add_typer(bank_app, name="bank")
app.add_typer(generator_app, name="generator")

ConfigPath = Annotated[Path, typer.Argument(help="YAML configuration.", show_default=False)]
Output = Annotated[Form, typer.Option("--output", "-o", help="Form of the data on stdout.")]


def command(function: Callable[P, int]) -> Callable[P, None]:
    """A command that returns its exit code; our errors become one line on stderr and their own code."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        quiet_vendors()
        try:
            code = function(*args, **kwargs)
        except AuditError as error:
            err.print(f"[bold red]error:[/bold red] {_escaped(error)}", highlight=False)
            code = error.exit_code
        except KeyboardInterrupt:
            err.print("interrupted; run the same command again to go on", highlight=False)
            code = ExitCode.INTERRUPTED
        raise typer.Exit(int(code))

    return run


def _escaped(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))


def exit_code(results: tuple[AuditResult, ...]) -> ExitCode:
    """Findings outrank nothing; an audit that did not work outranks findings."""
    states = {result.state for result in results}
    if any(state.broken for state in states):
        return ExitCode.COULD_NOT_RUN
    return ExitCode.FINDINGS if RunState.SUCCEEDED_WITH_FINDINGS in states else ExitCode.CLEAN


@app.command()
@command
def version() -> int:
    """Print the version."""
    sys.stdout.write(__version__ + "\n")
    return ExitCode.CLEAN


@app.command()
@command
def init(
    table: Annotated[str, typer.Option(help="CSV file with one line per image.")],
    images: Annotated[str, typer.Option(help="Directory, zip file or URL of the images.")],
    model: Annotated[str, typer.Option(help="Name of the model on the server.")],
    url: Annotated[str, typer.Option(help="host:port of the server's gRPC endpoint.")] = "127.0.0.1:8001",
    path: Annotated[Path, typer.Option("--out", help="Where to write the configuration.")] = Path("audit.yaml"),
) -> int:
    """Write a first configuration from a table and a server."""
    from audit_plugin.cli.starter import starter

    if path.exists():
        raise AuditError(f"{path} is there already; give another --out, or remove it")
    text, notes = starter(table=table, images=images, url=url, model=model)
    path.write_text(text)
    for note in notes:
        err.print(note, highlight=False, markup=False)
    err.print(f"wrote {path}; edit roles and phrases, then: audit-plugin doctor {path}", highlight=False)
    return ExitCode.CLEAN


@config_app.command("check")
@command
def config_check(path: ConfigPath, output: Output = Form.YAML) -> int:
    """Check a configuration offline and print it as it takes effect."""
    import yaml

    print_data(yaml.safe_load(load(path).text), Form.YAML if output is Form.TABLE else output)
    return ExitCode.CLEAN


@app.command()
@command
def doctor(path: ConfigPath, output: Output = Form.TABLE) -> int:
    """Check everything an audit needs: source, generator, detector, bank, store, server."""
    from audit_plugin.cli.doctor import examine

    found = list(examine(load(path)))
    if output is Form.TABLE:
        table = Table("subject", "check", "", "detail")
        for one in found:
            table.add_row(one.subject, one.check, "[green]ok[/green]" if one.ok else "[red]FAIL[/red]", one.detail)
        out.print(table)
    else:
        print_data([{"subject": o.subject, "check": o.check, "ok": o.ok, "detail": o.detail} for o in found], output)
    return ExitCode.CLEAN if all(one.ok for one in found) else ExitCode.COULD_NOT_RUN


@bank_app.command("build")
@command
def bank_build(
    path: ConfigPath,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Draw the probes that are missing, and let the detector read them.  Killed, it goes on where it was."""
    from audit_plugin.wiring import Installation

    with progress_bars() as progress:
        installation = Installation(load(path), progress)
        if dry_run:
            price = installation.price()
            facts: dict[str, object] = {
                "images": price.draw,
                "images_reused": price.reuse,
                "unet_evaluations": price.evaluations,
                "seconds": round(price.seconds, 1),
                "bytes": price.bytes,
            }
        else:
            evidence = installation.evidence()
            built = evidence.built
            facts = {
                "images": built.drawn,
                "images_reused": built.reused,
                "rejected": built.rejected,
                "unet_evaluations": built.evaluations,
                "seconds": round(built.seconds, 1),
                "bank": evidence.bank.digest,
                "backend": evidence.backend,
                "backend_reason": evidence.backend_reason,
            }
    _print_facts(facts, output)
    return ExitCode.CLEAN


@bank_app.command("verify")
@command
def bank_verify(path: ConfigPath, output: Output = Form.TABLE) -> int:
    """Hash every picture of the bank; damaged ones are drawn again by the next build."""
    from audit_plugin.bank.verify import verify_files
    from audit_plugin.wiring import Installation

    with progress_bars() as progress:
        files = verify_files(Installation(load(path), progress).bank, progress=progress)
    _print_facts({"checked": files.checked, "missing": len(files.missing), "corrupt": len(files.corrupt)}, output)
    return ExitCode.COULD_NOT_RUN if files.missing or files.corrupt else ExitCode.CLEAN


@generator_app.command("train")
@command
def generator_train(
    path: ConfigPath,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seconds: Annotated[float, typer.Option(help="Most training time; 0 leaves it to the recipe's steps.")] = 0.0,
) -> int:
    """Train the generator on the rows of ``generator.train``.  Killed, it goes on where it was."""
    from audit_plugin.wiring import train_generator

    with progress_bars() as progress:
        where = train_generator(load(path), device=device, seconds=seconds, progress=progress)
    err.print(f"wrote {where}", highlight=False)
    return ExitCode.CLEAN


@app.command("run")
@command
def run_audit(
    path: ConfigPath,
    model: Annotated[str | None, typer.Option(help="Audit this model only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the audit would cost.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Audit the configured models once: complete the bank, score it, judge, report."""
    from audit_plugin.wiring import Installation, open_store

    loaded = load(path)
    if dry_run:
        return _price(loaded, output)
    with progress_bars() as progress, open_store(loaded) as store:
        installation = Installation(loaded, progress)
        results = installation.audit(store, only=model)
        files = installation.report(results, store)
    print_results(results, output)
    spent = results[0].provenance
    queries = sum(result.provenance.classifier_queries for result in results)
    err.print(
        f"{spent.unet_evaluations} network evaluations, {queries} classifier queries"
        + (
            "; the bank was complete, nothing was drawn"
            if spent.unet_evaluations == 0
            else f" ({spent.backend}: {spent.backend_reason})"
        ),
        highlight=False,
    )
    err.print(f"report: {files[-1]}", highlight=False)
    return exit_code(results)


def _price(loaded: Loaded, output: Form) -> int:
    from audit_plugin.wiring import Installation

    with progress_bars() as progress:
        installation = Installation(loaded, progress)
        price = installation.price()
    queries = (price.draw + price.reuse + len(installation.source.rows)) * len(loaded.models)
    _print_facts(
        {
            "images": price.draw,
            "unet_evaluations": price.evaluations,
            "seconds": round(price.seconds, 1),
            "bytes": price.bytes,
            "classifier_queries_at_most": queries,
            "requests_in_flight_at_most": max(m.target.concurrency for m in loaded.models),
        },
        output,
    )
    return ExitCode.CLEAN


@app.command()
@command
def report(
    path: ConfigPath,
    run: Annotated[str | None, typer.Option(help="Run to report on; the last one of each model by default.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Directory, or a .html, .json or .md file.")] = None,
) -> int:
    """Write the report of the last runs (or of one) again."""
    from audit_plugin.wiring import Installation, open_store

    loaded = load(path)
    with progress_bars() as progress, open_store(loaded) as store:
        results = (store.run(run),) if run else store.last_runs()
        if not results:
            raise AuditError("there is no run to report on yet; `audit-plugin run` makes one")
        files = Installation(loaded, progress).report(results, store, to)
    for file in files:
        sys.stdout.write(f"{file}\n")
    return ExitCode.CLEAN


@app.command()
@command
def status(path: ConfigPath, output: Output = Form.TABLE) -> int:
    """The last runs and the open findings."""
    from audit_plugin.wiring import open_store

    with open_store(load(path)) as store:
        results = store.last_runs()
    if results:
        print_results(results, output)
    else:
        err.print("no run yet", highlight=False)
    return exit_code(results)


@app.command()
@command
def serve(path: ConfigPath) -> int:
    """Audit on an interval and serve metrics, health and reports until stopped."""
    from audit_plugin.cli.serving import serve_forever

    serve_forever(load(path))
    return ExitCode.CLEAN


@app.command()
@command
def demo(
    to: Annotated[Path, typer.Option("--out", help="Where everything of the demonstration goes.")] = Path("demo-output"),
    rows: Annotated[int, typer.Option(help="Scenes to audit with.")] = 150,
    keep: Annotated[bool, typer.Option("--keep", help="Leave server and metrics running until Ctrl-C.")] = False,
) -> int:
    """Audit two planted classifiers on a real Triton server, with everything embedded."""
    from audit_plugin.demo.run import run_demo

    with progress_bars() as progress:
        run_demo(to, rows=rows, keep=keep, progress=progress)
    return ExitCode.CLEAN


def _print_facts(facts: dict[str, object], output: Form) -> None:
    if output is not Form.TABLE:
        print_data(facts, output)
        return
    for name, value in facts.items():
        out.print(f"{name.replace('_', ' '):28} {value}", highlight=False)


def main() -> None:
    """Entry point of ``audit-plugin``."""
    app()
