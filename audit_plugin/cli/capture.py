"""``audit-plugin capture``: what was captured of production, a copy for an audit, and deletion of single pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audit_plugin.capture.files import bury, read_tombstones
from audit_plugin.capture.intake import captured_targets
from audit_plugin.capture.options import CaptureOptions
from audit_plugin.capture.snapshot import purge, snapshot, status_of
from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, print_facts, print_rows, say
from audit_plugin.config import load
from audit_plugin.core.errors import ConfigError, SourceError
from audit_plugin.target.health import served

capture_app = typer.Typer(no_args_is_help=True, help="Look at captured production pictures.")


def _captured(config: Path) -> tuple[CaptureOptions, tuple[str, ...]]:
    """The section, and the captured models.  Raises ConfigError where capture is off."""
    loaded = load(config)
    options = loaded.config.capture
    if options is None:
        raise ConfigError(f"{config}: capture is off; give the section `capture` with a `path`")
    return options, tuple(captured_targets(options, [model.target for model in loaded.models]))


@capture_app.command("status")
@command
def capture_status(config: ConfigPath, *, output: Output = Form.TABLE) -> int:
    """Show how many pictures of each model are kept, and of how many the answer is known."""
    options, models = _captured(config)
    print_rows([asdict(status_of(Path(options.path), model)) for model in models], output)
    try:
        buried = len(read_tombstones(Path(options.path)))
    except OSError as error:
        raise SourceError(f"the list of deleted pictures in {options.path!r} cannot be read: {error}") from error
    say(f"{buried} pictures were deleted for all time")
    return ExitCode.CLEAN


@capture_app.command("snapshot")
@command
def capture_snapshot(
    config: ConfigPath,
    *,
    model: Annotated[str, typer.Option(help="Captured model.", show_default=False)],
    to: Annotated[Path, typer.Option("--out", help="New directory of the copy.", show_default=False)],
    output: Output = Form.TABLE,
) -> int:
    """Copy a sample, as pictures and table.csv, into a directory that an audit can take as its source; rows without an answer are left out."""
    options, models = _captured(config)
    if model not in models:
        raise ConfigError(f"model {model!r} is not captured; captured are {', '.join(models)}")
    target = next(one.target for one in load(config).models if one.target.model == model)
    found = served(target)
    rows = snapshot(Path(options.path), model, to, names=target.labels or found.labels)
    if not found.up and not target.labels:
        say(
            f"the server does not say what its classes are called, so their numbers are kept ({found.detail}); `labels` of the model would name them"
        )
    print_facts({"images": str(to), "table": str(to / "table.csv"), "rows": rows}, output)
    say("as `source`: give both, `id_column: id`, and a label column; `predicted` is what the model answered, not what is true")
    return ExitCode.CLEAN


@capture_app.command("forget")
@command
def capture_forget(
    config: ConfigPath,
    *,
    sha256: Annotated[
        list[str], typer.Option(help="Picture, by the column sha256 of the table; again for each.", show_default=False)
    ],
) -> int:
    """Delete pictures from all samples, for all time: they are not captured again.  Copies made before are not touched."""
    options, models = _captured(config)
    try:
        bury(Path(options.path), sha256)
        done = purge(options, models)
    except OSError as error:
        raise SourceError(f"{options.path!r} cannot be written: {error}") from error
    busy = [model for model, here in done.items() if not here]
    say("deleted" + (f"; the service that captures {', '.join(busy)} deletes them within a minute" if busy else ""))
    return ExitCode.CLEAN
