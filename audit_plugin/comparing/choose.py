"""Which stored run a word on the command line means: the id of a run, ``model``, or ``model:version``."""

from audit_plugin.core.errors import ConfigError
from audit_plugin.core.results import AuditResult
from audit_plugin.findings.history import assessed
from audit_plugin.store.store import Store

PREVIOUS = "previous"
_FAR_BACK = 1_000
"""Runs of a model that are looked through for a version."""


def chosen(store: Store, word: str, *, label: str = "") -> AuditResult:
    """The run of this id, or the last one of that model (and version).  Raises ConfigError naming what there is."""
    if (found := store.lookup(word)) is not None:
        return found
    for model, version in _readings(word):
        records = store.runs(model=model, label=label or None, limit=_FAR_BACK)
        records = tuple(record for record in records if version is None or record.version == version)
        if labels := sorted({record.label for record in records}):
            if len(labels) > 1:
                raise ConfigError(
                    f"{word!r} was audited against several labels ({', '.join(labels)}); name one with --label, or a run id"
                )
            return store.run(records[0].run)
    known = sorted({f"{one.model}:{one.version}" for one in store.last_runs()})
    raise ConfigError(f"there is no run {word!r}; last runs are of {', '.join(known) or 'no model yet'}")


def previous(store: Store, result: AuditResult) -> AuditResult | None:
    """The newest earlier run that says something: of another version if there is one, else of this."""
    records = store.runs(model=result.model, label=result.label, limit=_FAR_BACK)
    earlier = [record for record in records if record.run < result.run and assessed(record.state)]
    other = [record for record in earlier if record.version != result.version]
    newest = next(iter(other or earlier), None)
    return None if newest is None else store.run(newest.run)


def baseline(store: Store, result: AuditResult, word: str) -> AuditResult | None:
    """What a run is held against: ``previous``, or :func:`chosen` by the word; None where there is no previous one."""
    return previous(store, result) if word == PREVIOUS else chosen(store, word, label=result.label)


def _readings(word: str) -> tuple[tuple[str, str | None], ...]:
    """A colon may belong to the name."""
    model, colon, version = word.rpartition(":")
    return ((word, None), *(((model, version),) if colon else ()))
