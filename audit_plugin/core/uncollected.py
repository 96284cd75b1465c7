"""Garbage collection waits while a large document is read.

Of the millions of objects that a document becomes none is garbage, and looking through them again and again takes as long as reading it.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class _Pause:
    """Counts who reads; the last to end turns collection on again, if it was on."""

    def __init__(self) -> None:
        self._lock, self._readers, self._was_on = Lock(), 0, False

    def begin(self) -> None:
        with self._lock:
            if not self._readers:
                self._was_on = gc.isenabled()
            self._readers += 1
            gc.disable()

    def end(self) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers and self._was_on:
                gc.enable()


_PAUSE = _Pause()


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection within, in any thread of the process."""
    _PAUSE.begin()
    try:
        yield
    finally:
        _PAUSE.end()
