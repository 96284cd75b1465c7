"""The commands."""

import datetime as dt
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from audit_plugin import __version__
from audit_plugin.cli.bundle import export_run, verify_bundle
from audit_plugin.cli.capture import capture_app
from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.concepts import concepts_app
from audit_plugin.cli.confirm import concepts_confirm
from audit_plugin.cli.console import (
    ExitCode,
    Form,
    complain,
    hush_warnings,
    logs_on_stderr,
    out,
    print_data,
    print_facts,
    print_results,
    print_rows,
    progress_bars,
    say,
)
from audit_plugin.cli.discover import discover
from audit_plugin.cli.engines import engines_app
from audit_plugin.cli.generator_import import generator_import
from audit_plugin.cli.release import compare_runs, gate
from audit_plugin.cli.retention import forget_image, hold_subject, prune_store, release_subject
from audit_plugin.cli.selftest import selftest
from audit_plugin.config import Loaded, load, schema
from audit_plugin.core.errors import ConfigError, StoreError
from audit_plugin.core.results import AuditResult, RunState
from audit_plugin.service.tokens import Role

if TYPE_CHECKING:  # loaded by the commands that need them
    from audit_plugin.methods.counterfactuals.price import MostCounterfactuals
    from audit_plugin.runner import Evidence
    from audit_plugin.store.store import Store
    from audit_plugin.wiring import Installation

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
app.command()(discover)
app.command()(selftest)
app.command("compare")(compare_runs)
app.command("gate")(gate)
app.command("export")(export_run)
app.command("verify")(verify_bundle)
app.command("prune")(prune_store)
app.command("forget")(forget_image)
app.command("hold")(hold_subject)
app.command("release")(release_subject)
app.add_typer(config_app, name="config")
app.add_typer(bank_app, name="bank")
app.add_typer(generator_app, name="generator")
generator_app.command("import")(generator_import)
app.add_typer(engines_app, name="engines")
concepts_app.command("confirm")(concepts_confirm)
app.add_typer(concepts_app, name="concepts")
app.add_typer(capture_app, name="capture")


def exit_code(results: Sequence[AuditResult]) -> ExitCode:
    """An audit that did not work outranks findings, findings outrank a clean one."""
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
    from audit_plugin.cli.starter import write_starter

    for note in write_starter(path, table=table, images=images, url=url, model=model):
        say(note)
    say(f"wrote {path}; edit roles and phrases, then: audit-plugin doctor {path}")
    return ExitCode.CLEAN


@config_app.command("check")
@command
def config_check(path: ConfigPath, output: Output = Form.YAML) -> int:
    """Check a configuration offline and print it as it takes effect."""
    import yaml

    print_data(yaml.safe_load(load(path).text), Form.YAML if output is Form.TABLE else output)
    return ExitCode.CLEAN


@config_app.command("schema")
@command
def config_schema(output: Output = Form.JSON) -> int:
    """Print the JSON Schema of the configuration, for editors and checks elsewhere."""
    print_data(schema(), Form.JSON if output is Form.TABLE else output)
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
        out().print(table)
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
        facts = priced(installation) if dry_run else built(installation.evidence())
    print_facts(facts, output)
    return ExitCode.CLEAN


def priced(installation: "Installation") -> dict[str, object]:
    """What completing the bank would cost."""
    price = installation.price()
    return {
        "images": price.draw,
        "images_reused": price.reuse,
        "unet_evaluations": price.evaluations,
        "seconds": round(price.seconds, 1),
        "bytes": price.bytes,
    }


def built(evidence: "Evidence") -> dict[str, object]:
    """What completing the bank took."""
    did = evidence.built
    return {
        "images": did.drawn,
        "images_reused": did.reused,
        "rejected": did.rejected,
        "unet_evaluations": did.evaluations,
        "seconds": round(did.seconds, 1),
        "bank": evidence.bank.digest,
        "backend": evidence.backend,
        "backend_reason": evidence.backend_reason,
    }


