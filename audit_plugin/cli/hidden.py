"""``audit-plugin engines export-hidden``: what a classifier has inside, and a model that shows it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from audit_plugin.cli.command import Output, command
from audit_plugin.cli.console import ExitCode, Form, print_rows, say
from audit_plugin.cli.engine_cache import engine_errors
from audit_plugin.config import load
from audit_plugin.core.errors import ConfigError


@command
def engines_export_hidden(
    config: Annotated[Path, typer.Argument(help="Configuration whose model it is.", show_default=False)],
    *,
    model: Annotated[str, typer.Option(help="Audited model whose hidden units are to be served.", show_default=False)],
    file: Annotated[Path, typer.Option(help="The ONNX file that the server runs.", show_default=False)],
    outputs: Annotated[str, typer.Option(help="Tensors of the file, separated by commas.")] = "",
    repo: Annotated[Path | None, typer.Option("--repo", help="Model repository of the server.", show_default=False)] = None,
    listed: Annotated[bool, typer.Option("--list", help="Only show which tensors there are; the server is not asked.")] = False,
    platform: Annotated[Literal["python", "onnxruntime"], typer.Option(help="What the server runs it by.")] = "python",
    batch: Annotated[int, typer.Option(help="Most images of a request.", min=1)] = 16,
    maps: Annotated[bool, typer.Option("--maps", help="Show where in a picture units respond, too, as <tensor>_map.")] = False,
    output: Output = Form.TABLE,
) -> int:
    """Write a second model, <model>_hidden, that also answers hidden units of an audited classifier; nothing for another model's file."""
    from audit_plugin.wiring import export_hidden, hidden_tensors

    loaded = load(config)
    with engine_errors():
        if listed:
            print_rows(hidden_tensors(loaded, model, file), output)
            return ExitCode.CLEAN
        names = [name.strip() for name in outputs.split(",") if name.strip()]
        if repo is None or not names:
            raise ConfigError("give --repo and --outputs, or --list, which shows what tensors there are")
        rows, parity = export_hidden(loaded, model, file, repo, names, platform=platform, batch=batch, maps=maps)
    print_rows(rows, output)
    say(f"compared with {file}: {parity}")
    return ExitCode.CLEAN
