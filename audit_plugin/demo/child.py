"""Child processes that never outlive their parent: however it ends, they end."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

# Runs before the command in the same process: asks the kernel to end it when the parent dies, then becomes the command.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
if os.getppid() == parent:
    os.execvp(sys.argv[2], sys.argv[2:])
"""


def bound_to_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` until it ends or its parent does (Linux).

    Start it from a thread that outlives it: the kernel takes the thread that started a process for its parent.
    """
    return [sys.executable, "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]


def end_politely(process: "subprocess.Popen[bytes]", signals: Sequence[signal.Signals], *, patience_seconds: float) -> None:
    """Send one signal after the other until the process ends, then end what is left of its session (it must lead one)."""
    for number in signals:
        if process.poll() is not None:
            break
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
    kill_session(process)


def kill_session(process: "subprocess.Popen[bytes]") -> None:
    """End at once what is left of the session that this process leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
