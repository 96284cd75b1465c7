"""``audit-plugin compare`` and ``audit-plugin gate``: what changed between two audits, and whether a version may be released."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_plugin.cli.command import ConfigPath, command
from audit_plugin.cli.console import ExitCode, Form, Report, out, print_data, print_rows, progress_bars, say
from audit_plugin.config import Loaded, load
from audit_plugin.core.errors import AuditError, ConfigError
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.release import FailOn, Judgement, judge

if TYPE_CHECKING:  # loaded by the commands that need them
    from audit_plugin.bank.table import BankTable
    from audit_plugin.core.comparison_results import Comparison, Side
    from audit_plugin.store.store import Store


class ReleaseForm(StrEnum):
    """How data are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    JUNIT = "junit"


ReleaseOutput = Annotated[ReleaseForm, typer.Option("--output", "-o", help="Form of the data on stdout.")]
Margin = Annotated[
    float | None, typer.Option(help="Margin of practical relevance; the audits' own by default.", min=0.0, show_default=False)
]
PairedOnly = Annotated[bool, typer.Option("--paired-only", help="Refuse runs whose rows cannot be paired.")]


@command
def compare_runs(
    first: Annotated[str, typer.Argument(metavar="A", help="Run id, model, or model:version.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, of what A is compared with.", show_default=False)],
    *,
    config: Annotated[Path, typer.Option("--config", "-c", help="YAML configuration.")] = Path("audit.yaml"),
    label: Annotated[str, typer.Option(help="Label column, where a model is audited against several.")] = "",
    margin: Margin = None,
    paired_only: PairedOnly = False,
    to: Annotated[Path | None, typer.Option("--out", help="Also write an .html or .json file.", show_default=False)] = None,
    output: ReleaseOutput = ReleaseForm.TABLE,
) -> int:
    """What changed from A to B: paired on the same pictures from stored answers, with no query to any server.

    Exit codes: 0 nothing regressed, 1 something did, 2 usage or configuration, 3 could not run, or nothing could be decided.
    """
    from audit_plugin.comparing import chosen
    from audit_plugin.core.comparison_results import UNDECIDED, Change, comparison_to_json
    from audit_plugin.wiring import open_store

    loaded = load(config)
    with progress_bars() as progress, open_store(loaded) as store:
        old, new = (chosen(store, word, label=label) for word in (first, second))
        desk = _Desk(loaded=loaded, store=store, progress=progress, margin=margin, paired_only=paired_only)
        comparison = desk.compared(old, new)
    if output is ReleaseForm.TABLE:
        _table(comparison)
    elif output is ReleaseForm.JUNIT:
        _junit([judge(new, comparison, {FailOn.REGRESSION})])
    else:
        print_data(json.loads(comparison_to_json(comparison)), Form(output.value))
    if to is not None:
        _write(to, comparison)
        say(f"wrote {to}")
    if comparison.of(Change.REGRESSED):
        return ExitCode.FINDINGS
    if not comparison.decided:
        say(f"could not be decided: {UNDECIDED}")
        return ExitCode.COULD_NOT_RUN
    return ExitCode.CLEAN


@command
def gate(
    path: ConfigPath,
    *,
    baseline: Annotated[str, typer.Option(help="Run id, model:version, or `previous`.")] = "previous",
    fail_on: Annotated[list[FailOn] | None, typer.Option(help="What must not be there; may be given several times.")] = None,
    model: Annotated[str | None, typer.Option(help="Judge this model only.", show_default=False)] = None,
    margin: Margin = None,
    paired_only: PairedOnly = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML to this file.", show_default=False)] = None,
    output: ReleaseOutput = ReleaseForm.TABLE,
) -> int:
    """May the last audited versions be released?  Judges stored runs; `audit-plugin run` makes them.  Fails on a regression by default.

    Exit codes: 0 clean, 1 what --fail-on names was found, 2 usage or configuration, 3 an audit or comparison could not be made or
    decides nothing, because all that matters is not assessable (1 with --fail-on undecided).
    """
    from audit_plugin.report.document import write_whole
    from audit_plugin.wiring import open_store

    wanted, loaded = frozenset(fail_on or [FailOn.REGRESSION]), load(path)
    with progress_bars() as progress, open_store(loaded) as store:
        desk = _Desk(loaded=loaded, store=store, progress=progress, margin=margin, paired_only=paired_only)
        judgements = [desk.judged(result, baseline, wanted) for result in _audited(loaded, store, model)]
    if junit is not None:
        from audit_plugin.report.junit import junit as document

        write_whole(junit, document(judgements))
    _print(judgements, output)
    for one in judgements:
        for case in one.of("error"):
            say(f"{one.model}:{one.version}: {case.message}")
    if any(one.of("error") for one in judgements):
        return ExitCode.COULD_NOT_RUN
    return ExitCode.FINDINGS if any(one.of("failed") for one in judgements) else ExitCode.CLEAN


def _audited(loaded: Loaded, store: "Store", model: str | None) -> Sequence[AuditResult]:
    """The last run of every configured model.  Raises ConfigError or AuditError where one has none."""
    audited = {(one.target.model, one.label) for one in loaded.models if model in {None, one.target.model}}
    if not audited:
        raise ConfigError(f"model {model!r} is not in the configuration; it has {', '.join(m.target.model for m in loaded.models)}")
    last = {(result.model, result.label): result for result in store.last_runs()}
    if missing := sorted(name for name, label in audited if (name, label) not in last):
        raise AuditError(f"there is no run of {', '.join(missing)} to judge; `audit-plugin run` makes one")
    return [last[key] for key in sorted(audited)]


