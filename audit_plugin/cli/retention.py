"""``audit-plugin prune``, ``forget``, ``hold`` and ``release``: what is deleted, and what may not be."""

import datetime as dt
import getpass
import hashlib
import re
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, print_facts, print_rows, progress_bars, say
from audit_plugin.config import Loaded, load
from audit_plugin.core.errors import AuditError, ConfigError

if TYPE_CHECKING:  # loaded by the commands that need them
    from audit_plugin.core.results import AuditResult
    from audit_plugin.core.values import Row
    from audit_plugin.store.store import Store


def whoami() -> str:
    """The user's name, for the log of events."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


By = Annotated[str | None, typer.Option(help="Who asks for it; the user of this process by default.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; stands in the audit log for ever.", show_default=False)]


@command
def prune_store(
    path: ConfigPath,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    pictures_days: Annotated[int | None, typer.Option(help="In place of `retention.pictures_days`.", min=0)] = None,
    runs_days: Annotated[int | None, typer.Option(help="In place of `retention.runs_days`.", min=0)] = None,
    scores_days: Annotated[int | None, typer.Option(help="In place of `retention.scores_days`.", min=0)] = None,
    by: By = None,
    output: Output = Form.TABLE,
) -> int:
    """Delete pictures, single rows of runs, and answers of old versions that are kept long enough; estimates and findings stay.

    What the last run of a model shows or rests on stays, and whatever is on hold.  Killed, it goes on when it is started again.
    """
    from audit_plugin.retention import doomed, prune
    from audit_plugin.wiring import alone, open_store

    loaded = load(path)
    given = {"pictures_days": pictures_days, "runs_days": runs_days, "scores_days": scores_days}
    options = replace(loaded.config.retention, **{name: days for name, days in given.items() if days is not None})
    root, images = Path(loaded.config.bank.path), loaded.config.bank.images
    with open_store(loaded) as store, alone(loaded, store):
        gone = doomed(store, root, images, options, now=dt.datetime.now(dt.UTC))
        if not dry_run:
            prune(gone, store, root, images, options=options, by=by or whoami())
    facts: dict[str, object] = {
        "pictures": len(gone.pictures),
        "picture_bytes": gone.picture_bytes,
        "old_pictures_kept": gone.kept_pictures,
        "runs_reduced": len(gone.runs),
        "runs": [run.run for run in gone.runs],
        "run_bytes_at_most": gone.run_bytes,
        "old_runs_on_hold": gone.held_runs,
        "answers": gone.answers,
        "answer_bytes": gone.answer_bytes,
        "model_versions": list(gone.targets),
    }
    print_facts(facts, output)
    done = "deleted; the audit log has a line for every class of data" if gone.anything else "nothing is old enough to go"
    say("nothing was deleted: this is what would go" if dry_run else done)
    return ExitCode.CLEAN


@command
def forget_image(
    path: ConfigPath,
    *,
    image: Annotated[str, typer.Option(help="The image file, or its SHA-256.", show_default=False)],
    reason: Reason,
    row: Annotated[list[str] | None, typer.Option(help="Row that showed it, where its file is gone already.")] = None,
    by: By = None,
    output: Output = Form.TABLE,
) -> int:
    """Delete an image by request, with all that was made of it and said of it; aggregates stay, and it is never taken in again.

    The file itself and the line of the table are yours to delete, and so are bundles that were exported.
    """
    from audit_plugin.retention import Places, forget
    from audit_plugin.retention.forget import rows_showing
    from audit_plugin.wiring import Installation, alone, open_store

    loaded, sha = load(path), _sha(image)
    config = loaded.config
    report = Path(config.report)
    places = Places(
        bank=Path(config.bank.path),
        images=config.bank.images,
        report=report.parent if report.suffix in {".html", ".json", ".md"} else report,
        capture=None if config.capture is None else Path(config.capture.path),
    )
    with progress_bars() as progress, open_store(loaded) as store, alone(loaded, store):
        rows = rows_showing(_known_rows(loaded), sha) | frozenset(row or ())
        told = forget(sha, store, places, rows=rows, by=by or whoami(), reason=reason)
        if told.anything and report.exists():
            last = _last(loaded, store)
            if last:
                Installation(loaded, progress).report(last, store)
                say(f"wrote {report} again, without it")
    facts = asdict(told) | {"rows": ", ".join(told.rows), "sha256": sha}
    print_facts(facts, output)
    if not told.rows and told.drawn:
        say("it was drawn for the bank: what it was drawn for is left out of later audits")
    elif not told.rows:
        say("no row of the audit shows it; where its file is gone already, name the row with --row")
    if not told.anything:
        say("nothing of it was left")
    return ExitCode.CLEAN


@command
def hold_subject(
    path: ConfigPath,
    subject: Annotated[
        str | None, typer.Argument(help="Run id, or model; all holds are listed without.", show_default=False)
    ] = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; stands in the audit log for ever.", show_default=False)] = "",
    by: By = None,
    output: Output = Form.TABLE,
) -> int:
    """Keep everything of a run, or of all runs of a model, from being pruned or forgotten."""
    from audit_plugin.wiring import open_store

    loaded = load(path)
    with open_store(loaded) as store:
        if subject is None:
            holds = store.retention.holds()
            print_rows([{**asdict(hold), "at": hold.at.isoformat(timespec="seconds")} for hold in holds], output)
            return ExitCode.CLEAN
        store.retention.hold(subject, by=by or whoami(), reason=reason)
    say(f"{subject} is on hold")
    return ExitCode.CLEAN


@command
def release_subject(
    path: ConfigPath,
    subject: Annotated[str, typer.Argument(help="Run id, or model, that is on hold.", show_default=False)],
    *,
    reason: Reason,
    by: By = None,
) -> int:
    """End a hold."""
    from audit_plugin.wiring import open_store

    loaded = load(path)
    with open_store(loaded) as store:
        store.retention.release(subject, by=by or whoami(), reason=reason)
    say(f"{subject} is no longer on hold")
    return ExitCode.CLEAN


def _sha(image: str) -> str:
    """Of a file, or the one that was given.  Raises ConfigError."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", image):
        return image.lower()
    try:
        with Path(image).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"--image {image!r}: {error.strerror}; give the image file, or its SHA-256 (64 hex digits)") from error


def _known_rows(loaded: Loaded) -> "list[Row]":
    """Rows of the bank's plan and of the table, forgotten ones too; what cannot be read is passed over."""
    from audit_plugin.bank.store import ProbeBank
    from audit_plugin.sources.folder import open_folder

    found: dict[str, Row] = {}
    with suppress(AuditError):
        found |= {row.id: row for row in ProbeBank.open(loaded.config.bank.path).plan().rows}
    with suppress(AuditError):
        found |= {row.id: row for row in open_folder(loaded.config.source, loaded.document.columns).rows}
    return list(found.values())


def _last(loaded: Loaded, store: "Store") -> "tuple[AuditResult, ...]":
    audited = {(model.target.model, model.label) for model in loaded.models}
    return tuple(result for result in store.last_runs() if (result.model, result.label) in audited)
