"""Leases: what only one process may do at a time, whichever it is, for as long as it says that it is still there."""

import datetime as dt
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from audit_plugin.core.errors import StoreError
from audit_plugin.store.database import errors_as_ours
from audit_plugin.store.tables import LeaseRow

LEASE_SECONDS = 30.0
"""How long a holder that was killed keeps others away."""

_PARTS = 4


def audit_lease(audit: str) -> str:
    """Name of the lease that is held while an audit is under way: its runs share pictures, so there is one at a time."""
    return f"audit {audit}"


def this_process() -> str:
    """A holder's name: host, process, and a word of its own, so that nobody takes it for one that had its number before."""
    return f"{socket.gethostname()}/{_numbering()}/{os.getpid()}/{secrets.token_hex(4)}"


def _numbering() -> str:
    """Whose process numbers these are: containers of one host name may each count for themselves."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "host"


def gone(holder: str) -> bool:
    """Whether a holder was a process of this host that is no more; False where that cannot be known."""
    host, *rest = holder.rsplit("/", _PARTS - 1)
    if [host, *rest[:1]] != [socket.gethostname(), _numbering()] or len(rest) != _PARTS - 1 or not rest[1].isdigit():
        return False
    try:
        os.kill(int(rest[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Leases:
    """Rows of the store's database; clocks of the processes must agree to within a few seconds."""

    def __init__(self, engine: Engine, clock: Callable[[], dt.datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def take(self, name: str, holder: str, *, seconds: float = LEASE_SECONDS) -> bool:
        """Take a lease that is free, or keep the one that is held; False while somebody else holds it who is still there."""
        now = self._clock().timestamp()
        if (before := self.holder(name)) is not None and before != holder and gone(before):
            self.leave(name, before)
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        wanted = insert(LeaseRow).values(name=name, holder=holder, until=now + seconds)
        mine = wanted.on_conflict_do_update(
            index_elements=[LeaseRow.name],
            set_={"holder": holder, "until": now + seconds},
            where=(LeaseRow.holder == holder) | (LeaseRow.until <= now),
        )
        with errors_as_ours(self._engine), self._engine.begin() as connection:
            return connection.scalar(mine.returning(LeaseRow.holder)) is not None

    def keep(self, name: str, holder: str, *, seconds: float = LEASE_SECONDS) -> bool:
        """Prolong a lease that is held; False when it was lost meanwhile."""
        prolonged = update(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder)
        with errors_as_ours(self._engine), self._engine.begin() as connection:
            until = self._clock().timestamp() + seconds
            return connection.scalar(prolonged.values(until=until).returning(LeaseRow.name)) is not None

    def leave(self, name: str, holder: str) -> None:
        """Give a lease back, if it is still held."""
        with errors_as_ours(self._engine), self._engine.begin() as connection:
            connection.execute(delete(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder))

    def holder(self, name: str) -> str | None:
        """Who holds it now."""
        held = select(LeaseRow.holder).where(LeaseRow.name == name, LeaseRow.until > self._clock().timestamp())
        with errors_as_ours(self._engine), self._engine.connect() as connection:
            return connection.scalar(held)

    @contextmanager
    def held(self, name: str, holder: str, *, lost: Callable[[], object], seconds: float = LEASE_SECONDS) -> Iterator[None]:
        """Hold a lease for as long as the context lasts, prolonged by a thread; ``lost`` is called once when it could not be.

        Raises StoreError while somebody else holds it.
        """
        if not self.take(name, holder, seconds=seconds):
            raise StoreError(f"{name} is held by {self.holder(name) or 'another process'}; wait until it is done, or stop it")
        over = threading.Event()

        def prolong() -> None:
            while not over.wait(seconds / 3):
                try:
                    kept = self.keep(name, holder, seconds=seconds)
                except StoreError:
                    continue  # asked again in a moment; when it runs out somebody else takes it, and the next answer is no
                if not kept:
                    lost()
                    return

        thread = threading.Thread(target=prolong, name="audit-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.leave(name, holder)
