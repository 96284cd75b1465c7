"""What TensorRT says: errors are kept for our own message, the rest goes to Python's log."""

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from engines.backends.trt import api
from engines.backends.trt.vendor import TensorRT

LOG = logging.getLogger(__name__)
KEPT = 20


class Listener(api.ILogger, Protocol):
    """The vendor's logger, with what it heard."""

    errors: deque[str]


def listener(trt: TensorRT) -> Listener:
    """A logger of the vendor's kind.  Keep it as long as anything that was made with it."""
    base: Any = trt.ILogger
    grave = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)

    class _Listener(base):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 wants it by name
            self.errors: deque[str] = deque(maxlen=KEPT)

        def log(self, severity: api.Severity, msg: str) -> None:
            if severity in grave:
                self.errors.append(msg)
            LOG.log(logging.WARNING if severity == trt.ILogger.WARNING else logging.DEBUG, "%s", msg)

    heard: Listener = _Listener()
    return heard


def said(errors: Sequence[str]) -> str:
    """The last errors, or that there were none."""
    return " | ".join(list(errors)[-3:]) or "it gives no reason"
