"""Who may do what: bearer tokens of a role each, of which a file holds hashes alone.

A line of the file is ``NAME ROLE sha256:HEX [UNTIL]``; ``UNTIL`` is a date (UTC) after which the token is void.  The tokens are 256 random
bits, so a plain hash of them cannot be searched.  The file is read again when it has changed.
"""

import datetime as dt
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from audit_plugin.core.errors import ConfigError

_PREFIX = "sha256:"


class Role(StrEnum):
    """What a token is good for; each includes those before it."""

    READ = "read"
    """Look: pages, findings, reports, pictures."""
    RUN = "run"
    """Ask for runs and cancel them, acknowledge findings, send captured requests."""
    ADMIN = "admin"
    """Read the audit log."""

    def allows(self, wanted: "Role") -> bool:
        """Whether it is enough for something that needs ``wanted``.

        >>> Role.RUN.allows(Role.READ), Role.READ.allows(Role.RUN)
        (True, False)
        """
        order = list(Role)
        return order.index(self) >= order.index(wanted)


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Somebody who asks."""

    name: str
    role: Role


LOCAL = Principal(name="local", role=Role.ADMIN)
"""Whoever reaches the loopback interface, where no tokens are asked for."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    who: Principal
    digest: str
    until: dt.date | None


class Tokens:
    """The file of tokens; shared by threads."""

    def __init__(self, path: Path, *, today: Callable[[], dt.date] = lambda: dt.datetime.now(dt.UTC).date()) -> None:
        """Raises ConfigError for a file that cannot be read or says nothing sensible."""
        self._path, self._today = path, today
        self._lock = threading.Lock()
        self._seen = (0, 0)
        self._entries: tuple[_Entry, ...] = ()
        self._entries, self._seen = self._read()

    def who(self, token: str) -> Principal | None:
        """Whose token that is; None for one that is unknown or void."""
        digest, found = _digest(token), None
        for entry in self._current():
            if hmac.compare_digest(entry.digest, digest) and (entry.until is None or self._today() <= entry.until):
                found = entry.who
        return found

    def _current(self) -> tuple[_Entry, ...]:
        """As the file stands; as it was while it cannot be read."""
        with self._lock:
            try:
                if _stamp(self._path) != self._seen:
                    self._entries, self._seen = self._read()
            except (OSError, ConfigError):
                pass
            return self._entries

    def _read(self) -> tuple[tuple[_Entry, ...], tuple[int, int]]:
        try:
            seen, text = _stamp(self._path), self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"serve.tokens: {error}; `audit-plugin token` makes the file") from error
        lines = enumerate(text.splitlines(), 1)
        return tuple(_entry(self._path, at, line) for at, line in lines if line.strip() and not line.startswith("#")), seen


def make_token(path: Path, *, name: str, role: Role, until: dt.date | None = None) -> str:
    """A new token, to be shown once; its hash is added to the file, which only its owner can read.  Raises ConfigError."""
    if not name or name != "".join(name.split()):
        raise ConfigError(f"a token needs a name without spaces, got {name!r}")
    token = secrets.token_urlsafe(32)
    line = " ".join([name, role.value, _digest(token), *([until.isoformat()] if until else [])])
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise ConfigError(f"the file of tokens cannot be written: {error}") from error
    return token


def _entry(path: Path, at: int, line: str) -> _Entry:
    words = line.split()
    try:
        name, role, digest, *until = words
        _check_digest(digest)
        (day,) = map(dt.date.fromisoformat, until) if until else (None,)
        return _Entry(who=Principal(name=name, role=Role(role)), digest=digest, until=day)
    except ValueError as error:
        raise ConfigError(f"{path}, line {at}: {error}; `audit-plugin token` writes such lines") from error


def _check_digest(text: str) -> None:
    if not text.startswith(_PREFIX) or len(bytes.fromhex(text.removeprefix(_PREFIX))) != hashlib.sha256().digest_size:
        raise ValueError("a line is NAME ROLE sha256:HEX [UNTIL]")


def _digest(token: str) -> str:
    return _PREFIX + hashlib.sha256(token.encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
