"""The auditor's own command line with the renderer for an engine, slow enough to be interrupted.

python -m tests.end_to_end.slow_cli COMMAND CONFIG
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable

from tests.end_to_end.site import ROOT, RenderedGenerator, Site

PAUSE = float(os.environ.get("SLOW_CLI_PAUSE", "0.3"))


class SlowGenerator(RenderedGenerator):
    """Takes a break after every batch."""

    def generate(self, captions, seeds):
        time.sleep(PAUSE)
        return super().generate(captions, seeds)


def start(site: Site, *command: str, pause: float = PAUSE) -> "subprocess.Popen[str]":
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.slow_cli", *command, str(site.config)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "SLOW_CLI_PAUSE": str(pause)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(
    happened: Callable[[], object], process: "subprocess.Popen[str] | None" = None, seconds: float = 60, pause: float = 0.02
) -> None:
    """Return as soon as it has happened; fail when the process has ended before."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(pause)


def main() -> None:
    from audit_plugin import cli, wiring
    from audit_plugin.store.scores import SqlScoreTable

    add = SqlScoreTable.add

    def slow_add(self, target, scores) -> None:
        add(self, target, scores)
        time.sleep(PAUSE)

    wiring.EngineGenerator = SlowGenerator
    SqlScoreTable.add = slow_add
    cli.main()


if __name__ == "__main__":
    main()
