"""``audit-plugin export`` and ``audit-plugin verify``: the evidence of a run, and whether it is still what was written."""

import datetime as dt
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, complain, print_facts, progress_bars, say
from audit_plugin.cli.retention import whoami
from audit_plugin.config import load
from audit_plugin.core.errors import StoreError
from audit_plugin.core.results import AuditResult

if TYPE_CHECKING:  # loaded by the commands that need them
    from audit_plugin.store.records import Event
    from audit_plugin.store.store import Store

_ALL = 1_000_000
"""Lines of the audit log that are looked through."""


@command
def export_run(
    path: ConfigPath,
    *,
    to: Annotated[Path, typer.Option("--out", help="Directory, or a .zip file; must not be there.", show_default=False)],
    run: Annotated[str, typer.Option(help="Run id, model, or model:version (its last run).", show_default=False)],
    label: Annotated[str, typer.Option(help="Label column, where a model is audited against several.")] = "",
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="With the pictures that the report shows.")] = True,
    by: Annotated[str | None, typer.Option(help="Who asks for it; the user of this process by default.")] = None,
    output: Output = Form.TABLE,
) -> int:
    """Write the evidence of a run: result, report, configuration, policy, pictures, audit log, digests.  Needs no server.

    Anyone can check it without this program, by `sha256sum -c SHA256SUMS`; with it, by `audit-plugin verify`.
    """
    from pydantic import TypeAdapter

    from audit_plugin.bundling import evidence, write_bundle
    from audit_plugin.comparing import chosen
    from audit_plugin.findings.policy import Policy
    from audit_plugin.report.document import write_report
    from audit_plugin.wiring import Installation, open_store

    loaded = load(path)
    with progress_bars() as progress, open_store(loaded) as store:
        result = chosen(store, run, label=label)
        installation = Installation(loaded, progress)
        with tempfile.TemporaryDirectory() as folder:
            images = installation.pictures() if pictures else (lambda _sha: None)
            files = write_report(Path(folder), (result,), images, history=_before(result, store))
            report = {file.name: file.read_bytes() for file in files}
        contents = evidence(
            result,
            store.retention.document(result.run),
            report=report,
            policy=TypeAdapter(Policy).dump_json(loaded.policy, indent=2).decode(),
            policy_digest=loaded.policy.digest,
            events=_events(result, store),
            before=store.retention.link_before(result),
            pictures=images,
            with_pictures=pictures,
        )
        sealed = write_bundle(to, contents, created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"))
        store.retention.note(by or whoami(), "run_exported", result.run, f"manifest.json {sealed.manifest_sha256}")
    for left in contents.left_out:
        say(f"left out: {left}")
    print_facts({key: str(value) if key == "path" else value for key, value in asdict(sealed).items()}, output)
    return ExitCode.CLEAN


def _before(result: AuditResult, store: "Store") -> tuple[AuditResult, ...]:
    link = store.retention.link_before(result)
    return () if link is None else (store.run(link.run),)


def _events(result: AuditResult, store: "Store") -> "list[Event]":
    """Lines of the audit log about this run, its model, and its findings."""
    subjects = {result.run, result.model, f"{result.model}/{result.label}", *(finding.id for finding in result.findings)}
    return [event for event in reversed(store.events(limit=_ALL)) if event.subject in subjects or result.run in event.detail]


@command
def verify_bundle(
    bundle: Annotated[Path, typer.Argument(help="Directory or zip file.", show_default=False)],
    *,
    manifest: Annotated[str, typer.Option(help="SHA-256 that manifest.json must have, as `export` told it.")] = "",
    output: Output = Form.TABLE,
) -> int:
    """Check a bundle offline: every missing, changed or additional file is named.

    Exit codes: 0 it is what was written, 1 it is not, 2 usage, 3 it is no bundle.
    """
    from audit_plugin.bundling import verify

    found = verify(bundle)
    facts: dict[str, object] = {
        "run": found.run,
        "files": found.files,
        "missing": list(found.missing),
        "changed": list(found.changed),
        "additional": list(found.additional),
        "manifest_sha256": found.manifest_sha256,
        "previous_run": "" if found.previous is None else found.previous.get("run", ""),
    }
    print_facts(facts, output)
    if manifest and manifest.lower() != found.manifest_sha256:
        complain(StoreError(f"{bundle}: manifest.json is another than the one of {manifest}; all of it may have been exchanged"))
        return ExitCode.FINDINGS
    return ExitCode.CLEAN if found.sound else ExitCode.FINDINGS
