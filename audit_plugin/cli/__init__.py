"""The command line: thin commands over wiring.  Data on stdout, everything else on stderr."""

from audit_plugin.cli.app import main

__all__ = ["main"]