@bank_app.command("verify")
@command
def bank_verify(path: ConfigPath, output: Output = Form.TABLE) -> int:
    """Hash every picture of the bank; damaged ones are drawn again by the next build."""
    from audit_plugin.bank.edit_store import FILE
    from audit_plugin.bank.store import ProbeBank
    from audit_plugin.bank.verify import verify_edits, verify_files

    loaded = load(path)
    bank = loaded.config.bank
    with progress_bars() as progress:
        if not loaded.described and (Path(bank.path) / FILE).is_file():
            files = verify_edits(Path(bank.path), bank.images, progress=progress)
        else:
            files = verify_files(ProbeBank.open(bank.path), progress=progress)
    print_facts({"checked": files.checked, "missing": len(files.missing), "corrupt": len(files.corrupt)}, output)
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
    say(f"wrote {where}")
    return ExitCode.CLEAN


@generator_app.command("solver")
@command
def generator_solver(
    path: ConfigPath,
    *,
    steps: Annotated[int, typer.Option(help="Evaluations of one picture.", min=1)],
    pictures: Annotated[int, typer.Option(help="Drawn in full to fit to.", min=2)] = 64,
    output: Output = Form.TABLE,
) -> int:
    """Fit a solver to the generator's plan: nearly the same pictures for fewer evaluations.  Use it as ``generator.solver``."""
    from audit_plugin.wiring import fit_generator_solver

    with progress_bars() as progress:
        report = fit_generator_solver(load(path), steps=steps, pictures=pictures, progress=progress)
    print_facts(asdict(report), output)
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
    from audit_plugin.wiring import Installation, alone, open_store, parted

    loaded = load(path)
    if dry_run:
        return _price(loaded, output)
    with progress_bars() as progress, open_store(loaded) as store, alone(loaded, store):
        installation = Installation(loaded, progress)
        results, errors = parted(installation.attempts(store, only=model))
        files = installation.report(results, store) if results else ()
    if results:
        print_results(results, output)
        say(_spent(results))
        say(f"report: {files[-1]}")
    for error in errors:
        complain(error)
    return errors[0].exit_code if errors else exit_code(results)


def _spent(results: Sequence[AuditResult]) -> str:
    """What a run cost, in words."""
    evaluations = sum(result.provenance.unet_evaluations for result in results)
    queries = sum(result.provenance.classifier_queries for result in results)
    first = results[0].provenance
    how = first.backend_reason if evaluations == 0 else f"{first.backend}: {first.backend_reason}"
    return f"{evaluations} network evaluations ({how}), {queries} classifier queries"


def _price(loaded: Loaded, output: Form) -> int:
    from audit_plugin.target.load.pricing import added_load
    from audit_plugin.wiring import Installation

    with progress_bars() as progress:
        installation = Installation(loaded, progress)
        price = priced(installation)
        pictures = len(installation.source.rows) + sum(int(str(price[key])) for key in ("images", "images_reused"))
        edits, asked = installation.price_edits()
        flips = installation.price_counterfactuals()
    if loaded.config.diffex is not None:
        price |= {
            "edits_at_most": edits.edits,
            "edits_reused": edits.reuse,
            "edit_network_rows_at_most": edits.network_rows,
            "edit_seconds_at_most": "not measured yet" if edits.seconds is None else round(edits.seconds, 1),
            "edit_bytes_at_most": edits.bytes,
        }
    if flips is not None:
        asked += flips.queries
        price |= _flips_priced(flips)
    queries = pictures * len(loaded.models) + asked
    added = added_load(queries, [model.target for model in loaded.models])
    print_facts(price | {"classifier_queries_at_most": queries} | dict(added), output)
    return ExitCode.CLEAN


def _flips_priced(most: "MostCounterfactuals") -> dict[str, object]:
    return {
        "counterfactuals": most.pictures,
        "counterfactuals_in_bank": "not taken off: which are there is known once the server says which version it serves",
        "counterfactual_network_rows_at_most": most.network_rows,
        "counterfactual_queries_at_most": most.queries,
    }


@app.command()
@command
def report(
    path: ConfigPath,
    run: Annotated[str | None, typer.Option(help="Run to report on; the last one of each model by default.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Directory, or a .html, .json or .md file.")] = None,
) -> int:
    """Write the report of the last runs (or of one) again; needs the store and the bank, no server and no real images."""
    from audit_plugin.wiring import Installation, open_store

    loaded = load(path)
    with progress_bars() as progress, open_store(loaded) as store:
        results = (store.run(run),) if run else _last(loaded, store)
        if not results:
            raise StoreError("there is no run to report on yet; `audit-plugin run` makes one")
        files = Installation(loaded, progress).report(results, store, to)
    for file in files:
        sys.stdout.write(f"{file}\n")
    return ExitCode.CLEAN


