"""What the commands print and how: data on stdout, everything else on stderr, progress bars only on a terminal."""

import json
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum, StrEnum

import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.table import Table
from rich.text import Text
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from audit_plugin.core import protocols as core_protocols
from audit_plugin.core.results import AuditResult, to_json
from audit_plugin.report.controls import control_words, controls_failed
from audit_plugin.report.table import verdict_table

Report = core_protocols.Progress

_WIDTH = 160
"""Columns of a table that no terminal limits."""
_SPEAK_SECONDS = 10.0
"""How often a long stage says how far it is where there is no terminal."""


class ExitCode(IntEnum):
    """Documented and frozen."""

    CLEAN = 0
    FINDINGS = 1
    USAGE = 2
    COULD_NOT_RUN = 3
    INTERRUPTED = 130


class Form(StrEnum):
    """How data are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


err = Console(stderr=True, soft_wrap=True, highlight=False)


def out() -> Console:
    """Standard output, as wide as the terminal or wide enough."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


def say(text: str) -> None:
    """A remark on stderr, as it is."""
    err.print(text, markup=False)


def complain(error: Exception) -> None:
    """What went wrong, in one line on stderr."""
    err.print(Text.assemble(("error: ", "bold red"), " ".join(str(error).split())))


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A reporter of long work: bars with rate and time left on a terminal, one plain line per finished stage elsewhere."""
    if not err.is_terminal:
        yield _StageLines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, TaskID] = {}

        def report(done: int, total: int, what: str) -> None:
            stage = _stage(what)
            if stage not in tasks:
                tasks[stage] = bars.add_task(what, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total, description=what)

        yield report


class _Rate(TextColumn):
    """Items per second since the task's start."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")


class _StageLines:
    """One line when a stage ends, and one every ten seconds while it lasts; nothing about a stage with nothing to do."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}
        self._spoke: dict[str, float] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        now, stage = time.monotonic(), _stage(what)
        if done >= total:
            start = self._started.pop(stage, None)
            if start is not None:
                say(f"{what}: {total} in {now - start:.1f} s")
            return
        start = self._started.setdefault(stage, now)
        if now - self._spoke.setdefault(stage, start) > _SPEAK_SECONDS:
            self._spoke[stage] = now
            say(f"{what}: {done} of {total}")


def _stage(what: str) -> str:
    """The stage of a description such as "diffusion, loss 0.2"."""
    return what.split(",", maxsplit=1)[0]


def print_results(results: Sequence[AuditResult], form: Form) -> None:
    """The verdicts on stdout."""
    if form is not Form.TABLE:
        print_data([json.loads(to_json(result)) for result in results], form)
        return
    console = out()
    if any(result.concepts for result in results):
        console.print(verdict_table(results))
    for result in results:
        headline = Text.assemble((result.model, "bold"), f" v{result.version}: {result.state} - {result.headline}")
        console.print(headline)
        if said := control_words(result):
            console.print(Text(f"controls: {said}", style="bold red" if controls_failed(result) else "dim"))


def print_facts(facts: dict[str, object], form: Form) -> None:
    """Named values on stdout."""
    if form is not Form.TABLE:
        print_data(facts, form)
        return
    for name, value in facts.items():
        out().print(f"{name.replace('_', ' '):28} {value}", markup=False)


def print_rows(rows: Sequence[Mapping[str, object]], form: Form) -> None:
    """A table on stdout, or the same rows as a document; columns that are empty in every row are left out of the table."""
    if form is not Form.TABLE:
        print_data([dict(row) for row in rows], form)
        return
    columns = [name for name in (rows[0] if rows else ()) if any(row[name] not in {None, ""} for row in rows)]
    table = Table()
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")  # a key that is cut is no key
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    if rows:
        out().print(table)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else escape(str(value))


def print_data(data: object, form: Form) -> None:
    """A document on stdout, without colours or wrapping."""
    text = json.dumps(data, indent=2) if form is Form.JSON else yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def quiet_vendors() -> None:
    """Model libraries stay off the network and off the terminal; a request that is sent again is told on stderr."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "DIFFUSERS_VERBOSITY": "error",
        "TRANSFORMERS_VERBOSITY": "error",
    }
    set_on_retry_hooks([_tell_retry])


def logs_on_stderr() -> None:
    """What a command logs never mixes with what it prints."""
    import structlog

    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


def hush_warnings() -> None:
    """Vendors' warnings are for their developers; ``python -W`` brings them back."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _tell_retry(details: RetryDetails) -> None:
    say(f"asking again in {details.wait_for:.1f} s (attempt {details.retry_num + 1}): {' '.join(str(details.caused_by).split())}")
