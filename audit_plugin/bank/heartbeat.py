"""Word from work that says nothing for minutes: told at intervals, from a thread of its own, for as long as the work lasts."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TypeVar

Tell = TypeVar("Tell", bound=Callable[[], None])


@contextmanager
def heartbeat(tell: Tell, *, every: float) -> Iterator[Tell]:
    """Call ``tell`` every so many seconds, and not once after the context has ended."""
    ended = Event()

    def beat() -> None:
        while not ended.wait(every):
            tell()

    thread = Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        ended.set()
        thread.join()
