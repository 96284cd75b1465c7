"""Child processes of this backend: the trial of the runtime, and builds.  However one ends, the answer is a value or one clear error."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engines.backends.trt import trial
from engines.backends.trt.request import BuildRequest, write_request
from engines.errors import PlanError

TRIAL = (sys.executable, "-P", str(trial.__file__))
BUILD = (sys.executable, "-m", "engines.backends.trt.child")
TRIAL_SECONDS = 120.0


def try_runtime(module: str, environment: Mapping[str, str], command: tuple[str, ...] = TRIAL) -> str | None:
    """Why TensorRT's runtime does not start here, or None."""
    try:
        done = subprocess.run(  # noqa: S603  # our own interpreter, and no shell
            [*command, module], capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False, env=_child(environment)
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{module} does not start within {TRIAL_SECONDS:.0f} s"
    if done.returncode == 0:
        return None
    return f"{module} does not start: {_ending(done.returncode, done.stderr, 1)}; its CUDA version must suit the driver"


def try_once(module: str, environment: Mapping[str, str]) -> str | None:
    """The same, once in a process."""
    return _tried(module, tuple(sorted(environment.items())))


@cache
def _tried(module: str, environment: tuple[tuple[str, str], ...]) -> str | None:
    return try_runtime(module, dict(environment))


@dataclass(frozen=True)
class ChildBuild:
    """Builds in a process of its own, so that a crash costs the build and nothing else."""

    command: tuple[str, ...] = BUILD

    def __call__(self, request: BuildRequest, environment: Mapping[str, str]) -> None:
        """The plan is there afterwards, or a PlanError says why not and nothing is left behind."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                self._run(request, Path(folder), environment)
        except BaseException:
            Path(request.plan).unlink(missing_ok=True)
            raise

    def _run(self, request: BuildRequest, folder: Path, environment: Mapping[str, str]) -> None:
        asked, report, output = folder / "request.json", folder / "report.json", folder / "output"
        write_request(request, asked)
        with output.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  # our own interpreter, and no shell
                [*self.command, str(asked), str(report)], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                env=_child(environment), start_new_session=True,
            )  # fmt: skip
            code = _waited(process, request.options.timeout_seconds)
        if report.exists():
            told = json.loads(report.read_text(encoding="utf-8"))
            raise PlanError(told["stage"], told["reasons"])
        if code is None:
            raise PlanError("timeout", [f"not finished after {request.options.timeout_seconds:.0f} s"])
        if code != 0 or not Path(request.plan).exists():
            raise PlanError("crash", [_ending(code, output.read_text(encoding="utf-8", errors="replace"))])


def _waited(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Exit code, or None after so many seconds; whatever happens, no process is left."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _ending(code: int, output: str, lines: int = 3) -> str:
    """How a process ended and what it said last."""
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if code == -signal.SIGKILL:
        how += " (killed, perhaps for want of host memory)"
    said = output.strip().splitlines()[-lines:]
    return f"{how}{': ' if said else ''}{' | '.join(said)}"


def _child(environment: Mapping[str, str]) -> dict[str, str]:
    """What can be imported here can be imported there."""
    path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return {**os.environ, **environment, "PYTHONPATH": path}
