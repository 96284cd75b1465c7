"""What lies in a build cache: listed, checked, repaired."""

from collections.abc import Iterator
from dataclasses import dataclass

from engines.cache import MANIFEST, BuildCache, Entry
from engines.certificate import Certificate, read_certificate

CERTIFICATE = "certificate-"
"""What the names of certificates' notes begin with."""


@dataclass(frozen=True)
class Damage:
    """An artifact that is not what its manifest says."""

    key: str
    why: str
    repaired: bool
    """Thrown away; it is built again when it is next asked for."""


def certificates(cache: BuildCache, entry: Entry) -> tuple[Certificate, ...]:
    """Those noted beside an artifact, by backend."""
    notes = [cache.read_note(entry.key, name) for name in entry.notes if name.startswith(CERTIFICATE)]
    found = [certificate for note in notes if (certificate := read_certificate(note)) is not None]
    return tuple(sorted(found, key=lambda each: (each.backend, each.precision)))


def is_artifact(cache: BuildCache, entry: Entry) -> bool:
    """Whether the entry was built; otherwise it holds nothing but notes, on a network that a backend runs without an artifact."""
    files = [path for path in (cache.root / entry.key).rglob("*") if path.is_file()]
    return any(path.name == MANIFEST or path.suffix != ".json" for path in files)


def damaged(cache: BuildCache, *, repair: bool = False) -> Iterator[Damage]:
    """Hash every artifact; with ``repair`` the damaged ones are thrown away."""
    for entry in cache.entries():
        why = cache.damage(entry.key) if is_artifact(cache, entry) else None
        if why is not None:
            if repair:
                cache.discard(entry.key)
            yield Damage(entry.key, why, repair)
