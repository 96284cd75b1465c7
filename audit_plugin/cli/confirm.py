"""``audit-plugin concepts confirm``: have a person look at accepted edits, and read back what they say."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from audit_plugin.cli.command import ConfigPath, Output, command
from audit_plugin.cli.console import ExitCode, Form, print_facts, say
from audit_plugin.config import load
from audit_plugin.core.errors import ConfigError, StoreError


@command
def concepts_confirm(
    path: ConfigPath,
    *,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="CSV to fill in: yes or no beside each picture; stdout by default.", show_default=False),
    ] = None,
    answers: Annotated[Path | None, typer.Option("--answers", help="A filled-in CSV to read back.", show_default=False)] = None,
    output: Output = Form.TABLE,
) -> int:
    """Accepted edits for a person to confirm, one of twenty, as a CSV; with --answers read it back.  The next run counts the answers."""
    from audit_plugin.bank.confirmations import form, keep_answers, known_answers, read_form, verifier_precision
    from audit_plugin.bank.pictures import PictureFolder
    from audit_plugin.wiring import open_store

    loaded = load(path)
    with open_store(loaded) as store:
        audited = {(model.target.model, model.label) for model in loaded.models}
        results = [one for one in store.last_runs() if (one.model, one.label) in audited and one.diffex is not None]
    items = sorted({item for result in results if result.diffex is not None for item in result.diffex.to_confirm})
    if not items:
        raise StoreError("no accepted edit is there to confirm; `audit-plugin run` with a generator under `diffex` makes some")
    bank = Path(loaded.config.bank.path)
    if answers is None:
        pictures = PictureFolder(loaded.config.bank.images or str(bank / "images"))
        text = form(items, known_answers(bank), pictures.path)
        if to is None:
            sys.stdout.write(text)
            return ExitCode.CLEAN
        try:
            to.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{to} cannot be written: {error}") from error
        say(f"wrote {to}: {len(items)} edits; write yes or no under answer, then give it to --answers")
        return ExitCode.CLEAN
    known = {(item.picture, item.node) for item in items}
    said = {key: answer for key, answer in read_form(answers).items() if key in known}
    found = verifier_precision(items, keep_answers(bank, said))
    facts: dict[str, object] = {"edits": found.asked, "answered": found.answered, "right": found.right}
    if found.precision is not None:
        facts |= {"precision": found.precision.value, "low": found.precision.low, "high": found.precision.high}
    print_facts(facts, output)
    return ExitCode.CLEAN
