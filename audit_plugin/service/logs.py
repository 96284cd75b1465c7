"""Log lines: JSON, one event name each, on stderr; stdout is for data."""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import FilteringBoundLogger, Processor

_BEFORE: tuple[Processor, ...] = (
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.dict_tracebacks,
)


def json_everywhere() -> None:
    """What libraries and other layers log takes the same form, for as long as the process lives."""
    structlog.configure(
        processors=[*_BEFORE, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    form = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=list(_BEFORE),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(form)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def json_logger(stream: TextIO | None = None) -> FilteringBoundLogger:
    """A logger of its own; nothing global is configured."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream or sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        processors=[*_BEFORE, structlog.processors.JSONRenderer()],
    )
    return logger
