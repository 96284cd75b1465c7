"""What every command is wrapped in, and the arguments that many share."""

import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from audit_plugin.cli.console import ExitCode, Form, complain, quiet_vendors, say
from audit_plugin.core.errors import AuditError

P = ParamSpec("P")

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
            complain(error)
            code = error.exit_code
        except KeyboardInterrupt:
            say("interrupted; run the same command again to go on")
            code = ExitCode.INTERRUPTED
        except Exception:  # noqa: BLE001  (a mistake of ours must not end with 1, which means findings)
            traceback.print_exc()
            code = ExitCode.COULD_NOT_RUN
        raise typer.Exit(int(code))

    return run
