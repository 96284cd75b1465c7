"""``audit-plugin doctor``: is everything there that an audit needs?  Each check says what to do when it fails."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from audit_plugin.cli import doctor_explain
from audit_plugin.config import Loaded
from audit_plugin.core.errors import AuditError
from audit_plugin.onlookers import tried
from audit_plugin.perception.detectors import read_card
from audit_plugin.perception.segmenters import SegmenterOptions, file_segmenter
from audit_plugin.store.store import Store
from audit_plugin.studios import audited_tree
from audit_plugin.target.contract import Contract, read_contract
from audit_plugin.target.health import check_target
from audit_plugin.target.options import TargetOptions
from audit_plugin.target.wire import Wire
from audit_plugin.wiring import Installation, directory_digest, generator_directory


@dataclass(frozen=True)
class Finding:
    """One check and how it went."""

    subject: str
    check: str
    ok: bool
    detail: str


def examine(loaded: Loaded) -> Iterator[Finding]:
    """All checks, cheapest first; none of them changes anything."""
    installation = Installation(loaded, lambda _done, _total, _what: None)
    source = _tried("source", "table and images", lambda: _source(installation))
    yield source
    if loaded.config.generator is not None:
        yield _tried("generator", "directory", lambda: _generator(installation))
    if loaded.described:
        yield _tried("detector", "file", lambda: _detector(loaded))
        yield _tried("bank", "pictures", lambda: _bank(installation))
    if loaded.config.diffex is not None:
        yield _tried("concept tree", "nodes", lambda: _tree(loaded))
    segmenter = None if loaded.config.discover is None else loaded.config.discover.segmenter
    if segmenter is not None and segmenter.file:
        yield _tried("discover", "segmenter", lambda: _segmenter(installation, segmenter))
    yield _tried("store", "database", lambda: _store(loaded))
    side = yield from _explained(loaded)
    for model in loaded.models:
        subject, checks = f"model {model.target.model}", check_target(model.target)
        yield from (Finding(subject, check.check, check.ok, check.detail) for check in checks)
        if source.ok and all(check.ok for check in checks):
            refusal = installation.refusal(model)
            yield Finding(subject, "classes", refusal is None, str(refusal or f"those of the table's column {model.label}"))
        if loaded.config.explain is not None:
            contract = _contract(model.target) if all(check.ok for check in checks) else None
            for check, work in doctor_explain.classifiers(loaded.config.explain, model.target.model, contract, side):
                yield _tried(f"explain {model.target.model}", check, work)


def _explained(loaded: Loaded) -> Generator[Finding, None, int]:
    """Checks of what edits and compares counterfactuals; the side of the editor's pictures."""
    asked = loaded.config.explain
    if asked is None:
        return doctor_explain.SIDE
    yield _tried("explain", "editor", lambda: doctor_explain.editor(loaded, asked))
    side, models = doctor_explain.drawn_side(loaded, asked), tuple(model.target.model for model in loaded.models)
    works = chain(doctor_explain.networks(asked, side), doctor_explain.unknown_models(asked, models))
    yield from (_tried("explain", check, work) for check, work in works)
    return side


def _contract(options: TargetOptions) -> Contract | None:
    try:
        with Wire(replace(options, retries=0)) as wire:
            return read_contract(wire)
    except AuditError:
        return None


def _tried(subject: str, check: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, check, True, work())
    except AuditError as error:
        return Finding(subject, check, False, str(error))


def _source(installation: Installation) -> str:
    source = installation.source
    return f"{len(source.rows)} rows to audit, {source.dropped} left out, digest {source.digest[:12]}"


def _generator(installation: Installation) -> str:
    loaded = installation.loaded
    if installation.pictured is not None:
        probes = len(installation.plan(installation.generator.fingerprint).recipes)
        return f"pictures of the table: {probes} combinations of rows and captions, each shown by one"
    return f"digest {directory_digest(generator_directory(loaded))[:12]}"


def _detector(loaded: Loaded) -> str:
    if loaded.config.detector.table:
        return "the table says what its pictures show"
    path = Path(loaded.config.detector.path)
    if not path.exists():
        if loaded.config.detector.train is None:
            raise AuditError(f"{path} is not there; name rows to train it on as `detector.train.where`")
        return "not there yet; the first run trains it"
    judged = {name: auroc for name, auroc in read_card(path).auroc.items() if auroc is not None}
    return ", ".join(f"{name} {auroc:.3f}" for name, auroc in judged.items()) + " (held-out AUROC)"


def _tree(loaded: Loaded) -> str:
    tree = audited_tree(loaded, (), generative=loaded.config.generator is not None)
    return f"{len(tree.editable)} to test, digest {tree.digest[:12]}"


def _segmenter(installation: Installation, options: SegmenterOptions) -> str:
    try:
        side = installation.picture_size()
    except AuditError:  # the generator's own check tells
        side = doctor_explain.SIDE
    return tried(file_segmenter(options), side)


def _bank(installation: Installation) -> str:
    if not installation.bank_exists:
        return "not there yet; `audit-plugin bank build` makes it"
    return f"{len(installation.bank.images())} pictures, digest {installation.bank.digest[:12]}"


def _store(loaded: Loaded) -> str:
    url = loaded.store_url
    if isinstance(url, Path) and not url.exists():
        return "not there yet; the first run makes it"
    store = Store.open(url)
    try:
        return f"{len(store.runs(limit=1000))} runs"
    finally:
        store.close()
