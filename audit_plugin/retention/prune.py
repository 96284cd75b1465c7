"""What is older than its class of data is kept: pictures for days, single rows of runs and answers of old versions for years.

Nothing goes that the last run of a model shows or rests on, nor anything of a run or model on hold.  A killed call is resumed by the next
one: it looks at what is there, not at what was planned.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit_plugin.bank.edit_store import FILE, EditStore
from audit_plugin.bank.pictures import PictureFolder
from audit_plugin.bank.reference import twin_pictures
from audit_plugin.bank.store import ProbeBank
from audit_plugin.core.pictured import aggregates, cited, singles
from audit_plugin.core.results import from_json
from audit_plugin.store.retention import PRUNED, RetentionOptions, StoredRun
from audit_plugin.store.scores import target_of
from audit_plugin.store.store import Store

_BATCH = 500
"""Pictures whose names go in one transaction."""


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """What is to go."""

    pictures: tuple[tuple[str, int], ...]
    """(sha256, bytes)."""
    runs: tuple[StoredRun, ...]
    """Of which single rows and pictures go; aggregates stay."""
    targets: tuple[str, ...]
    """Model versions, as keys of the score table, whose answers go."""
    answers: int
    answer_bytes: int
    kept_pictures: int
    """Old pictures that stay because something rests on them or is on hold."""
    held_runs: int
    """Old runs that stay whole because they are on hold."""

    @property
    def anything(self) -> bool:
        """Whether something is to go."""
        return bool(self.pictures or self.runs or self.targets)

    @property
    def picture_bytes(self) -> int:
        """Of all pictures that go."""
        return sum(size for _, size in self.pictures)

    @property
    def run_bytes(self) -> int:
        """Of the whole documents of the runs that are reduced."""
        return sum(run.bytes for run in self.runs)


def doomed(store: Store, root: Path, images: str, options: RetentionOptions, *, now: dt.datetime) -> Doomed:
    """What would go now.  ``root`` is the bank's directory, ``images`` the place of its pictures where they are elsewhere."""
    last = {result.run for result in store.last_runs()}
    held = store.retention.held_runs()
    kept, reducible, versions, banks = dict[str, bool](), [], dict[str, dt.datetime](), set[str]()
    needed, spared = set[str](), 0
    for stored in store.retention.runs():
        result = from_json(store.retention.document(stored.run))
        versions[target_of(result)] = max(stored.finished, versions.get(target_of(result), stored.finished))
        if stored.run in last | held:
            kept |= cited(result)
            banks.add(result.provenance.bank_digest)
            needed.add(target_of(result))
        if _old(stored.finished, options.runs_days, now) and stored.run not in last and next(singles(result), None) is not None:
            spared += stored.run in held
            reducible += [] if stored.run in held else [stored]
    targets = [key for key, at in versions.items() if _old(at, options.scores_days, now) and key not in needed]
    answers, size = store.retention.count_scores(targets)
    old = list(_old_pictures(root, images, options.pictures_days, now))
    rests = {sha for sha, _ in old} & (set(kept) | _of_bank(root, banks))
    return Doomed(
        pictures=tuple((sha, size) for sha, size in old if sha not in rests),
        runs=tuple(reducible),
        targets=tuple(targets) if answers else (),
        answers=answers,
        answer_bytes=size,
        kept_pictures=len(rests),
        held_runs=spared,
    )


def prune(gone: Doomed, store: Store, root: Path, images: str, *, options: RetentionOptions, by: str) -> None:
    """Delete what :func:`doomed` found, with a line in the log of events for every class of data."""
    if gone.targets:
        store.retention.drop_targets(gone.targets, by=by, why=f"not audited for {options.scores_days} days")
    for run in gone.runs:
        store.retention.replace_document(run.run, aggregates, by=by, why=f"reduced to aggregates after {options.runs_days} days")
    if gone.pictures:
        _drop_pictures([sha for sha, _ in gone.pictures], root, images)
        detail = f"{len(gone.pictures)} pictures, {gone.picture_bytes} bytes, older than {options.pictures_days} days"
        store.retention.note(by, PRUNED, "pictures", detail)


def _old(at: dt.datetime, days: int, now: dt.datetime) -> bool:
    return days > 0 and at < now - dt.timedelta(days=days)


def _old_pictures(root: Path, images: str, days: int, now: dt.datetime) -> Iterator[tuple[str, int]]:
    if days == 0:
        return
    limit = (now - dt.timedelta(days=days)).timestamp()
    for sha, size, written in PictureFolder(images or str(root / "images")).listed():
        if written < limit:
            yield sha, size


def _of_bank(root: Path, digests: set[str]) -> set[str]:
    """Pictures of the bank's plan, if a run that is kept whole rests on it as it is."""
    if not (root / "bank.sqlite").is_file():
        return set()
    bank = ProbeBank.open(root)
    return {*bank.planned(), *twin_pictures(bank)} if bank.digest in digests else set()


def _drop_pictures(shas: list[str], root: Path, images: str) -> None:
    for start in range(0, len(shas), _BATCH):
        some = shas[start : start + _BATCH]
        if (root / "bank.sqlite").is_file():
            bank = ProbeBank.open(root)
            with bank.writer():
                bank.drop(some)
        if (root / FILE).is_file():
            EditStore(root, images).erase(some, files_first=False)
        folder = PictureFolder(images or str(root / "images"))
        for sha in some:
            folder.remove(sha)
