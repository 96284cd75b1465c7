"""Log lines: JSON, one event name each, on stderr; stdout is for data."""

import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger


def json_logger(stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger of its own; nothing global is configured."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
    )
    return logger
