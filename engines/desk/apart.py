"""Work in a process of its own, because vendors' libraries can end theirs, or hang."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from engines.errors import BackendError, EngineError, ProcessDiedError

T = TypeVar("T")

GRACE_SECONDS = 10.0
"""For a process to tidy up after its result is here."""


def apart(work: Callable[..., T], *arguments: object, seconds: float) -> T:
    """What ``work(*arguments)`` returns, from a fresh process; both must be picklable, and so must what is returned.

    Raises BackendError with the words of whatever the work raised, ProcessDiedError when its process dies or is not done in time.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise ProcessDiedError(f"not done after {seconds:.0f} s, and ended")
        succeeded, value = ours.recv()
        process.join(GRACE_SECONDS)
    except EOFError:
        process.join()
        raise ProcessDiedError(f"its process {_ending(process.exitcode)}: the library or its driver crashed") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if not succeeded:
        raise BackendError(value)
    result: T = value
    return result


def _work(answer: Connection, work: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    value: tuple[bool, Any]
    try:
        value = True, work(*arguments)
    except Exception as error:  # noqa: BLE001  (raised again by the parent; not every exception survives the way)
        value = False, str(error) if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
    answer.send(value)
    answer.close()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}"
