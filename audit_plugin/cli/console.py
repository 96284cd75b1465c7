"""What the commands print and how: progress only on a terminal, errors in one line, exit codes that are frozen."""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum, StrEnum

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

from audit_plugin.core import protocols as core_protocols
from audit_plugin.core.results import AuditResult, to_json
from audit_plugin.report.table import verdict_table

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Report = core_protocols.Progress


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


class _Rate(TextColumn):
    """Items per second since the task's start."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bars() -> Iterator[Report]:
    """A reporter of long work: bars with rate and time left on a terminal, one line per finished stage elsewhere."""
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
        tasks: dict[str, object] = {}

        def report(done: int, total: int, what: str) -> None:
            stage = what.split(",", maxsplit=1)[0]
            if stage not in tasks:
                tasks[stage] = bars.add_task(what, total=total, completed=done)
            bars.update(tasks[stage], completed=done, total=total, description=what)  # type: ignore[arg-type]

        yield report


class _StageLines:
    """One line when a stage ends, and one a minute while it lasts."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.spoke: dict[str, float] = {}

    def __call__(self, done: int, total: int, what: str) -> None:
        now, stage = time.monotonic(), what.split(",", maxsplit=1)[0]
        start = self.started.setdefault(stage, now)
        spoke = self.spoke.setdefault(stage, now)
        if done >= total and start > 0:
            self.started[stage] = -1.0
            err.print(f"{what}: {total} in {now - start:.1f} s", highlight=False)
        elif now - spoke > 60:
            self.spoke[stage] = now
            err.print(f"{what}: {done} of {total}", highlight=False)


def print_results(results: Sequence[AuditResult], form: Form) -> None:
    """The verdicts on stdout."""
    if form is Form.TABLE:
        out.print(verdict_table(results))
        for result in results:
            out.print(f"[bold]{result.model}[/bold] v{result.version}: {result.state} - {result.headline}", highlight=False)
        return
    documents = [json.loads(to_json(result)) for result in results]
    print_data(documents, form)


def print_data(data: object, form: Form) -> None:
    """A document on stdout, without colours or wrapping."""
    text = json.dumps(data, indent=2) if form is Form.JSON else yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def quiet_vendors() -> None:
    """Model libraries stay off the network and off the terminal."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
