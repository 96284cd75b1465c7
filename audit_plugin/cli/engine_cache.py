"""``audit-plugin engines ls``, ``gc`` and ``verify``: the build cache."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit_plugin.cli.command import Output, command
from audit_plugin.cli.console import ExitCode, Form, print_rows, say

if TYPE_CHECKING:  # loaded by the commands that need them
    from engines.cache import BuildCache, Entry
    from engines.certificate import Certificate

CacheDirectory = Annotated[Path | None, typer.Option("--cache", help="Build cache; the user's by default.", show_default=False)]
DAY_SECONDS = 86_400.0


@command
def engines_ls(cache: CacheDirectory = None, output: Output = Form.TABLE) -> int:
    """What the build cache holds, the least recently used first."""
    with engine_errors():
        builds = opened_cache(cache)
        rows = [_listed(builds, entry) for entry in builds.entries()]
    print_rows(rows, output)
    return ExitCode.CLEAN


def _listed(builds: "BuildCache", entry: "Entry") -> Mapping[str, object]:
    from engines.desk.artifacts import certificates, is_artifact

    return {
        "key": entry.key,
        **{fact: entry.facts.get(fact, "") for fact in ("network", "kind", "backend", "precision")},
        "bytes": entry.bytes,
        "last_used": time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)) if entry.used else "",
        "holds": "artifact" if is_artifact(builds, entry) else "notes",
        "certificates": "; ".join(map(_judged, certificates(builds, entry))),
    }


def _judged(certificate: "Certificate") -> str:
    verdict = certificate.failure or "passed"
    return f"{certificate.backend} {certificate.precision} {certificate.error:.1e} {verdict}"


@command
def engines_gc(
    max_bytes: Annotated[
        int | None, typer.Option(help="What may stay; the cache's own limit by default.", min=0, show_default=False)
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(help="Days without use after which all go.", min=0, show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Throw away the least recently used artifacts; they are built again when they are needed."""
    with engine_errors():
        builds = opened_cache(cache)
        limit = builds.max_bytes if max_bytes is None else max_bytes
        gone = builds.collect(limit, None if older_than is None else older_than * DAY_SECONDS, dry_run=dry_run)
    print_rows([{"key": entry.key, "network": entry.facts.get("network", ""), "bytes": entry.bytes} for entry in gone], output)
    say(f"{'would free' if dry_run else 'freed'} {sum(entry.bytes for entry in gone)} bytes in {len(gone)} places")
    return ExitCode.CLEAN


@command
def engines_verify(
    repair: Annotated[bool, typer.Option("--repair", help="Throw damaged artifacts away; they are built again.")] = False,
    cache: CacheDirectory = None,
    output: Output = Form.TABLE,
) -> int:
    """Hash every artifact against its manifest.  Exit code 3 when one is damaged and stays."""
    with engine_errors():
        from engines.desk.artifacts import damaged

        found = list(damaged(opened_cache(cache), repair=repair))
    print_rows([asdict(each) for each in found], output)
    say(f"{len(found)} damaged" + (", thrown away" if found and repair else "; --repair throws them away" if found else ""))
    return ExitCode.CLEAN if repair or not found else ExitCode.COULD_NOT_RUN


CACHE_COMMANDS: Mapping[str, Callable[..., None]] = {"ls": engines_ls, "gc": engines_gc, "verify": engines_verify}


def opened_cache(directory: Path | None) -> "BuildCache":
    """The named build cache, or the user's."""
    from engines.cache import BuildCache, default_root

    return BuildCache(directory or default_root())


@contextmanager
def engine_errors() -> Iterator[None]:
    """What engines raise, in the auditor's words; loads nothing before it is entered."""
    from audit_plugin import wiring

    with wiring.engine_errors():
        yield