@app.command()
@command
def explain(
    path: ConfigPath,
    model: Annotated[str | None, typer.Option(help="Explain this model only.")] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Directory, or a .html, .json or .md file.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Make images that flip the audited models' decisions, and report what changes along; `explain` in the configuration says how."""
    from audit_plugin.findings.counterfactuals import said_along
    from audit_plugin.wiring import Installation, alone, open_store

    loaded = load(path)
    if dry_run:
        most = Installation(loaded, lambda *_: None).price_counterfactuals(model)
        if most is None:
            raise ConfigError("explain: this key is required; `explain: {}` takes its defaults (docs/counterfactuals.md)")
        print_facts(_flips_priced(most), output)
        return ExitCode.CLEAN
    with progress_bars() as progress, open_store(loaded) as store, alone(loaded, store):
        installation = Installation(loaded, progress)
        last = {result.model: result for result in _last(loaded, store)}
        results = tuple(installation.explained(last, store, only=model))
        files = installation.report(results, store, to)
    print_rows(
        [
            {
                "model": result.model,
                "method": told.method,
                "rung": told.rung,
                "flips": f"{told.figures.flips} of {len(told.items)}",
                "median l1": told.figures.median_l1,
                "changes along": said_along(told),
            }
            for result in results
            if (told := result.counterfactuals) is not None
        ],
        output,
    )
    say(f"report: {files[-1]}")
    return ExitCode.CLEAN


@app.command()
@command
def status(path: ConfigPath, output: Output = Form.TABLE) -> int:
    """The last run of every configured model."""
    from audit_plugin.wiring import open_store

    loaded = load(path)
    with open_store(loaded) as store:
        results = _last(loaded, store)
    if results or output is not Form.TABLE:
        print_results(results, output)
    else:
        say("no run yet")
    return exit_code(results)


def _last(loaded: Loaded, store: "Store") -> tuple[AuditResult, ...]:
    """The last runs of the models that are configured now."""
    audited = {(model.target.model, model.label) for model in loaded.models}
    return tuple(result for result in store.last_runs() if (result.model, result.label) in audited)


@app.command()
@command
def serve(path: ConfigPath) -> int:
    """Audit on schedule and on every new model version, and serve metrics, pages and REST API until stopped."""
    from audit_plugin.service.installed import serve_forever

    serve_forever(path)
    return ExitCode.CLEAN


@app.command("token")
@command
def make_a_token(
    path: Annotated[Path, typer.Argument(help="File of tokens, as `serve.tokens` names it; made when it is not there.")],
    name: Annotated[str, typer.Option(help="Who it is for; stands in the audit log.")],
    role: Annotated[Role, typer.Option(help="What it is good for.")] = Role.READ,
    until: Annotated[dt.datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day (UTC) on which it is good.")] = None,
) -> int:
    """Make a token for pages and REST API, and print it once; the file keeps its hash alone."""
    from audit_plugin.service.tokens import make_token

    sys.stdout.write(make_token(path, name=name, role=role, until=until.date() if until else None) + "\n")
    say(f"{path} knows {name} as {role} now; to take the token back, delete that line")
    return ExitCode.CLEAN


@app.command()
@command
def demo(
    to: Annotated[Path, typer.Option("--out", help="Where everything of the demonstration goes.")] = Path("demo-output"),
    rows: Annotated[int, typer.Option(help="Scenes to audit with.", min=1)] = 150,
    keep: Annotated[bool, typer.Option("--keep", help="Leave server and metrics running until Ctrl-C.")] = False,
) -> int:
    """Audit two planted classifiers on a real Triton server, with everything embedded."""
    from audit_plugin.demo.run import run_demo

    run_demo(to, rows=rows, keep=keep, bars=progress_bars)
    return ExitCode.CLEAN


def main() -> None:
    """Entry point of ``audit-plugin``."""
    hush_warnings()
    logs_on_stderr()
    app()
