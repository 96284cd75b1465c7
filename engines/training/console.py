"""What the commands of this package have in common: progress, errors in one line, exit codes."""

import sys
import time
from collections.abc import Callable

from engines.errors import CaptionTooLongError, EngineError, PipelineError
from engines.training.errors import TrainingDataError


def progress(every_seconds: float = 5.0) -> Callable[[int, int, str], None]:
    """Lines on standard error, not too many."""
    told = [float("-inf")]

    def tell(done: int, total: int, what: str) -> None:
        if done == total or time.monotonic() - told[0] >= every_seconds:
            told[0] = time.monotonic()
            print(f"{done:>7}/{total} {what}", file=sys.stderr, flush=True)

    return tell


def ended(run: Callable[[], str]) -> int:
    """Run and say how it ended.

    Exit codes: 0 done, 2 what was given cannot be used, 3 training failed, 130 interrupted.
    """
    try:
        print(run(), file=sys.stderr)
    except (TrainingDataError, CaptionTooLongError, PipelineError) as error:
        return fail(error, 2)
    except EngineError as error:
        return fail(error, 3)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def fail(error: Exception, code: int) -> int:
    """One line on standard error; returns the code."""
    print(f"error: {error}", file=sys.stderr)
    return code
