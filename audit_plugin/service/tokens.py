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

import structlog

from audit_plugin.core.errors import ConfigError

LOG = structlog.get_logger(__name__)
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
        self.trouble = ""
        """What is wrong with the file now; lines that say nothing sensible let nobody in."""
        self._entries, self._seen = self._read()
        if self.trouble:
            raise ConfigError(self.trouble)

    def who(self, token: str) -> Principal | None:
        """Whose token that is; None for one that is unknown or void."""
        digest, found = _digest(token), None
        for entry in self._current():
            if hmac.compare_digest(entry.digest, digest) and (entry.until is None or self._today() <= entry.until):
                found = entry.who
        return found

    def _current(self) -> tuple[_Entry, ...]:
        """As the file stands; a file that is gone lets nobody in."""
        with self._lock:
            try:
                if self.trouble or _stamp(self._path) != self._seen:
                    before = self.trouble
                    self._entries, self._seen = self._read()
                    if self.trouble and self.trouble != before:
                        LOG.warning("tokens", problem=self.trouble)
            except (OSError, ConfigError) as error:
                self._entries = ()
                if self.trouble != str(error):
                    LOG.warning("tokens", problem=str(error), effect="nobody is let in")
                self.trouble = str(error)
            return self._entries

    def _read(self) -> tuple[tuple[_Entry, ...], tuple[int, int]]:
        try:
            seen, text = _stamp(self._path), self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"serve.tokens: {error}; `audit-plugin token` makes the file") from error
        found, problems = [], []
        for at, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                try:
                    found.append(_entry(self._path, at, line))
                except ConfigError as error:
                    problems.append(str(error))
        self.trouble = "; ".join(problems)
        return tuple(found), seen


def make_token(path: Path, *, name: str, role: Role, until: dt.date | None = None) -> str:
    """A new token, to be shown once; its hash is added to the file, which only its owner can read.  Raises ConfigError."""
    if not name or name != "".join(name.split()):
        raise ConfigError(f"a token needs a name without spaces, got {name!r}")
    if until is not None and until < dt.datetime.now(dt.UTC).date():
        raise ConfigError(f"{until} is over; a token needs a last day to come")
    if path.exists() and any(line.split()[:1] == [name] for line in path.read_text(encoding="utf-8").splitlines()):
        raise ConfigError(
            f"{path} knows {name} already; delete that line first, or take another name (two names may belong to one person)"
        )
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