@dataclass(frozen=True, kw_only=True)
class _Desk:
    """Where audits are compared, and how."""

    loaded: Loaded
    store: "Store"
    progress: Report
    margin: float | None
    paired_only: bool

    def compared(self, old: AuditResult, new: AuditResult) -> "Comparison":
        from audit_plugin.comparing import CompareOptions, compare
        from audit_plugin.comparing.pairing import why_not_paired

        options = CompareOptions(margin=self.margin, paired_only=self.paired_only)
        table = None if why_not_paired(old, new) else _bank_table(self.loaded, self.progress)
        return compare(old, new, table, self.store.scores, options)

    def judged(self, result: AuditResult, baseline: str, fail_on: frozenset[FailOn]) -> Judgement:
        """One model's cases; that there is nothing to compare with is one of them, and a wrong word is the user's error."""
        from audit_plugin.comparing import baseline as baseline_of

        old = baseline_of(self.store, result, baseline)
        if old is None or old.run == result.run or result.state.broken:
            return judge(result, None, fail_on)
        if old.model != result.model:
            _check_alike(old, result)
        return judge(result, self.compared(old, result), fail_on)


def _check_alike(old: AuditResult, new: AuditResult) -> None:
    """Raise ConfigError unless another model answers the same question."""
    if (old.label, old.classes) != (new.label, new.classes):
        raise ConfigError(
            f"--baseline: {old.model}:{old.version} is another model than {new.model}, judged against {old.label!r} with classes "
            f"{', '.join(old.classes)}, not {new.label!r} with {', '.join(new.classes)}; name a run of {new.model}, or --model"
        )


def _bank_table(loaded: Loaded, progress: Report) -> "BankTable | None":
    """The bank as it is now, with the real images where they are still there; None without a bank."""
    from audit_plugin.bank.join import load_table
    from audit_plugin.bank.store import ProbeBank
    from audit_plugin.wiring import Installation

    installation = Installation(loaded, progress)
    if not loaded.described or not installation.bank_exists:
        return None
    try:
        real = installation.real
    except AuditError as error:
        say(f"performance on real images is not compared: {error}")
        real = None
    bank = ProbeBank.open(loaded.config.bank.path)
    try:
        return load_table(bank, real=real)
    except AuditError as error:
        say(f"the bank cannot be used: {error}")
        return None


def _write(to: Path, comparison: "Comparison") -> None:
    from audit_plugin.core.comparison_results import comparison_to_json
    from audit_plugin.report.comparison import render_comparison
    from audit_plugin.report.document import write_whole

    if to.suffix not in {".html", ".json"}:
        raise ConfigError(f"--out {to}: name a file that ends in .html or .json")
    write_whole(to, render_comparison(comparison) if to.suffix == ".html" else comparison_to_json(comparison))


def _table(comparison: "Comparison") -> None:
    console = out()
    told_by = "paired on the same pictures and rows" if comparison.paired else f"not paired: {comparison.why_not}"
    rows = [
        {
            "quantity": one.quantity,
            "what": one.subject,
            "about": one.about,
            "old": one.old,
            "new": one.new,
            "difference": "" if one.difference is None else f"{one.difference.value:+.4f}",
            "95 %": "" if one.difference is None else f"{one.difference.low:+.4f} to {one.difference.high:+.4f}",
            "verdict": one.verdict.value.replace("_", " "),
        }
        for one in comparison.differences
    ]
    print_rows(rows, Form.TABLE)
    for finding in comparison.findings:
        said = "finding not looked for any more" if finding.status == "unseen" else f"{finding.status} finding"
        console.print(f"{said}: {finding.summary}", markup=False)
    for changed in comparison.gates:
        console.print(f"gate {changed.name} {changed.subject}: {changed.old} -> {changed.new}", markup=False)
    for note in comparison.notes:
        console.print(note, markup=False)
    console.print(f"{_name(comparison.old)} -> {_name(comparison.new)}, {told_by}. {comparison.headline}", markup=False)


def _name(side: "Side") -> str:
    return f"{side.model}:{side.version} ({side.run})"


def _print(judgements: Sequence[Judgement], output: ReleaseForm) -> None:
    if output is ReleaseForm.JUNIT:
        _junit(judgements)
        return
    rows = [
        {
            "model": f"{one.model}:{one.version}",
            "group": case.group,
            "case": case.name,
            "status": case.status,
            "message": case.message,
        }
        for one in judgements
        for case in one.cases
        if output is not ReleaseForm.TABLE or case.status != "passed"
    ]
    print_rows(rows, Form(output.value))
    if output is ReleaseForm.TABLE:
        for one in judgements:
            counts = ", ".join(f"{len(one.of(status))} {status}" for status in ("failed", "error", "skipped", "passed"))
            other = f"another model, {one.baseline_of}, run " if one.baseline_of else ""
            against = f" against {other}{one.baseline}" if one.baseline else ""
            out().print(f"{one.model}:{one.version}{against}: {counts}", markup=False)


def _junit(judgements: Sequence[Judgement]) -> None:
    from audit_plugin.report.junit import junit

    sys.stdout.write(junit(judgements))
