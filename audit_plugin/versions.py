"""What changed since another version of a model was shown the same edits: its answers are still in the store's score table."""

from collections.abc import Mapping, Sequence

from audit_plugin.core.diffex_results import DiffexResult, VersionDrift
from audit_plugin.core.edits import EditRow, Split
from audit_plugin.core.results import AuditResult
from audit_plugin.core.values import TargetInfo
from audit_plugin.methods.diffex import DiffexOptions, drift, paired_rows, pool_of, split_images
from audit_plugin.store.scores import target_of
from audit_plugin.store.store import Store


def version_drift(
    rows: Sequence[EditRow],
    told: DiffexResult,
    info: TargetInfo,
    store: Store,
    *,
    label: str,
    classes_of: Mapping[str, str],
    options: DiffexOptions,
) -> VersionDrift | None:
    """Drift of every estimated node since the newest run of another version on the same tree.

    ``rows``: all rows of this audit, splits marked.  Rows are paired by the bytes of their pictures, so that both versions saw the same
    edits whatever has changed since.  None where there is no such run, or too few of its answers to give any node an interval.
    """
    before = _other_version(told, info, store, label)
    if before is None:
        return None
    shas = {sha for row in rows for sha in (row.before_sha256, row.after_sha256) if sha}
    answers = {sha: tuple(map(float, scores)) for sha, scores in store.scores.get(target_of(before), shas).items()}
    new, old = paired_rows(rows, answers)
    pool = pool_of(list(classes_of), classes_of, options.images_per_class)
    estimate = [image for image, split in split_images(pool, classes_of).items() if split is Split.ESTIMATE]
    found = tuple(
        drift(
            new,
            old,
            kind=told.score,
            labels=info.labels,
            class_name=effects.class_name,
            images=[image for image in estimate if options.all_images or classes_of[image] == effects.class_name],
            nodes=[node.node for node in effects.nodes],
            alpha=options.estimate.alpha,
            seed=told.seed,
        )
        for effects in told.classes
    )
    if not any(node.drift is not None for one in found for node in one.nodes):
        return None
    return VersionDrift(version=before.version, run=before.run, classes=found)


def _other_version(told: DiffexResult, info: TargetInfo, store: Store, label: str) -> AuditResult | None:
    """The newest run of another version that was asked about this tree and has the same classes."""
    records = store.runs(model=info.model, label=label)
    runs = (store.run(record.run) for record in records if record.version != info.version)
    return next((run for run in runs if _comparable(run, told, info)), None)


def _comparable(run: AuditResult, told: DiffexResult, info: TargetInfo) -> bool:
    then = run.diffex
    if then is None or not run.provenance.model_config_hash or run.classes != info.labels:
        return False
    return (then.tree_digest, then.score) == (told.tree_digest, told.score)
