"""Opening a database: the engine, its pragmas, its migrations, and its errors in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from audit_plugin.core.errors import ConfigError, StoreError

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another one."""

_CURES = (
    (
        ("disk is full", "no space left", "diskfull", "ioerr_shmsize"),
        "no space is left; free space and run the same command again: it resumes",
    ),
    (
        ("malformed", "not a database", "disk image"),
        "the file is corrupt; move it away and restore a backup, or salvage it with `sqlite3 FILE .recover`",
    ),
    (("is locked", "is busy"), f"another process held the write lock for over {BUSY_SECONDS} s; stop it or use PostgreSQL"),
    (
        ("readonly", "read-only", "unable to open"),
        "the file or its directory cannot be written; check that it exists and its owner",
    ),
    (
        ("no such table", "undefinedtable"),
        "the schema is missing; open it with migrations allowed (`Store.open(url, migrate=True)`)",
    ),
)


def parse_url(where: str | Path) -> URL:
    """A SQLAlchemy URL; a plain path means a SQLite file.  Raises ConfigError on an unusable URL."""
    text = str(where)
    if isinstance(where, Path) or "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
        url.get_dialect()
    except (ArgumentError, SQLAlchemyError) as error:
        raise ConfigError(f"store URL cannot be used: {error}; write sqlite:///FILE or postgresql+DRIVER://…") from error
    return url


def connect(url: URL) -> Engine:
    """An engine; connections are made later.  A SQLite database in memory has one connection, which threads take in turn."""
    if url.get_backend_name() != "sqlite":
        return _engine(url, pool_pre_ping=True)
    if url.database in {None, "", ":memory:"}:
        engine = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False})
    else:
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _pragmas)
    return engine


def _engine(url: URL, **options: bool) -> Engine:
    try:
        return create_engine(url, **options)
    except ModuleNotFoundError as error:
        raise ConfigError(f"the driver {error.name!r} for {url.drivername} is not installed; `pip install {error.name}`") from error


def _pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", f"busy_timeout={BUSY_SECONDS * 1000}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def errors_as_ours(engine: Engine) -> Iterator[None]:
    """Whatever the database raises becomes a StoreError that says what to do; passwords are never shown."""
    try:
        yield
    except SQLAlchemyError as error:
        where = engine.url.render_as_string(hide_password=True)
        orig = getattr(error, "orig", None)
        cause = str(orig or error)
        if isinstance(error, IntegrityError):
            raise StoreError(f"store {where}: {cause}; this record is already there") from error
        text = f"{type(orig).__name__} {getattr(orig, 'sqlite_errorname', '')} {cause}".lower()
        cure = next((cure for signs, cure in _CURES if any(sign in text for sign in signs)), "see the cause above")
        raise StoreError(f"store {where}: {cause}: {cure}") from error


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a revision, forwards."""
    with engine.begin() as connection:
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to a revision; "base" removes everything."""
    with engine.begin() as connection:
        command.downgrade(_config(connection), revision)


def require_current(engine: Engine) -> None:
    """Raise StoreError unless the schema is the one that this package writes."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    wanted = ScriptDirectory.from_config(_config(None)).get_current_head()
    if current != wanted:
        raise StoreError(
            f"store {engine.url.render_as_string(hide_password=True)} has schema {current or 'none'}, this version needs {wanted}; "
            "open it with migrations allowed (`Store.open(url, migrate=True)`), or use the plugin version that wrote it"
        )


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", "audit_plugin.store:migrations")
    config.attributes["connection"] = connection
    return config
