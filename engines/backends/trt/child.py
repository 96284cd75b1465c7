"""The process that builds: ``python -m engines.backends.trt.child REQUEST REPORT``, two JSON files.  It may die of it; its parent tells."""

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from engines.backends.trt.planner import Refused, make_plan
from engines.backends.trt.request import read_request
from engines.driver import cuda_driver

_PR_SET_PDEATHSIG = 1


def main(request: Path, report: Path, driver: Callable[[], str | None] = cuda_driver) -> int:
    """0 when the plan is written; else 1, and the report says why."""
    os.umask(0o077)  # plans are code: nobody else may write them
    _die_with_parent()
    try:
        _build(request, driver)
    except Refused as refusal:
        report.write_text(json.dumps({"stage": refusal.stage, "reasons": refusal.reasons}), encoding="utf-8")
        return 1
    return 0


def _build(path: Path, driver: Callable[[], str | None]) -> None:
    reason = driver()
    if reason is not None:
        raise Refused("driver", [reason])
    request = read_request(path)
    make_plan(importlib.import_module(request.module), request)


def _die_with_parent() -> None:
    """A builder whose parent was killed would keep the device busy for nobody."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
